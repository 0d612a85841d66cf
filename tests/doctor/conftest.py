"""Databases in a bad state, and what the doctor finds in them."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any, Protocol

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgqueue import Client, embedded
from pgqueue.doctor import Finding, Level, Limits, examine

NONE = timedelta(0)
SAFE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}


class Examine(Protocol):
    """Examines the test's database."""

    def __call__(
        self, check: str, *, limits: Limits | None = None, target: Client | None = None
    ) -> list[Finding]:
        """The findings of one check; those of all of them may not be missing."""


class Sql(Protocol):
    """Runs SQL apart from any client; gives all its rows."""

    def __call__(self, query: str, *params: object) -> list[tuple[Any, ...]]:
        """All rows of `query`."""


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Waits for what the server does in its own time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


def of(check: str, findings: list[Finding]) -> list[Finding]:
    """Those of one check; each check has one at least."""
    found = [finding for finding in findings if finding.check == check]
    assert found, check
    return found


def levels(findings: list[Finding]) -> set[Level]:
    """How bad it is."""
    return {finding.level for finding in findings}


@pytest.fixture
def look(pgqueue_client: Client) -> Examine:
    """See `Examine`."""

    def examine_one(
        check: str, *, limits: Limits | None = None, target: Client | None = None
    ) -> list[Finding]:
        return of(check, examine(target or pgqueue_client, limits=limits))

    return examine_one


@pytest.fixture
def connect(pgqueue_dsn: str) -> Iterator[Callable[..., psycopg.Connection[Any]]]:
    """Makes connections to the test's database that are closed after it."""
    with ExitStack() as stack:

        def make(**options: Any) -> psycopg.Connection[Any]:
            conn = psycopg.connect(pgqueue_dsn, **options)
            stack.callback(conn.close)
            return conn

        yield make


@pytest.fixture
def sql(connect: Callable[..., psycopg.Connection[Any]]) -> Sql:
    """See `Sql`."""
    conn = connect(autocommit=True)

    def run(query: str, *params: object) -> list[tuple[Any, ...]]:
        cursor = conn.execute(query.encode(), params or None)
        return cursor.fetchall() if cursor.description else []

    return run


@pytest.fixture
def role(sql: Sql) -> Iterator[str]:
    """A role that may log in and nothing else."""
    name = f"pgqueue_test_{secrets.token_hex(6)}"
    sql(f"create role {name} login")
    yield name
    sql(f"drop owned by {name}")
    sql(f"drop role {name}")


@pytest.fixture
def as_role(pgqueue_dsn: str, role: str) -> Iterator[Client]:
    """A client that connects as that role."""
    with Client(make_conninfo(pgqueue_dsn, user=role)) as client:
        yield client


def _parent() -> str | None:
    return "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: PTH112, S108


@pytest.fixture(scope="module")
def own_server() -> Iterator[embedded.Server]:
    """A server whose settings tests may change, as safe as they should be at first."""
    given = {
        **SAFE,
        "max_prepared_transactions": "5",
        "wal_level": "logical",
        "autovacuum_naptime": "1s",
        "max_connections": "20",
    }
    with embedded.temporary(settings=given, parent=_parent()) as server:
        yield server


@pytest.fixture
def own(own_server: embedded.Server) -> Iterator[Client]:
    """A client of a new schema there."""
    with Client(own_server.dsn, schema=f"q_{secrets.token_hex(4)}") as client:
        client.migrate()
        yield client


@pytest.fixture
def alter(own_server: embedded.Server) -> Iterator[Callable[[str, str], None]]:
    """Changes settings of that server for the test."""
    with psycopg.connect(own_server.dsn, autocommit=True) as conn:

        def shown(name: str) -> str:
            row = conn.execute("select reset_val from pg_settings where name = %s", (name,))
            return str(row.fetchone()[0])  # type: ignore[index]

        def change(name: str, value: str) -> None:
            before = shown(name)
            conn.execute(f"alter system set {name} = '{value}'".encode())
            conn.execute("select pg_reload_conf()")
            until(lambda: shown(name) != before)

        yield change
        conn.execute("alter system reset all")
        conn.execute("select pg_reload_conf()")
