"""Waiting for jobs: on the claim connection itself, which is idle meanwhile.

A worker that finds nothing says so in the table `sleeper`, looks once more, and then waits for a
notification. It looks again when it asks to be rung anew, four times a minute. A ring that nobody
answered is repeated by maintenance, which every worker does about once a second; so a lost one
costs no more than that. Where notifications do not arrive (PgBouncer in transaction mode), a worker
finds out that it rings in vain, and looks every poll interval.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from pgqueue.connections import translate
from pgqueue.guarded import unsynced
from pgqueue.statements import Statement

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from typing_extensions import LiteralString

    from pgqueue.statements import Statements
    from pgqueue.worker.link import Link

PATIENCE = 30.0
"""Seconds for which a sleeper asks to be rung; one that dies costs its producers no longer than
that."""
ECHO_SECONDS = 2.0
"""To wait for a ring of one's own, through a pooler."""
CALL_TIMEOUT = 2.0
"""Seconds to connect, and again to send that ring."""
OFTEN = 400.0
"""Rings a second that cost producers more than it costs us to look every other millisecond."""
WINDOW = 0.25
"""Seconds over which they are counted."""


class Doorbell:
    """The sleeping side of one claim loop."""

    def __init__(
        self,
        link: Link,
        statements: Statements,
        queues: Collection[str],
        kinds: Sequence[str],
        sleeper: str,
        on_deaf: Callable[[], None] = lambda: None,
    ) -> None:
        """`sleeper` is this loop's name in the table, `kinds` are what it runs.

        `on_deaf` is called when it turns out that no rings arrive.
        """
        self._kinds = kinds
        self._link = link
        self._statements = statements
        self._queues = queues
        self._sleeper = sleeper
        self._listening: psycopg.AsyncConnection[Any] | None = None
        self._asked_until = 0.0
        self._echo = ""
        self._echo_until = 0.0
        self._deaf = False
        self._on_deaf = on_deaf
        self._rung = False
        self._rings, self._window_at, self._often = 0, time.monotonic(), False
        self._waiter: asyncio.Event | None = None

    @property
    def asked(self) -> bool:
        """Whether producers ring for us now, and we would hear it."""
        hears = self._listening is not None and not self._listening.closed
        return hears and time.monotonic() < self._asked_until - PATIENCE / 2

    @property
    def deaf(self) -> bool:
        """Whether this connection hears no rings, so that nobody need be asked for any."""
        return self._deaf and self._listening is not None and not self._listening.closed

    @property
    def hears(self) -> bool:
        """Whether we are rung and surely hear it, so that nobody need look for jobs meanwhile."""
        return self.asked and not self._deaf and not self._echo

    @property
    def often(self) -> bool:
        """Whether it rings so often that looking without it is cheaper for all."""
        now = time.monotonic()
        if (elapsed := now - self._window_at) > WINDOW:
            self._often = self._rings > OFTEN * elapsed
            self._rings, self._window_at = 0, now
        return self._often

    def forget(self) -> None:
        """Counts from now on: call it before you look for jobs, and a ring meanwhile is heard."""
        self._rung = False

    async def ask(self) -> None:
        """Asks to be rung; look for jobs once more afterwards, before you wait."""
        conn = await self._link.connection()
        if conn is not self._listening:
            # Also for what comes with the answer to a statement: psycopg would keep it for itself.
            conn.add_notify_handler(self._hear)
            await self._say(conn, "listen")
            await self._call()
            self._listening = conn
        asked_at = time.monotonic()
        patience = timedelta(seconds=PATIENCE)
        queues = list(self._queues)
        sleep = self._statements.sleep(queues, self._sleeper, patience, self._kinds)
        await self._link.try_run(unsynced(sleep))
        self._asked_until = asked_at + PATIENCE

    async def unask(self) -> None:
        """Asks not to be rung any more: there is work without end."""
        if time.monotonic() < self._asked_until:
            self._asked_until = 0.0
            await self._link.try_run(unsynced(self._statements.wake(self._sleeper)))

    async def say_goodbye(self) -> None:
        """The same at the end, if it can be said without further ado."""
        if self._listening is not None and not self._listening.closed:
            await self.unask()

    async def wait(self, seconds: float, other: asyncio.Event) -> bool:
        """Waits for a ring, for `other`, or until `seconds` are over or it is time to ask again.

        Returns whether it heard a ring. The connection must be idle. Where a pooler swallows all
        rings, the wait finds that out.

        Raises:
            DatabaseUnavailable: the connection is lost.
        """
        conn = await self._link.connection()
        loop = asyncio.get_running_loop()
        if not self._deaf:
            # Longer than we are rung nobody need wait.
            seconds = min(seconds, self._asked_until - PATIENCE / 2 - time.monotonic())
        if self._echo:
            seconds = min(seconds, self._echo_until - time.monotonic())
        timer = loop.call_later(max(seconds, 0.0), other.set)
        self._waiter = other
        try:
            descriptor = conn.fileno()
            loop.add_reader(descriptor, self._read, conn)
            try:
                self._read(conn)  # what libpq has read already makes no descriptor readable
                if not self._rung:
                    await other.wait()
            finally:
                loop.remove_reader(descriptor)
            self._read(conn)
            if conn.closed:
                raise psycopg.OperationalError("the connection was lost while it was idle")
            if self._echo and time.monotonic() >= self._echo_until:
                await self._go_deaf(conn)
        except psycopg.Error as error:
            await self._link.close()
            raise translate(error, self._statements.schema) from error
        finally:
            self._waiter = None
            timer.cancel()
        return self._rung

    async def _call(self) -> None:
        """Rings for ourselves, if a pooler is in between: it may pass nothing on to idle clients.

        From another connection: on this one the pooler would pass it on, together with the answer.
        """
        self._echo, self._deaf = "", False
        if self._link.behind_pooler:
            echo = f" {os.urandom(8).hex()}"  # what stands before the space is no queue
            channel = self._statements.schema
            ring = Statement("select pg_notify(%s, %s)", (channel, echo), lambda _: None)
            beside = self._link.beside(CALL_TIMEOUT)
            # Where that cannot be done, there is no verdict: all is as without a pooler.
            with contextlib.suppress(psycopg.Error):
                await beside.try_run(ring)
                self._echo, self._echo_until = echo, time.monotonic() + ECHO_SECONDS
            await beside.close()

    async def _go_deaf(self, conn: psycopg.AsyncConnection[Any]) -> None:
        """Asks for no more rings on this connection: they cost producers, and help nobody."""
        self._echo, self._deaf = "", True
        self._on_deaf()
        await self._say(conn, "unlisten")
        await self.unask()

    async def _say(self, conn: psycopg.AsyncConnection[Any], command: LiteralString) -> None:
        channel = sql.Identifier(self._statements.schema)
        try:
            await conn.execute(sql.SQL(command) + sql.SQL(" ") + channel)
            if not conn.autocommit:
                await conn.commit()
        except psycopg.Error as error:
            await self._link.close()
            raise translate(error, self._statements.schema) from error

    def _hear(self, notification: psycopg.Notify) -> None:
        """The channel is the schema's."""
        self._take(notification.payload)

    def _take(self, payload: str) -> None:
        """Hears a ring, if it is for us: it names a queue, and perhaps one of its sleepers."""
        if payload == self._echo:
            self._echo = ""
        queue, _, sleeper = payload.partition(" ")
        if queue in self._queues and sleeper in ("", self._sleeper):
            self._ring()

    def _ring(self) -> None:
        self._rung = True
        self._rings += 1
        if self._waiter is not None:
            self._waiter.set()

    def _read(self, conn: psycopg.AsyncConnection[Any]) -> None:
        """Takes in what the server sent to an idle connection: notifications, or its goodbye."""
        try:
            conn.pgconn.consume_input()
            while (notification := conn.pgconn.notifies()) is not None:
                self._take(notification.extra.decode("utf-8", "replace"))
        except psycopg.Error:
            conn.pgconn.finish()
            self._ring()
