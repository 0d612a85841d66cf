"""One connection of a worker for one purpose, remade whenever it breaks."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from pgqueue.connections import RETRYABLE, retry_pause, translate
from pgqueue.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from pgqueue.drivers import AsyncDriver
    from pgqueue.statements import Statement

T = TypeVar("T")

logger = logging.getLogger("pgqueue.worker")

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
"""Seconds between attempts to reconnect: from the first, doubling, to the longest."""
REPLY_TIMEOUT = 60.0
"""Seconds to wait for the answer to a statement before the connection is given up as dead."""


class Link:
    """Runs statements one at a time, for as long as it takes: through restarts and failovers.

    Only for statements that may be repeated: if the connection breaks, nobody knows whether it went through.
    """

    def __init__(self, driver: AsyncDriver, purpose: str) -> None:
        self._driver = driver
        self._purpose = purpose
        self._conn: psycopg.AsyncConnection[Any] | None = None
        self._attempts = 0

    async def connection(self) -> psycopg.AsyncConnection[Any]:
        """The connection, made if need be.

        Raises:
            DatabaseUnavailable: it cannot be made.
        """
        if self._conn is None or self._conn.closed:
            self._conn = await self._driver.connect()
        return self._conn

    async def try_run(self, statement: Statement[T]) -> T:
        """Runs `statement` once.

        Raises:
            DatabaseUnavailable: the connection is lost; the next call makes a new one.
        """
        try:
            conn = await self.connection()
            result = await asyncio.wait_for(self._execute(conn, statement), REPLY_TIMEOUT)
        except psycopg.Error as error:
            translated = translate(error, self._driver.schema)
            if isinstance(translated, DatabaseUnavailable) or _read_only(error):
                await self.close()
                raise DatabaseUnavailable(str(translated)) from error
            if translated is error:
                raise
            raise translated from error
        except (asyncio.TimeoutError, TimeoutError) as error:
            await self.close()
            raise DatabaseUnavailable(f"no answer within {REPLY_TIMEOUT:g} s") from error
        except asyncio.CancelledError:
            # In the middle of a statement nobody knows the connection's state.
            await self.close()
            raise
        self._attempts = 0
        return result

    async def run(self, statement: Statement[T]) -> T:
        """Runs `statement` until the database answers."""
        while True:
            try:
                return await self.try_run(statement)
            except DatabaseUnavailable as error:
                await self.pause(error)
            except RETRYABLE:
                await asyncio.sleep(retry_pause(min(self._attempts, 6)))
                self._attempts += 1

    async def pause(self, error: Exception) -> None:
        """Waits before the next attempt to connect."""
        seconds = min(FIRST_PAUSE * 2**self._attempts, LONGEST_PAUSE) * random.uniform(0.5, 1)  # noqa: S311 - no secret
        self._attempts = min(self._attempts + 1, 10)
        logger.warning("%s: %s; next attempt in %.1f s", self._purpose, error, seconds)
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """Closes the connection; the next statement makes a new one."""
        conn, self._conn = self._conn, None
        if conn is not None:
            await conn.close()

    async def _execute(self, conn: psycopg.AsyncConnection[Any], statement: Statement[T]) -> T:
        result = await self._driver.execute(statement, conn)
        if not conn.autocommit:
            await conn.commit()
        return result


def _read_only(error: psycopg.Error) -> bool:
    """Whether we are talking to a standby, such as the former primary after a failover."""
    return isinstance(error, psycopg.errors.ReadOnlySqlTransaction)
