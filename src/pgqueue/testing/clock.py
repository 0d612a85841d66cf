"""Time travel: the database's clock decides everything in pgqueue, so a test moves that one."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

import psycopg
from psycopg import sql

from pgqueue.connections import resolve_dsn
from pgqueue.errors import ConfigurationError
from pgqueue.statements import DEFAULT_SCHEMA
from pgqueue.testing.databases import MARK

if TYPE_CHECKING:
    from pgqueue.aclient import AsyncClient
    from pgqueue.client import Client

Target: TypeAlias = "Client | AsyncClient | str"

_CLOCK = """
create or replace function {schema}.clock() returns timestamptz
language sql volatile parallel safe
begin atomic
    select pg_catalog.clock_timestamp() + {offset};
end
"""
_OFFSET = (
    "select date_trunc('milliseconds', {schema}.clock() - clock_timestamp() + interval '0.5 ms')"
)
# Maintenance that seems to have been done in the future would not be done until then. Who sleeps,
# sleeps on.
_RESET_REGISTERS = """
select setval(format('%I.%I', schemaname, sequencename), 0) from pg_sequences
where schemaname = {schema} and min_value = 0 and sequencename <> 'slept_until'
"""


def travel(
    target: Target, by: timedelta, *, schema: str | None = None, any_database: bool = False
) -> None:
    """Sets the clock of pgqueue in a database forward by `by` from what it shows; back if negative.

    What is due by then is due now: leases run out, delays and retention end. The clock goes on
    from there, for every client and worker of this database. Nothing else in the database sees it.

    Args:
        target: a client, sync or async, or a DSN. A short connection of its own is used.
        by: how far; the travels add up.
        schema: of a DSN, pgqueue's schema, if it is not `pgqueue`.
        any_database: the fixtures' databases are thrown away with their clocks. Any other one is
            refused, unless this is true: then call `stop_travelling` afterwards.

    Raises:
        ConfigurationError: the database was not made by the fixtures of `pgqueue.testing`.
    """
    _set_clock(target, schema, by, any_database=any_database)


def stop_travelling(
    target: Target, *, schema: str | None = None, any_database: bool = False
) -> None:
    """Sets the clock right again. The arguments are those of `travel`."""
    _set_clock(target, schema, None, any_database=any_database)


def _set_clock(
    target: Target, schema: str | None, by: timedelta | None, *, any_database: bool
) -> None:
    if isinstance(target, str):
        dsn, name = resolve_dsn(target), schema or DEFAULT_SCHEMA
    else:
        dsn, name = target.dsn, target.schema
    with psycopg.connect(dsn) as conn:
        if not any_database:
            check_throw_away(conn)
        quoted = sql.Identifier(name)
        offset = timedelta(0)
        if by is not None:
            row = conn.execute(sql.SQL(_OFFSET).format(schema=quoted)).fetchone()
            offset = by + (row[0] if row else offset)
        conn.execute(sql.SQL(_CLOCK).format(schema=quoted, offset=offset))
        conn.execute(sql.SQL(_RESET_REGISTERS).format(schema=name))


def check_throw_away(conn: psycopg.Connection) -> None:
    """Passes if the database was made by the fixtures of `pgqueue.testing`.

    Raises:
        ConfigurationError: it was not.
    """
    row = conn.execute(
        "select current_database(), shobj_description(oid, 'pg_database') "
        "from pg_database where datname = current_database()"
    ).fetchone()
    name, comment = row or ("", None)
    if comment != MARK:
        raise ConfigurationError(
            f"database {name!r} was not made by a fixture of pgqueue.testing, and this changes it "
            "for everyone; use pgqueue_dsn or pgqueue_client, or pass any_database=True if that "
            "is what you want"
        )
