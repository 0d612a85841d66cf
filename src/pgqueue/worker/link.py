"""One connection of a worker for one purpose, remade whenever it breaks."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from pgqueue.bounded import REPLY_TIMEOUT
from pgqueue.connections import RETRYABLE, cause, cut, retry_pause, translate
from pgqueue.errors import DatabaseUnavailable, PermissionDenied, SchemaError
from pgqueue.masking import first_line

if TYPE_CHECKING:
    from pgqueue.drivers import AsyncDriver
    from pgqueue.events import Observer
    from pgqueue.statements import Statement

T = TypeVar("T")

logger = logging.getLogger("pgqueue.worker")

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
"""Seconds between attempts to reconnect: from the first, doubling, to the longest."""
WHOLE_DATABASE = (DatabaseUnavailable, SchemaError, PermissionDenied)
"""Errors that say nothing about the statement: any other would fail just so."""
HARMLESS = (
    *RETRYABLE,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
    psycopg.DataError,
)
"""Errors after which the connection is as good as before. Of any other it may be the cause."""


class Link:
    """Runs statements one at a time.

    Only for statements that may be repeated: if the connection breaks, nobody knows whether the
    last one went through.
    """

    def __init__(
        self,
        driver: AsyncDriver,
        purpose: str,
        reply_timeout: float = REPLY_TIMEOUT.total_seconds(),
        observer: Observer | None = None,
    ) -> None:
        """`purpose` is for the log, and for `observer`; `reply_timeout` in seconds."""
        self._driver = driver
        self._observer = observer
        self._connected_before = False
        self._purpose = purpose
        self._reply_timeout = reply_timeout
        self._conn: psycopg.AsyncConnection[Any] | None = None
        self._failures = 0

    @property
    def behind_pooler(self) -> bool:
        """Whether the connection, once made, goes through a pooler."""
        return self._driver.behind_pooler

    def beside(self, reply_timeout: float) -> Link:
        """Another one to the same place."""
        return Link(self._driver, self._purpose, reply_timeout, self._observer)

    async def connection(self) -> psycopg.AsyncConnection[Any]:
        """The connection, made if need be.

        Raises:
            DatabaseUnavailable: it cannot be made.
        """
        if self._conn is None or self._conn.closed:
            try:
                self._conn = await asyncio.wait_for(self._driver.connect(), self._reply_timeout)
            except (asyncio.TimeoutError, TimeoutError) as error:
                raise DatabaseUnavailable(
                    f"no connection within {self._reply_timeout:g} s; check the DSN, and that the "
                    "network lets it through"
                ) from error
            if self._connected_before and self._observer is not None:
                self._observer.reconnected(self._purpose)
            self._connected_before = True
        return self._conn

    async def try_run(self, statement: Statement[T]) -> T:
        """Runs `statement` once.

        Raises:
            DatabaseUnavailable: the connection is lost, or no answer came in time; the next call
                makes a new one.
            SchemaError: the schema is gone, or is of another version.
            psycopg.Error: any other error, translated where pgqueue has a name for it.
        """
        conn = await self.connection()
        # Not by cancelling the task: psycopg would then talk to the server that does not answer.
        watchdog = asyncio.get_running_loop().call_later(self._reply_timeout, cut, conn)
        try:
            result = await self._driver.execute(statement, conn)
            if not conn.autocommit:
                await conn.commit()
        except psycopg.Error as error:
            if not (isinstance(error, HARMLESS) and await _usable(conn)):
                await self.close()
            raise translate(error, self._driver.schema) from cause(error)
        except BaseException:
            # In the middle of a statement nobody knows the connection's state.
            await self.close()
            raise
        finally:
            watchdog.cancel()
        self._failures = 0
        return result

    async def run(self, statement: Statement[T]) -> T:
        """Runs `statement`, again and again while it is the database that is in trouble.

        Raises:
            psycopg.Error: an error that may be due to the statement; likewise `InvalidJob`.
        """
        while True:
            try:
                return await self.try_run(statement)
            except (*WHOLE_DATABASE, *RETRYABLE) as error:  # noqa: PERF203 - the loop is for it
                await asyncio.sleep(self.pause_after(error))

    def pause_after(self, error: BaseException) -> float:
        """Seconds to wait before the next attempt; says so in the log."""
        if isinstance(error, RETRYABLE):
            self._failures = min(self._failures + 1, 6)
            return retry_pause(self._failures)
        most = min(FIRST_PAUSE * 2.0**self._failures, LONGEST_PAUSE)
        seconds = most * random.uniform(0.5, 1)  # noqa: S311 - no secret
        self._failures = min(self._failures + 1, 10)
        if self._observer is not None:
            self._observer.connection_failed(self._purpose)
        logger.warning("%s: %s; next attempt in %.1f s", self._purpose, first_line(error), seconds)
        return seconds

    def cut(self) -> None:
        """Ends the statement under way, if there is one, with DatabaseUnavailable."""
        if self._conn is not None:
            cut(self._conn)

    def kill(self) -> None:
        """Closes the connection under the statement under way; its task is to be cancelled next.

        Cancelled with an open connection, psycopg would first ask the server to stop, for seconds.
        """
        if self._conn is not None:
            self._conn.pgconn.finish()

    async def close(self) -> None:
        """Closes the connection; the next statement makes a new one."""
        conn, self._conn = self._conn, None
        if conn is not None:
            await conn.close()


async def _usable(conn: psycopg.AsyncConnection[Any]) -> bool:
    if not conn.autocommit and not conn.closed:
        await conn.rollback()
    return conn.pgconn.transaction_status is TransactionStatus.IDLE
