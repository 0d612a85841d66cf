"""Where a client's connections come from: a pool that is given, or spares of its own.

The child of a fork and another event loop begin with new ones.
"""

from __future__ import annotations

import asyncio
import os
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import psycopg
import psycopg_pool
from psycopg import conninfo

from pgqueue.bounded import REPLY_TIMEOUT, BoundedAsyncConnection, BoundedConnection
from pgqueue.connections import is_pooled, needs_isolation, resolve_dsn, translate
from pgqueue.errors import ConfigurationError
from pgqueue.spares import AsyncSpares, Spares

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

Pool = TypeVar("Pool")

SHOW_SESSION = "select current_setting('default_transaction_isolation'), pg_backend_pid()"
# What psycopg.connect() takes besides the parts of a DSN.
_NOT_DSN = frozenset(
    ["autocommit", "prepare_threshold", "context", "row_factory", "cursor_factory"]
)


class _Target(Generic[Pool]):
    """What both kinds have in common."""

    pool_type: type[Any]

    def __init__(
        self,
        target: str | Pool | None,
        schema: str,
        pool_size: int,
        *,
        prepare: bool | None = None,
        reply_timeout: timedelta = REPLY_TIMEOUT,
    ) -> None:
        if target is not None and not isinstance(target, (str, self.pool_type)):
            raise ConfigurationError(
                f"got a {type(target).__qualname__}; "
                f"pass a DSN or a psycopg_pool.{self.pool_type.__name__}"
            )
        if pool_size < 1:
            raise ConfigurationError(f"pool_size is {pool_size!r}; pass a whole number from 1 on")
        given: object = reply_timeout
        if not isinstance(given, timedelta) or given <= timedelta(0):
            raise ConfigurationError(
                f"reply_timeout is {reply_timeout!r}; pass a timedelta of more than zero"
            )
        self.schema = schema
        self.given: Any = target if isinstance(target, self.pool_type) else None
        # Whose its connections are; unknown before it has any.
        self._given_pid = None if self.given is None or self.given.closed else os.getpid()
        self.pool_size = pool_size
        self.prepare = prepare
        self.reply_timeout = reply_timeout
        self.behind_pooler = False
        """Of the last connection that was made here."""
        self._target = target if isinstance(target, str) else None
        self._dsn: str | None = None
        self._pid = os.getpid()
        self._parents: list[object] = []
        """After a fork: what only the parent may close."""

    @property
    def dsn(self) -> str:
        """The DSN; of a pool that was given, the pool's."""
        if self._dsn is None:
            self._dsn = _dsn_of(self.given) if self.given else resolve_dsn(self._target)
        return self._dsn

    def settings(self) -> dict[str, Any]:
        """The arguments of a connection of ours."""
        # Whatever the default is: LATIN1 cannot say most of Unicode.
        given: dict[str, Any] = {"autocommit": True, "client_encoding": "utf8"}
        return {**given, "prepare_threshold": None} if self.prepare is False else given

    def _given_here(self) -> Any:  # noqa: ANN401
        """The pool that was given.

        Raises:
            ConfigurationError: it was in use when this process was forked.
        """
        if self._given_pid is None:
            self._given_pid = os.getpid()
        elif self._given_pid != os.getpid():
            raise ConfigurationError(
                "this process was forked when the pool that was given had connections, and two "
                "processes cannot share them; make a pool and a client after the fork"
            )
        return self.given

    def _is_forked(self) -> bool:
        """Whether this process is a child of the one that made the pool, and has its sockets."""
        return self._pid != os.getpid()


def _dsn_of(pool: Any) -> str:  # noqa: ANN401
    kwargs = {} if pool.kwargs is None else pool.kwargs
    if not isinstance(pool.conninfo, str) or not isinstance(kwargs, dict):
        raise ConfigurationError(
            "the pool that was given has no fixed DSN; pass a DSN to what needs one"
        )
    parts = {name: value for name, value in kwargs.items() if name not in _NOT_DSN}
    try:
        dsn = conninfo.make_conninfo(pool.conninfo, **parts)
    except psycopg.ProgrammingError:
        dsn = pool.conninfo  # which will be refused, without being quoted
    return resolve_dsn(dsn)


class Connections(_Target["psycopg_pool.ConnectionPool[Any]"]):
    """For threads."""

    pool_type = psycopg_pool.ConnectionPool

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self._spares: Spares | None = None
        self._lock = threading.Lock()

    def connect(self) -> psycopg.Connection[Any]:
        """A connection of its own, READ COMMITTED; the caller closes it.

        It is in autocommit mode, unless the database's default isolation is another.

        Raises:
            DatabaseUnavailable: it cannot be made.
        """
        try:
            conn = BoundedConnection.connect(self.dsn, **self.settings())
            conn.reply_timeout = self.reply_timeout.total_seconds()
            try:
                self._configure(conn)
            except BaseException:
                conn.close()
                raise
        except psycopg.Error as error:
            raise translate(error, self.schema) from error
        return conn

    def close(self) -> None:
        """Closes the connections, unless they are of a pool that was given."""
        if self._spares is not None and not self._is_forked():
            self._spares.close()
            self._spares = None

    def pooled(self) -> AbstractContextManager[psycopg.Connection[Any]]:
        """A connection; what is done with it is committed or rolled back at the end.

        Raises:
            DatabaseUnavailable: none can be had.
            ConfigurationError: the pool that was given is a parent's.
        """
        if self.given is not None:
            given: psycopg_pool.ConnectionPool[Any] = self._given_here()
            return given.connection()
        if self._is_forked():
            self._parents.append(self._spares)
            self._spares, self._lock, self._pid = None, threading.Lock(), os.getpid()
        with self._lock:
            if self._spares is None:
                self._spares = Spares(self.connect, self.pool_size)
            return self._spares.connection()

    def _configure(self, conn: psycopg.Connection[Any]) -> None:
        shown = conn.execute(SHOW_SESSION).fetchone()
        self.behind_pooler = is_pooled(conn, shown)
        if self.behind_pooler and self.prepare is None:
            conn.prepare_threshold = None
        if needs_isolation(shown):
            conn.set_autocommit(False)
            conn.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)


class AsyncConnections(_Target["psycopg_pool.AsyncConnectionPool[Any]"]):
    """For asyncio."""

    pool_type = psycopg_pool.AsyncConnectionPool

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self._spares: AsyncSpares | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def connect(self) -> psycopg.AsyncConnection[Any]:
        """See `Connections.connect`."""
        try:
            conn = await BoundedAsyncConnection.connect(self.dsn, **self.settings())
            conn.reply_timeout = self.reply_timeout.total_seconds()
            try:
                await self._configure(conn)
            except BaseException:  # a cancellation, for one
                await conn.close()
                raise
        except psycopg.Error as error:
            raise translate(error, self.schema) from error
        return conn

    async def close(self) -> None:
        """See `Connections.close`."""
        if self._loop is asyncio.get_running_loop() and not self._is_forked():
            if self._spares is not None:
                self._spares.close()
            self._spares = self._loop = None
        self.abandon()

    def abandon(self) -> None:
        """Closes the connections without their event loop, which may have ended.

        Raises:
            ConfigurationError: that loop is running, in another thread.
        """
        if self._is_forked():
            self._parents.append(self._spares)
        elif self._loop is not None and self._loop.is_running():
            raise ConfigurationError(
                "this AsyncClient is in use by another running event loop; make one for each"
            )
        elif self._spares is not None:
            self._spares.abandon()
        self._spares = self._loop = None

    def pooled(self) -> AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]:
        """See `Connections.pooled`. An event loop other than the last has connections of its own.

        Raises:
            ConfigurationError: the other loop is still running.
        """
        if self.given is not None:
            given: psycopg_pool.AsyncConnectionPool[Any] = self._given_here()
            return given.connection()
        loop = asyncio.get_running_loop()
        if self._loop is not loop or self._is_forked():
            self.abandon()
            self._loop, self._pid = loop, os.getpid()
        if self._spares is None:
            self._spares = AsyncSpares(self.connect, self.pool_size)
        return self._spares.connection()

    async def _configure(self, conn: psycopg.AsyncConnection[Any]) -> None:
        shown = await (await conn.execute(SHOW_SESSION)).fetchone()
        self.behind_pooler = is_pooled(conn, shown)
        if self.behind_pooler and self.prepare is None:
            conn.prepare_threshold = None
        if needs_isolation(shown):
            await conn.set_autocommit(False)
            await conn.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
