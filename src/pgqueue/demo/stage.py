"""Where the demo plays: a schema of its own, on a server that is left as it was found."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import attrs
import psycopg
from psycopg import conninfo, sql

from pgqueue import embedded
from pgqueue.client import Client
from pgqueue.errors import ConfigurationError

MARK = "made by `pgqueue demo`, which drops it with its next run"
"""The comment of the demo's schema; one without it is not touched."""
LOCK_TIMEOUT = "10s"

Connection = psycopg.Connection[tuple[Any, ...]]


@attrs.frozen
class Stage:
    """A migrated, empty schema."""

    client: Client
    server: embedded.Server | None
    """The embedded server, if that is where the schema is."""
    seconds: float
    """What it took to get here."""


@contextmanager
def stage(find: Callable[[], str], schema: str) -> Iterator[Stage]:
    """Makes the schema anew on the database that `find` finds; only one demo plays in it at a time.

    An embedded server that was not running before is stopped at the end, unless someone else uses
    it by then. The schema stays, to be looked at.

    Raises:
        ConfigurationError: the schema is another's, or another demo plays in it.
    """
    began, clock = time.time(), time.perf_counter()
    dsn = find()
    server = _embedded(dsn)
    try:
        with Client(dsn, schema=schema) as client, client.driver.connect() as conn:
            _make(conn, schema)
            client.migrate()
            yield Stage(client, server, time.perf_counter() - clock)
    finally:
        if server is not None:
            _stop(server, began)


def _embedded(dsn: str) -> embedded.Server | None:
    host = str(conninfo.conninfo_to_dict(dsn).get("host") or "")
    server = embedded.status() if host.startswith("/") else None
    return server if server is not None and str(server.socket_dir) == host else None


def _make(conn: Connection, schema: str) -> None:
    if not _value(
        conn, "select pg_try_advisory_lock(hashtextextended(%s, 0))", f"pgqueue demo {schema}"
    ):
        raise ConfigurationError(
            f"another demo plays in schema {schema!r}; wait for it, or give another --schema"
        )
    of_schema = "from pg_namespace where nspname = %s"
    exists = _value(conn, f"select true {of_schema}", schema)
    if (
        exists
        and _value(conn, f"select obj_description(oid, 'pg_namespace') {of_schema}", schema) != MARK
    ):
        raise ConfigurationError(
            f"schema {schema!r} exists and is not the demo's; give another --schema"
        )
    name = sql.Identifier(schema)
    with conn.transaction():
        conn.execute(sql.SQL("set local lock_timeout = {}").format(LOCK_TIMEOUT))
        conn.execute("set local client_min_messages = warning")  # no list of what is dropped
        conn.execute(sql.SQL("drop schema if exists {} cascade").format(name))
        conn.execute(sql.SQL("create schema {}").format(name))
        conn.execute(sql.SQL("comment on schema {} is {}").format(name, MARK))


def _value(conn: Connection, query: str, *params: object) -> Any:  # noqa: ANN401 - of any type
    row = conn.execute(query.encode(), params).fetchone()
    return row[0] if row else None


def _stop(server: embedded.Server, began: float) -> None:
    """Stops the server if it was started after `began` and nobody is connected."""
    try:
        with psycopg.connect(server.dsn, autocommit=True, connect_timeout=5) as conn:
            started: datetime = _value(conn, "select pg_postmaster_start_time()")
            others = _value(
                conn,
                "select count(*) from pg_stat_activity "
                "where backend_type = 'client backend' and pid <> pg_backend_pid()",
            )
    except psycopg.OperationalError:
        return  # it is gone already
    if started.timestamp() >= began and not others:
        embedded.stop(server.data)
