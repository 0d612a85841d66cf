"""The connections of a client that has a DSN: who needs one makes it, and leaves it for the next.

Nothing runs in the background. The pools of psycopg_pool, which a caller may bring, do more, and
were tried here first (3.3): their workers pass over a cancellation that meets them while they
connect, so that asyncio.run(), which cancels all tasks and waits for them, never returned; after an
outage they pause for up to minutes; a client has four threads, which a fork leaves behind; and an
operation takes 35 us more of the client's CPU.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
import weakref
from collections import deque
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import psycopg
import psycopg_pool
from psycopg.pq import TransactionStatus

from pgqueue.connections import has_news
from pgqueue.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

C = TypeVar("C", "psycopg.Connection[Any]", "psycopg.AsyncConnection[Any]")

GET_TIMEOUT = 10.0
"""Seconds to wait for a connection while all are in use."""
MOST_IDLE = 600.0
"""Seconds: firewalls forget connections that are silent for long, and tell nobody."""
_OPEN = (TransactionStatus.INTRANS, TransactionStatus.INERROR)


class _Kept(Generic[C]):
    """The connections that nobody uses, the last one used on top."""

    def __init__(self) -> None:
        self._idle: list[tuple[C, float]] = []  # append and pop are atomic
        self.closed = False
        # When the client is forgotten, and at the end of the program.
        weakref.finalize(self, _finish, self._idle, os.getpid())

    def push(self, conn: C) -> None:
        """Keeps `conn`, which is in no transaction."""
        self._idle.append((conn, time.monotonic()))
        if self.closed:
            self.finish()

    def pop(self) -> tuple[C | None, bool]:
        """A connection, and whether it has been idle for too long; None if there is none."""
        try:
            conn, since = self._idle.pop()
        except IndexError:
            return None, False
        return conn, time.monotonic() - since > MOST_IDLE

    def finish(self) -> None:
        """Closes all of them."""
        _finish(self._idle, os.getpid())


def _finish(idle: list[tuple[Any, float]], pid: int) -> None:
    if pid == os.getpid():  # else they are a parent's, and still in use there
        while idle:
            conn, _ = idle.pop()
            conn.pgconn.finish()


def _all_in_use(size: int) -> DatabaseUnavailable:
    return DatabaseUnavailable(
        f"all {size} connections of this client have been in use for {GET_TIMEOUT:g} s; "
        "make it with a greater pool_size, or end transactions sooner"
    )


class Spares:
    """For threads: up to `size` connections at once."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], size: int) -> None:
        self._connect = connect
        self._size = size
        self._free = threading.Semaphore(size)
        self._kept: _Kept[psycopg.Connection[Any]] = _Kept()

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection; what is done with it is committed, or rolled back if that raises.

        Raises:
            DatabaseUnavailable: none can be made, or had within 10 s.
        """
        if not self._free.acquire(timeout=GET_TIMEOUT):
            raise _all_in_use(self._size)
        try:
            conn = self._take() or self._connect()
            try:
                yield conn
                if conn.pgconn.transaction_status != TransactionStatus.IDLE:
                    conn.commit()
            finally:
                self._leave(conn)
        finally:
            self._free.release()

    def close(self) -> None:
        """Closes those that are idle now, and the others when they are given back."""
        self._kept.closed = True
        self._kept.finish()

    def _take(self) -> psycopg.Connection[Any] | None:
        while True:
            conn, stale = self._kept.pop()
            if conn is None or (not stale and self._works(conn)):
                return conn
            conn.close()

    @staticmethod
    def _works(conn: psycopg.Connection[Any]) -> bool:
        if has_news(conn.fileno()):
            try:
                psycopg_pool.ConnectionPool.check_connection(conn)
            except psycopg.Error:
                return False
        return True

    def _leave(self, conn: psycopg.Connection[Any]) -> None:
        if conn.pgconn.transaction_status in _OPEN:
            with contextlib.suppress(psycopg.Error):
                conn.rollback()
        if conn.pgconn.transaction_status == TransactionStatus.IDLE:
            self._kept.push(conn)
        elif conn.closed:
            self._kept.finish()  # the server may be gone, and then they are lost as well
        else:
            conn.close()


class AsyncSpares:
    """For one event loop. See `Spares`."""

    def __init__(
        self, connect: Callable[[], Awaitable[psycopg.AsyncConnection[Any]]], size: int
    ) -> None:
        self._connect = connect
        self._size = self._free = size
        self._waiting: deque[asyncio.Future[bool]] = deque()
        self._kept: _Kept[psycopg.AsyncConnection[Any]] = _Kept()
        self._all: weakref.WeakSet[psycopg.AsyncConnection[Any]] = weakref.WeakSet()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """See `Spares.connection`."""
        if self._free:
            self._free -= 1
        else:
            await self._wait()
        try:
            conn = await self._take()
            if conn is None:
                conn = await self._connect()
                self._all.add(conn)
            try:
                yield conn
                if conn.pgconn.transaction_status != TransactionStatus.IDLE:
                    await conn.commit()
            finally:
                await self._leave(conn)
        finally:
            self._release()

    def close(self) -> None:
        """See `Spares.close`."""
        self._kept.closed = True
        self._kept.finish()

    def abandon(self) -> None:
        """Closes all connections, those in use as well, without their event loop."""
        self.close()
        for conn in self._all:
            conn.pgconn.finish()

    async def _wait(self) -> None:
        """Waits for a place. Not by a semaphore: before 3.11, asyncio's lose places when cancelled.

        Raises:
            DatabaseUnavailable: none came free within 10 s.
        """
        loop = asyncio.get_running_loop()
        place: asyncio.Future[bool] = loop.create_future()
        self._waiting.append(place)
        timer = loop.call_later(GET_TIMEOUT, _give, place, False)  # noqa: FBT003 - the result
        try:
            given = await place
        except asyncio.CancelledError:
            if not place.cancelled() and place.result():
                self._release()  # it was given just before
            raise
        finally:
            timer.cancel()
        if not given:
            raise _all_in_use(self._size)

    def _release(self) -> None:
        while self._waiting:
            if _give(self._waiting.popleft(), True):  # noqa: FBT003 - the result
                return
        self._free += 1

    async def _take(self) -> psycopg.AsyncConnection[Any] | None:
        while True:
            conn, stale = self._kept.pop()
            if conn is None or (not stale and await self._works(conn)):
                return conn
            await conn.close()

    @staticmethod
    async def _works(conn: psycopg.AsyncConnection[Any]) -> bool:
        if has_news(conn.fileno()):
            try:
                await psycopg_pool.AsyncConnectionPool.check_connection(conn)
            except psycopg.Error:
                return False
            except BaseException:  # a cancellation, for one
                await conn.close()
                raise
        return True

    async def _leave(self, conn: psycopg.AsyncConnection[Any]) -> None:
        try:
            if conn.pgconn.transaction_status in _OPEN:
                with contextlib.suppress(psycopg.Error):
                    await conn.rollback()
        finally:
            if conn.pgconn.transaction_status == TransactionStatus.IDLE:
                self._kept.push(conn)
            elif conn.closed:
                self._kept.finish()
            else:
                conn.pgconn.finish()


def _give(place: asyncio.Future[bool], result: bool) -> bool:  # noqa: FBT001
    """Gives a waiting task its answer; false if it does not wait any more."""
    if place.done():
        return False
    place.set_result(result)
    return True
