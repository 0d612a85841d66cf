"""Where a client's connections come from: a pool that is given, or one of its own.

A pool of our own is made when it is first needed, and made anew where the old one is of no use: in
the child of a fork, in another event loop, and after an outage. (psycopg_pool would mend itself,
but with pauses of up to minutes, in which every operation waits in vain.)
"""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakSet

import psycopg
import psycopg_pool
from psycopg import conninfo

from pgqueue.connections import has_news, needs_isolation, resolve_dsn, translate
from pgqueue.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

Pool = TypeVar("Pool")

SHOW_ISOLATION = "show default_transaction_isolation"
GET_TIMEOUT = 10.0
"""Seconds to wait for a connection while all are in use."""
# What psycopg.connect() takes besides the parts of a DSN.
_NOT_DSN = frozenset(
    ["autocommit", "prepare_threshold", "context", "row_factory", "cursor_factory"]
)


class _Target(Generic[Pool]):
    """What both kinds have in common."""

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
        self._pool: Any = None
        self._pid = os.getpid()
        # Kept after a fork: the end of such a pool would wait for what only the parent has.
        self._parents: list[object] = []

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
            "timeout": GET_TIMEOUT,
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
    parts = {name: value for name, value in pool.kwargs.items() if name not in _NOT_DSN}
    return resolve_dsn(conninfo.make_conninfo(pool.conninfo, **parts))


class Connections(_Target["psycopg_pool.ConnectionPool[Any]"]):
    """For threads."""

    pool_type = psycopg_pool.ConnectionPool

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self._lock = threading.Lock()

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
        """The pool, opened.

        Raises:
            DatabaseUnavailable: no connection can be made.
        """
        if self.given is not None:
            given: psycopg_pool.ConnectionPool[Any] = self.given
            return given
        if self._is_forked():
            self._parents.append(self._pool)
            self._pool, self._lock, self._pid = None, threading.Lock(), os.getpid()
        if self._pool is None:
            self.connect().close()  # a wrong DSN shows at once; a pool would try for long
        with self._lock:
            if self._pool is None:
                made = psycopg_pool.ConnectionPool(
                    self.dsn, configure=self._configure, open=False, **self._pool_settings()
                )
                made.open(wait=True, timeout=GET_TIMEOUT)
                self._pool = made
            pool: psycopg_pool.ConnectionPool[Any] = self._pool
            return pool

    def close(self) -> None:
        """Closes the pool, if it is ours."""
        if self._pool is not None and not self._is_forked():
            self._discard(self._pool)

    @contextmanager
    def pooled(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection of the pool; what is done with it is committed or rolled back at the end.

        Raises:
            DatabaseUnavailable: none can be had.
        """
        while True:
            pool = self.open()
            with ExitStack() as stack:
                try:
                    conn = stack.enter_context(pool.connection())
                except psycopg_pool.PoolClosed:
                    if pool is self.given:
                        raise
                    continue  # another thread found it broken
                if self._works(conn):
                    try:
                        yield conn
                    finally:
                        if conn.closed and self.given is None:
                            self._discard(pool)
                    return
            self._discard(pool)

    def _works(self, conn: psycopg.Connection[Any]) -> bool:
        """Whether `conn` is not known to be broken; those of a given pool are its own affair."""
        if self.given is not None or not has_news(conn.fileno()):
            return True
        try:
            psycopg_pool.ConnectionPool.check_connection(conn)
        except psycopg.Error:
            return False
        return True

    def _discard(self, pool: psycopg_pool.ConnectionPool[Any]) -> None:
        with self._lock:
            self._pool = None if self._pool is pool else self._pool
        pool.close()

    @staticmethod
    def _configure(conn: psycopg.Connection[Any]) -> None:
        if needs_isolation(conn.execute(SHOW_ISOLATION).fetchone()):
            conn.set_autocommit(False)
            conn.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)


class _AsyncPool(psycopg_pool.AsyncConnectionPool[Any]):
    """A pool whose workers end when they are cancelled.

    asyncio.run() cancels every task at its end, and waits for them. The workers of psycopg_pool
    (3.3) pass over a cancellation that meets them while they connect, so it would wait for ever.
    """

    @classmethod
    async def worker(cls, q: asyncio.Queue[Any]) -> None:
        """See psycopg_pool."""
        work = asyncio.get_running_loop().create_task(super().worker(q))  # type: ignore[arg-type]
        try:
            await asyncio.wait([work])
        finally:
            while not work.done():
                work.cancel()
                await asyncio.wait([work], timeout=0.1)


class AsyncConnections(_Target["psycopg_pool.AsyncConnectionPool[Any]"]):
    """For asyncio."""

    pool_type = psycopg_pool.AsyncConnectionPool

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = asyncio.Lock()
        self._pooled: WeakSet[psycopg.AsyncConnection[Any]] = WeakSet()

    async def connect(self) -> psycopg.AsyncConnection[Any]:
        """See `Connections.connect`."""
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
        """See `Connections.open`. An event loop other than the last gets a pool of its own.

        Raises:
            ConfigurationError: the other loop is still running.
        """
        if self.given is not None:
            given: psycopg_pool.AsyncConnectionPool[Any] = self.given
            return given
        loop = asyncio.get_running_loop()
        if self._loop is not loop or self._is_forked():
            self.abandon()
            self._loop, self._lock, self._pid = loop, asyncio.Lock(), os.getpid()
        if self._pool is None:
            await (await self.connect()).close()
        async with self._lock:
            if self._pool is None:
                made = _AsyncPool(
                    self.dsn,
                    configure=self._configure_pooled,
                    open=False,
                    **self._pool_settings(),
                )
                await made.open(wait=True, timeout=GET_TIMEOUT)
                self._pool = made
            pool: psycopg_pool.AsyncConnectionPool[Any] = self._pool
            return pool

    async def close(self) -> None:
        """See `Connections.close`."""
        if self._loop is asyncio.get_running_loop() and not self._is_forked():
            if self._pool is not None:
                await self._discard(self._pool)
            self._loop = None
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
    async def pooled(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """See `Connections.pooled`."""
        while True:
            pool = await self.open()
            async with AsyncExitStack() as stack:
                try:
                    conn = await stack.enter_async_context(pool.connection())
                except psycopg_pool.PoolClosed:
                    if pool is self.given:
                        raise
                    continue
                if await self._works(conn):
                    try:
                        yield conn
                    finally:
                        if conn.closed and self.given is None:
                            await self._discard(pool)
                    return
            await self._discard(pool)

    async def _works(self, conn: psycopg.AsyncConnection[Any]) -> bool:
        """See `Connections._works`."""
        if self.given is not None or not has_news(conn.fileno()):
            return True
        try:
            await psycopg_pool.AsyncConnectionPool.check_connection(conn)
        except psycopg.Error:
            return False
        return True

    async def _discard(self, pool: psycopg_pool.AsyncConnectionPool[Any]) -> None:
        self._pool = None if self._pool is pool else self._pool
        await pool.close()

    async def _configure_pooled(self, conn: psycopg.AsyncConnection[Any]) -> None:
        self._pooled.add(conn)
        await self._configure(conn)

    @staticmethod
    async def _configure(conn: psycopg.AsyncConnection[Any]) -> None:
        if needs_isolation(await (await conn.execute(SHOW_ISOLATION)).fetchone()):
            await conn.set_autocommit(False)
            await conn.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
