"""Waiting for jobs: on the claim connection itself, which is idle meanwhile.

A worker that finds nothing says so in the table `sleeper`, looks once more, and then waits for a notification or
for its poll interval. Polling is the truth; the doorbell only makes the wait shorter, so that nothing is lost
where notifications do not arrive (PgBouncer in transaction mode).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    from pgqueue.statements import Statements
    from pgqueue.worker.link import Link

PATIENCE = 30.0
"""Seconds for which a sleeper asks to be rung; a worker that dies costs its producers no longer than that."""


class Doorbell:
    """The sleeping side of one claim loop."""

    def __init__(self, link: Link, statements: Statements, sleeper: str) -> None:
        """`sleeper` is this loop's name in the table."""
        self._link = link
        self._statements = statements
        self._sleeper = sleeper
        self._listening: psycopg.AsyncConnection[Any] | None = None
        self._asked_until = 0.0

    @property
    def asked(self) -> bool:
        """Whether producers ring for us now."""
        return time.monotonic() < self._asked_until - PATIENCE / 2

    async def ask(self, queues: Sequence[str]) -> None:
        """Asks to be rung; look for jobs once more afterwards, before you wait."""
        conn = await self._link.connection()
        if conn is not self._listening:
            await conn.execute(sql.SQL("listen {}").format(sql.Identifier(self._statements.schema)))
            if not conn.autocommit:
                await conn.commit()
            self._listening = conn
        asked_at = time.monotonic()
        await self._link.try_run(self._statements.sleep(queues, self._sleeper, timedelta(seconds=PATIENCE)))
        self._asked_until = asked_at + PATIENCE

    async def unask(self) -> None:
        """Asks not to be rung any more: there is work without end."""
        if time.monotonic() < self._asked_until:
            self._asked_until = 0.0
            await self._link.try_run(self._statements.wake(self._sleeper))

    async def wait(self, seconds: float, other: asyncio.Event) -> None:
        """Waits for a ring, for `other`, or until `seconds` are over. Call it with the connection idle."""
        conn = await self._link.connection()
        if self._rung(conn):
            return
        loop = asyncio.get_running_loop()
        descriptor = conn.fileno()
        loop.add_reader(descriptor, other.set)
        try:
            with contextlib.suppress(asyncio.TimeoutError, TimeoutError):
                await asyncio.wait_for(other.wait(), seconds)
        finally:
            loop.remove_reader(descriptor)
        self._rung(conn)

    @staticmethod
    def _rung(conn: psycopg.AsyncConnection[Any]) -> bool:
        rung = False
        conn.pgconn.consume_input()
        while conn.pgconn.notifies() is not None:
            rung = True
        return rung
