"""The two ways to run a `Statement`: on a thread, or with asyncio. All else the clients share."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakSet

import psycopg
import psycopg_pool
from psycopg import conninfo
from psycopg.pq import Format
from psycopg.rows import tuple_row

from pgqueue.connections import (
    RETRIES,
    RETRYABLE,
    aunwrap,
    has_news,
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
_READ_COMMITTED = "set transaction isolation level read committed"


class _Target(Generic[Pool]):
    """Where statements go: a pool that is given, or one of our own, made when first needed."""

    pool_type: type[Any]

    def __init__(
        self, target: str | Pool | None, schema: str, pool_size: int, *, prepare: bool = True
    ) -> None:
        if target is not None and not isinstance(target, (str, self.pool_type)):
            raise ConfigurationError(
                f"got a {type(target).__qualname__}; "
                f"pass a DSN or a psycopg_pool.{self.pool_type.__name__}"
            )
        self.schema = schema
        self.given: Any = target if isinstance(target, self.pool_type) else None
        self.pool_size = pool_size
        self.prepare = prepare
        self._target = target if isinstance(target, str) else None
        self._dsn: str | None = None
        self._pid = os.getpid()
        # Kept after a fork: the end of such a pool would wait for what only the parent has.
        self._parents: list[object] = []
        # Of a pool that is given: whether the database's default isolation is another than ours.
        self._isolate: bool | None = None

    @property
    def dsn(self) -> str:
        """The DSN; of a pool that was given, the pool's."""
        if self._dsn is None:
            self._dsn = _dsn_of(self.given) if self.given else resolve_dsn(self._target)
        return self._dsn

    def settings(self) -> dict[str, Any]:
        """The arguments of a connection of ours."""
        return {"autocommit": True, **({} if self.prepare else {"prepare_threshold": None})}

    def _pool_settings(self) -> dict[str, Any]:
        return {
            "min_size": 1,
            "max_size": self.pool_size,
            "timeout": 10,
            "kwargs": self.settings(),
            "name": "pgqueue",
        }

    def _is_forked(self) -> bool:
        """Whether this process is a child of the one that made the pool, and has its sockets."""
        return self._pid != os.getpid()


def _dsn_of(pool: Any) -> str:  # noqa: ANN401
    if not isinstance(pool.conninfo, str) or not isinstance(pool.kwargs, dict):
        raise ConfigurationError(
            "the pool that was given has no fixed DSN; pass a DSN to what needs one"
        )
    parts = {
        name: value
        for name, value in pool.kwargs.items()
        if name
        not in ("autocommit", "prepare_threshold", "context", "row_factory", "cursor_factory")
    }
    return resolve_dsn(conninfo.make_conninfo(pool.conninfo, **parts))


class Driver(_Target["psycopg_pool.ConnectionPool[Any]"]):
    """Runs statements on a thread."""

    pool_type = psycopg_pool.ConnectionPool

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self._pool: psycopg_pool.ConnectionPool[Any] | None = None
        self._opening = threading.Lock()

    def connect(self) -> psycopg.Connection[Any]:
        """A connection of its own, READ COMMITTED; the caller closes it.

        It is in autocommit mode, unless the database's default isolation is another.

        Raises:
            DatabaseUnavailable: it cannot be made.
        """
        try:
            conn = psycopg.connect(self.dsn, **self.settings())
            try:
                self._configure(conn)
            except BaseException:
                conn.close()
                raise
        except psycopg.Error as error:
            raise translate(error, self.schema) from error
        return conn

    def open(self) -> psycopg_pool.ConnectionPool[Any]:
        """The pool, opened."""
        if self.given is not None:
            pool: psycopg_pool.ConnectionPool[Any] = self.given
            return pool
        if self._is_forked():
            self._parents.append(self._pool)
            self._pool, self._opening, self._pid = None, threading.Lock(), os.getpid()
        with self._opening:
            if self._pool is None:
                self.connect().close()  # a wrong DSN shows at once; a pool would try for long
                self._pool = psycopg_pool.ConnectionPool(
                    self.dsn,
                    configure=self._configure,
                    check=self._check,
                    open=True,
                    **self._pool_settings(),
                )
            return self._pool

    def close(self) -> None:
        """Closes the pool, if it is ours."""
        if self._pool is not None and not self._is_forked():
            self._pool.close()
            self._pool = None

    @contextmanager
    def connection(self, conn: Any = None) -> Iterator[psycopg.Connection[Any]]:  # noqa: ANN401
        """`conn` of the caller, or one of the pool; errors within are translated."""
        try:
            if conn is not None:
                yield unwrap(conn, psycopg.Connection)
            else:
                with self.open().connection() as own, self._isolated(own):
                    try:
                        yield own
                    except psycopg.errors.ReadOnlySqlTransaction:
                        own.close()  # a former primary; the next one leads to the new
                        raise
        except psycopg.Error as error:
            translated = translate(error, self.schema)
            if translated is error:
                raise
            raise translated from error

    @contextmanager
    def transaction(self, conn: Any = None) -> Iterator[psycopg.Connection[Any]]:  # noqa: ANN401
        """A connection for statements that all happen or none; within `conn`, a savepoint."""
        with self.connection(conn) as own:
            if conn is not None and not own.autocommit:
                # Begins the caller's transaction, so that ours lies within it.
                psycopg.Cursor(own, row_factory=tuple_row).execute("select")
            with own.transaction():
                yield own

    def run(self, statement: Statement[T], conn: Any = None) -> T:  # noqa: ANN401
        """Executes `statement`, in `conn`'s transaction or one of its own, and reads its rows."""
        attempt = 0
        while True:
            try:
                with self.connection(conn) as connection:
                    return self.execute(statement, connection)
            except RETRYABLE:  # noqa: PERF203 - the loop is there for it
                attempt += 1
                if conn is not None or attempt == RETRIES:
                    raise
                time.sleep(retry_pause(attempt))

    @staticmethod
    def execute(statement: Statement[T], connection: psycopg.Connection[Any]) -> T:
        """Executes `statement` on that very connection."""
        # Not connection.cursor(): the caller may have set another class, which binds differently.
        with psycopg.Cursor(connection, row_factory=tuple_row) as cursor:
            cursor.format = Format.BINARY
            return statement.read(cursor.execute(statement.sql, statement.params).fetchall())

    @staticmethod
    def copy(command: str, text: str, connection: psycopg.Connection[Any]) -> None:
        """Sends `text` to a COPY FROM STDIN."""
        with psycopg.Cursor(connection) as cursor, cursor.copy(command.encode()) as copy:
            copy.write(text)

    @contextmanager
    def _isolated(self, own: psycopg.Connection[Any]) -> Iterator[None]:
        """In a pool that was given, READ COMMITTED where that is not the default."""
        if self.given is not None and self._isolate is None:
            with psycopg.Cursor(own, row_factory=tuple_row) as cursor:
                self._isolate = needs_isolation(cursor.execute(_SHOW_ISOLATION).fetchone())
        if self._isolate:
            own.rollback()
            with own.transaction():
                own.execute(_READ_COMMITTED)
                yield
        else:
            yield

    @staticmethod
    def _configure(conn: psycopg.Connection[Any]) -> None:
        if needs_isolation(conn.execute(_SHOW_ISOLATION).fetchone()):
            conn.set_autocommit(False)
            conn.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)

    def _check(self, conn: psycopg.Connection[Any]) -> None:
        """Called with each connection that leaves the pool: raises if it is broken."""
        if has_news(conn.fileno()):
            try:
                psycopg_pool.ConnectionPool.check_connection(conn)
            except psycopg.Error:
                if self._pool is not None:  # pragma: no branch - it was closed meanwhile
                    self._pool.check()  # the others are broken, too: the server was restarted
                raise


class AsyncDriver(_Target["psycopg_pool.AsyncConnectionPool[Any]"]):
    """Runs statements with asyncio."""

    pool_type = psycopg_pool.AsyncConnectionPool

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self._pool: psycopg_pool.AsyncConnectionPool[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening = asyncio.Lock()
        self._pooled: WeakSet[psycopg.AsyncConnection[Any]] = WeakSet()

    async def connect(self) -> psycopg.AsyncConnection[Any]:
        """See `Driver.connect`."""
        try:
            conn = await psycopg.AsyncConnection.connect(self.dsn, **self.settings())
            try:
                await self._configure(conn)
            except BaseException:  # a cancellation, for one
                await conn.close()
                raise
        except psycopg.Error as error:
            raise translate(error, self.schema) from error
        return conn

    async def open(self) -> psycopg_pool.AsyncConnectionPool[Any]:
        """See `Driver.open`. An event loop other than the last gets a pool of its own.

        Raises:
            ConfigurationError: the other loop is still running.
        """
        if self.given is not None:
            pool: psycopg_pool.AsyncConnectionPool[Any] = self.given
            return pool
        loop = asyncio.get_running_loop()
        if self._loop is not loop or self._is_forked():
            self.abandon()
            self._loop, self._opening, self._pid = loop, asyncio.Lock(), os.getpid()
        async with self._opening:
            if self._pool is None:
                await (await self.connect()).close()
                pool = psycopg_pool.AsyncConnectionPool(
                    self.dsn,
                    configure=self._configure_pooled,
                    check=self._check,
                    open=False,
                    **self._pool_settings(),
                )
                await pool.open()
                self._pool = pool
            return self._pool

    async def close(self) -> None:
        """See `Driver.close`."""
        if self._loop is asyncio.get_running_loop() and not self._is_forked():
            if self._pool is not None:
                await self._pool.close()
            self._pool = self._loop = None
        self.abandon()

    def abandon(self) -> None:
        """Closes the pool's connections without their event loop, which may have ended.

        Raises:
            ConfigurationError: that loop is running, in another thread.
        """
        if self._is_forked():
            self._parents += [self._pool, *self._pooled]
        else:
            if self._loop is not None and self._loop.is_running():
                raise ConfigurationError(
                    "this AsyncClient is in use by another running event loop; make one for each"
                )
            for conn in self._pooled:
                conn.pgconn.finish()
        self._pooled.clear()
        self._pool = self._loop = None

    @asynccontextmanager
    async def connection(self, conn: Any = None) -> AsyncIterator[psycopg.AsyncConnection[Any]]:  # noqa: ANN401
        """See `Driver.connection`."""
        try:
            if conn is not None:
                yield await aunwrap(conn)
            else:
                pool = await self.open()
                async with pool.connection() as own, self._isolated(own):
                    try:
                        yield own
                    except psycopg.errors.ReadOnlySqlTransaction:
                        await own.close()
                        raise
        except psycopg.Error as error:
            translated = translate(error, self.schema)
            if translated is error:
                raise
            raise translated from error

    @asynccontextmanager
    async def transaction(
        self,
        conn: Any = None,  # noqa: ANN401
    ) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """See `Driver.transaction`."""
        async with self.connection(conn) as own:
            if conn is not None and not own.autocommit:
                await psycopg.AsyncCursor(own, row_factory=tuple_row).execute("select")
            async with own.transaction():
                yield own

    async def run(self, statement: Statement[T], conn: Any = None) -> T:  # noqa: ANN401
        """See `Driver.run`."""
        attempt = 0
        while True:
            try:
                async with self.connection(conn) as connection:
                    return await self.execute(statement, connection)
            except RETRYABLE:  # noqa: PERF203 - the loop is there for it
                attempt += 1
                if conn is not None or attempt == RETRIES:
                    raise
                await asyncio.sleep(retry_pause(attempt))

    @staticmethod
    async def execute(statement: Statement[T], connection: psycopg.AsyncConnection[Any]) -> T:
        """See `Driver.execute`."""
        async with psycopg.AsyncCursor(connection, row_factory=tuple_row) as cursor:
            cursor.format = Format.BINARY
            await cursor.execute(statement.sql, statement.params)
            return statement.read(await cursor.fetchall())

    @staticmethod
    async def copy(command: str, text: str, connection: psycopg.AsyncConnection[Any]) -> None:
        """See `Driver.copy`."""
        async with psycopg.AsyncCursor(connection) as cursor, cursor.copy(command.encode()) as copy:
            await copy.write(text)

    @asynccontextmanager
    async def _isolated(self, own: psycopg.AsyncConnection[Any]) -> AsyncIterator[None]:
        """See `Driver._isolated`."""
        if self.given is not None and self._isolate is None:
            async with psycopg.AsyncCursor(own, row_factory=tuple_row) as cursor:
                await cursor.execute(_SHOW_ISOLATION)
                self._isolate = needs_isolation(await cursor.fetchone())
        if self._isolate:
            await own.rollback()
            async with own.transaction():
                await own.execute(_READ_COMMITTED)
                yield
        else:
            yield

    async def _configure_pooled(self, conn: psycopg.AsyncConnection[Any]) -> None:
        self._pooled.add(conn)
        await self._configure(conn)

    @staticmethod
    async def _configure(conn: psycopg.AsyncConnection[Any]) -> None:
        if needs_isolation(await (await conn.execute(_SHOW_ISOLATION)).fetchone()):
            await conn.set_autocommit(False)
            await conn.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)

    async def _check(self, conn: psycopg.AsyncConnection[Any]) -> None:
        """See `Driver._check`."""
        if has_news(conn.fileno()):
            try:
                await psycopg_pool.AsyncConnectionPool.check_connection(conn)
            except psycopg.Error:
                if self._pool is not None:  # pragma: no branch
                    await self._pool.check()
                raise
