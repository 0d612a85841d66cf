"""The two ways to run a `Statement`: with a thread, or with asyncio. Nothing else differs between clients."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import psycopg
import psycopg_pool
from psycopg.rows import tuple_row

from pgqueue.connections import (
    RETRIES,
    RETRYABLE,
    needs_isolation,
    resolve_dsn,
    retry_pause,
    translate,
    unwrap,
)
from pgqueue.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from pgqueue.statements import Statement

T = TypeVar("T")
Pool = TypeVar("Pool")

_SHOW_ISOLATION = "show default_transaction_isolation"


class _Target(Generic[Pool]):
    """Where statements go: a pool that is given, or one of our own, made when it is first needed."""

    pool_type: type[Any]

    def __init__(self, target: str | Pool | None, schema: str, pool_size: int, *, prepare: bool) -> None:
        if target is not None and not isinstance(target, (str, self.pool_type)):
            raise ConfigurationError(
                f"got a {type(target).__qualname__}; pass a DSN or a psycopg_pool.{self.pool_type.__name__}"
            )
        self.schema = schema
        self.given = target if isinstance(target, self.pool_type) else None
        self.pool_size = pool_size
        self.prepare = prepare
        self._target = target if isinstance(target, str) else None
        self._dsn: str | None = None
        self.pool: Any = self.given
        self.pid = os.getpid()

    @property
    def dsn(self) -> str:
        """The DSN; of a pool that was given, the pool's."""
        if self._dsn is None:
            given: Any = self.given
            self._dsn = given.conninfo if given is not None else resolve_dsn(self._target)
        assert self._dsn is not None  # noqa: S101 - for the type checker
        return self._dsn

    def settings(self) -> dict[str, Any]:
        """The arguments of a connection of ours."""
        return {"autocommit": True, **({} if self.prepare else {"prepare_threshold": None})}

    def is_stale(self) -> bool:
        """Whether the pool was made before a fork: its sockets belong to the parent."""
        return self.given is None and self.pid != os.getpid()


class Driver(_Target["psycopg_pool.ConnectionPool[Any]"]):
    """Runs statements on a thread."""

    pool_type = psycopg_pool.ConnectionPool

    def connect(self) -> psycopg.Connection[Any]:
        """A connection of its own, READ COMMITTED, autocommit; the caller closes it.

        Raises:
            DatabaseUnavailable: it cannot be made.
        """
        try:
            conn = psycopg.connect(self.dsn, **self.settings())
            self._configure(conn)
        except psycopg.Error as error:
            raise translate(error, self.schema) from error
        return conn

    def open(self) -> psycopg_pool.ConnectionPool[Any]:
        """The pool, opened."""
        if self.pool is None or self.is_stale():
            self.connect().close()  # a wrong DSN shows here at once; a pool would try for long
            self.pid = os.getpid()
            self.pool = psycopg_pool.ConnectionPool(
                self.dsn, min_size=1, max_size=self.pool_size, kwargs=self.settings(),
                configure=self._configure, check=None, timeout=10, open=True, name="pgqueue",
            )  # fmt: skip
        return self.pool

    def close(self) -> None:
        """Closes the pool, if it is ours."""
        if self.given is None and self.pool is not None and not self.is_stale():
            self.pool.close()
            self.pool = None

    @contextmanager
    def connection(self, conn: Any = None) -> Iterator[psycopg.Connection[Any]]:  # noqa: ANN401
        """`conn` of the caller, or one of the pool; errors within are translated."""
        try:
            if conn is not None:
                yield unwrap(conn, psycopg.Connection)
            else:
                with self.open().connection() as own:
                    yield own
        except psycopg.Error as error:
            translated = translate(error, self.schema)
            if translated is error:
                raise
            raise translated from error

    def run(self, statement: Statement[T], conn: Any = None) -> T:  # noqa: ANN401
        """Executes `statement`, in the transaction of `conn` or in one of its own, and reads its rows."""
        for attempt in range(RETRIES):
            try:
                with self.connection(conn) as connection:
                    return self.execute(statement, connection)
            except RETRYABLE:
                if conn is not None or attempt == RETRIES - 1:
                    raise
                time.sleep(retry_pause(attempt))
        raise AssertionError

    @staticmethod
    def execute(statement: Statement[T], connection: psycopg.Connection[Any]) -> T:
        """Executes `statement` on that very connection."""
        with connection.cursor(binary=True, row_factory=tuple_row) as cursor:
            return statement.read(cursor.execute(statement.sql, statement.params).fetchall())

    @classmethod
    def execute_alone(cls, statement: Statement[T], connection: psycopg.Connection[Any]) -> T:
        """Executes `statement` as a transaction of its own on a connection of `connect`."""
        result = cls.execute(statement, connection)
        if not connection.autocommit:
            connection.commit()
        return result

    @staticmethod
    def _configure(conn: psycopg.Connection[Any]) -> None:
        row = conn.execute(_SHOW_ISOLATION).fetchone()
        if row is not None and needs_isolation(row[0]):
            conn.set_autocommit(False)
            conn.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)


class AsyncDriver(_Target["psycopg_pool.AsyncConnectionPool[Any]"]):
    """Runs statements with asyncio."""

    pool_type = psycopg_pool.AsyncConnectionPool

    async def connect(self) -> psycopg.AsyncConnection[Any]:
        """See `Driver.connect`."""
        try:
            conn = await psycopg.AsyncConnection.connect(self.dsn, **self.settings())
            await self._configure(conn)
        except psycopg.Error as error:
            raise translate(error, self.schema) from error
        return conn

    async def open(self) -> psycopg_pool.AsyncConnectionPool[Any]:
        """See `Driver.open`."""
        if self.pool is None or self.is_stale():
            await (await self.connect()).close()
            if self.pool is None or self.is_stale():
                self.pid = os.getpid()
                self.pool = psycopg_pool.AsyncConnectionPool(
                    self.dsn, min_size=1, max_size=self.pool_size, kwargs=self.settings(),
                    configure=self._configure, timeout=10, open=False, name="pgqueue",
                )  # fmt: skip
            await self.pool.open()
        return self.pool

    async def close(self) -> None:
        """See `Driver.close`."""
        if self.given is None and self.pool is not None and not self.is_stale():
            await self.pool.close()
            self.pool = None

    @asynccontextmanager
    async def connection(self, conn: Any = None) -> AsyncIterator[psycopg.AsyncConnection[Any]]:  # noqa: ANN401
        """See `Driver.connection`."""
        try:
            if conn is not None:
                yield unwrap(conn, psycopg.AsyncConnection)
            else:
                pool = await self.open()
                async with pool.connection() as own:
                    yield own
        except psycopg.Error as error:
            translated = translate(error, self.schema)
            if translated is error:
                raise
            raise translated from error

    async def run(self, statement: Statement[T], conn: Any = None) -> T:  # noqa: ANN401
        """See `Driver.run`."""
        for attempt in range(RETRIES):
            try:
                async with self.connection(conn) as connection:
                    return await self.execute(statement, connection)
            except RETRYABLE:
                if conn is not None or attempt == RETRIES - 1:
                    raise
                await asyncio.sleep(retry_pause(attempt))
        raise AssertionError

    @staticmethod
    async def execute(statement: Statement[T], connection: psycopg.AsyncConnection[Any]) -> T:
        """See `Driver.execute`."""
        async with connection.cursor(binary=True, row_factory=tuple_row) as cursor:
            await cursor.execute(statement.sql, statement.params)
            return statement.read(await cursor.fetchall())

    @staticmethod
    async def _configure(conn: psycopg.AsyncConnection[Any]) -> None:
        row = await (await conn.execute(_SHOW_ISOLATION)).fetchone()
        if row is not None and needs_isolation(row[0]):
            await conn.set_autocommit(False)
            await conn.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
