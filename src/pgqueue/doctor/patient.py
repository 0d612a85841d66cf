"""The database that is examined. Whatever is asked of it has a deadline, here and there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from typing import Any

import attrs
import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from pgqueue.connections import cut, translate
from pgqueue.doctor.findings import Limits
from pgqueue.errors import DatabaseUnavailable
from pgqueue.migrate import SchemaState, render
from pgqueue.statements import DEFAULT_SCHEMA

Row = tuple[Any, ...]
Conn = psycopg.AsyncConnection[Any]

DEADLINE = "1s"
"""Of each statement, in the server."""
REPLY_TIMEOUT = 5.0
"""Seconds until a server that says nothing at all is given up."""
BELL_TIMEOUT = 1.0
"""Seconds to wait for a notification."""
# By index, as pgqueue's functions do: an empty table's statistics must not make us read a full one.
# A commit of ours waits for nobody: for a standby that is gone it would wait for ever.
_PRELUDE = f"""
select set_config('statement_timeout', '{DEADLINE}', true), set_config('lock_timeout', '0', true),
    set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
    set_config('jit', 'off', true), set_config('synchronous_commit', 'off', true),
    set_config('search_path', 'pg_catalog', true), set_config('timezone', 'UTC', true)
"""
_FACTS = """
select quote_ident(current_user), quote_ident(current_database()),
    pg_has_role(current_user, 'pg_read_all_stats', 'usage'), pg_is_in_recovery(), pg_backend_pid()
"""


@attrs.frozen
class Patient:
    """A connection to the database, and what is known of it from the start."""

    conn: Conn
    dsn: str
    schema: str
    state: SchemaState | None
    """None: we may not read it."""
    limits: Limits
    role: str
    """Quoted, as is the database's name."""
    database: str
    sees_sessions: bool
    """Whether it shows us other roles' sessions: pg_monitor, or pg_read_all_stats alone."""
    standby: bool
    pid: int
    _told: dict[str, list[Row]] = attrs.field(factory=dict, init=False, repr=False)

    @property
    def version(self) -> int:
        """Postgres's: 180006 is 18.6."""
        return self.conn.info.server_version

    def command(self, command: str) -> str:
        """A command of pgqueue on this schema."""
        named = "" if self.schema == DEFAULT_SCHEMA else f" --schema {self.schema}"
        return f"pgqueue {command}{named}"

    @property
    def quoted(self) -> str:
        """The schema, as SQL has it."""
        return f'"{self.schema}"'

    async def ask(self, text: str) -> list[Row]:
        """The rows of one statement, in which @extschema@ is the schema.

        Raises:
            DatabaseUnavailable: the connection is lost, or no answer came in time.
            psycopg.Error: it took too long, or is not permitted, or anything else.
        """
        return await ask(self.conn, render(text, self.schema), self.schema)

    async def recall(self, text: str) -> list[Row]:
        """As `ask`, but once per examination: what several checks want to know."""
        if text not in self._told:
            self._told[text] = await self.ask(text)
        return self._told[text]

    async def ring(self) -> float | None:
        """Seconds from a NOTIFY on one connection until another has heard it; None: it did not."""
        channel = sql.Identifier(f"pgqueue_doctor_{os.urandom(6).hex()}")
        async with connected(self.dsn, self.schema) as listener:
            await _execute(listener, sql.SQL("listen {}").format(channel))
            rung = time.monotonic()
            await ask(self.conn, sql.SQL("notify {}").format(channel), self.schema)
            heard = [
                time.monotonic()
                async for _ in listener.notifies(timeout=BELL_TIMEOUT, stop_after=1)
            ]
        return heard[0] - rung if heard else None


@contextlib.asynccontextmanager
async def connected(dsn: str, schema: str) -> AsyncIterator[Conn]:
    """A connection of its own, so that a drained pool does not matter.

    Raises:
        DatabaseUnavailable: there is none to be had.
    """
    try:
        conn = await psycopg.AsyncConnection.connect(dsn, autocommit=True, prepare_threshold=None)
    except psycopg.Error as error:
        raise translate(error, schema) from error
    try:
        yield conn
    finally:
        await conn.close()


async def ask(
    conn: Conn, query: str | sql.Composed, schema: str, params: tuple[object, ...] | None = None
) -> list[Row]:
    """See `Patient.ask`."""
    try:
        async with _watched(conn), conn.transaction():
            await conn.execute(_PRELUDE)
            return await _fetch(conn, query, params)
    except psycopg.Error as error:
        # Of errors of the server the checks say what they mean; here they end as they are.
        lost = translate(error, schema)
        if isinstance(lost, DatabaseUnavailable) and conn.closed:
            raise lost from error
        raise


async def facts(conn: Conn, schema: str) -> Row:
    """The role, the database, whether we see other sessions, whether it is a standby, our pid."""
    return (await ask(conn, _FACTS, schema))[0]


async def _execute(conn: Conn, query: sql.Composed) -> None:
    async with _watched(conn):
        await conn.execute(query)


async def _fetch(
    conn: Conn, query: str | sql.Composed, params: tuple[object, ...] | None
) -> list[Row]:
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(query.encode() if isinstance(query, str) else query, params)
        return await cursor.fetchall() if cursor.description else []


@contextlib.asynccontextmanager
async def _watched(conn: Conn) -> AsyncIterator[None]:
    """Gives the connection up when no answer comes.

    Not by cancelling the task: psycopg would then talk to the server that does not answer.
    """
    watchdog = asyncio.get_running_loop().call_later(REPLY_TIMEOUT, cut, conn)
    try:
        yield
    finally:
        watchdog.cancel()
