"""The two ways to run a `Statement`: on a thread, or with asyncio. All else the clients share."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.pq import Format
from psycopg.rows import tuple_row

from pgqueue.bounded import BoundedAsyncConnection, BoundedConnection
from pgqueue.connections import (
    RETRYABLE,
    aunwrap,
    cause,
    may_retry,
    needs_isolation,
    retry_pause,
    translate,
    unwrap,
)
from pgqueue.errors import DatabaseUnavailable
from pgqueue.pools import SHOW_SESSION, AsyncConnections, Connections
from pgqueue.prepared import STALE
from pgqueue.statements import Statement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from pgqueue.readers import Row
    from pgqueue.statements import Operation, Steps

T = TypeVar("T")

READ_COMMITTED = "set transaction isolation level read committed"


@contextmanager
def _one_answer(conn: Any) -> Iterator[None]:  # noqa: ANN401 - sync or async
    """Psycopg expects one answer to a COPY; where a session ends, a pooler adds one of its own."""
    try:
        yield
    except ValueError as error:
        if not conn.closed:
            raise
        raise psycopg.OperationalError("the connection was lost during a COPY") from error


def _again(conn: BoundedConnection, statement: Statement[Any]) -> list[Row] | None:
    """The rows of a statement that `conn` has prepared; None if a cursor is to run it."""
    prepared, sql, params = conn.prepared, statement.sql, statement.params
    if not prepared.suits(sql, params):
        return None
    with conn.lock:
        try:
            rows: list[Row] | None = conn.wait(prepared.run(sql, params))
        except STALE as error:
            prepared.forget(sql, error)
            return None
    return rows


async def _aagain(conn: BoundedAsyncConnection, statement: Statement[Any]) -> list[Row] | None:
    """See `_again`."""
    prepared, sql, params = conn.prepared, statement.sql, statement.params
    if not prepared.suits(sql, params):
        return None
    async with conn.lock:
        try:
            rows: list[Row] | None = await conn.wait(prepared.run(sql, params))
        except STALE as error:
            prepared.forget(sql, error)
            return None
    return rows


class Driver(Connections):
    """Runs statements on a thread."""

    # Of a pool that is given: whether the database's default isolation is another than ours.
    _isolate: bool | None = None

    @contextmanager
    def connection(self, conn: Any = None) -> Iterator[psycopg.Connection[Any]]:  # noqa: ANN401
        """`conn` of the caller, or one of the pool; errors within are translated."""
        try:
            if conn is not None:
                yield unwrap(conn, psycopg.Connection)
            else:
                with self.pooled() as own, self._isolated(own):
                    try:
                        yield own
                    except psycopg.errors.ReadOnlySqlTransaction:
                        self._discard(own)  # a former primary; the next one leads to the new
                        raise
        except psycopg.Error as error:
            translated = translate(error, self.schema)
            if translated is error:
                raise
            raise translated from cause(error)

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
            except (DatabaseUnavailable, *RETRYABLE) as error:  # noqa: PERF203 - the loop is for it
                attempt += 1
                if conn is not None or not may_retry(error, attempt):
                    raise
                time.sleep(retry_pause(attempt))

    def run_all(self, operation: Operation[T], conn: Any = None) -> T:  # noqa: ANN401
        """Takes the steps of `operation` in one transaction, or a savepoint in that of `conn`."""
        attempt = 0
        while True:
            try:
                with self.transaction(conn) as own:
                    return self._follow(operation.steps(), own)
            except RETRYABLE as error:  # noqa: PERF203 - the loop is there for it
                attempt += 1
                if conn is not None or not (may_retry(error, attempt) and operation.restart()):
                    raise
                time.sleep(retry_pause(attempt))

    @staticmethod
    def execute(statement: Statement[T], connection: psycopg.Connection[Any]) -> T:
        """Executes `statement` on that very connection."""
        if isinstance(connection, BoundedConnection):
            rows = _again(connection, statement)
            if rows is not None:
                return statement.read(rows)
        # Not connection.cursor(): the caller may have set another class, which binds differently.
        with psycopg.Cursor(connection, row_factory=tuple_row) as cursor:
            cursor.format = Format.BINARY
            return statement.read(cursor.execute(statement.sql, statement.params).fetchall())

    def _follow(self, steps: Steps[T], connection: psycopg.Connection[Any]) -> T:
        """Takes the steps of an operation on that very connection."""
        answer = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            if isinstance(step, Statement):
                answer = self.execute(step, connection)
                continue
            answer = None
            with (
                _one_answer(connection),
                psycopg.Cursor(connection) as cursor,
                cursor.copy(step.sql.encode()) as copy,
            ):
                for piece in step.pieces:
                    copy.write(piece)

    def _discard(self, own: psycopg.Connection[Any]) -> None:
        """Leaves a server: the others of our spares, or of the pool, are most likely to it, too."""
        own.close()
        # A pool before psycopg_pool 3.3 loses only this one, and the others as they are met.
        if hasattr(self.given, "drain"):
            self.given.drain()

    @contextmanager
    def _isolated(self, own: psycopg.Connection[Any]) -> Iterator[None]:
        """In a pool that was given, READ COMMITTED where that is not the default."""
        if self.given is not None and self._isolate is None:
            with psycopg.Cursor(own, row_factory=tuple_row) as cursor:
                self._isolate = needs_isolation(cursor.execute(SHOW_SESSION).fetchone())
        if self._isolate:
            own.rollback()
            with own.transaction():
                own.execute(READ_COMMITTED)
                yield
        else:
            yield


class AsyncDriver(AsyncConnections):
    """Runs statements with asyncio."""

    _isolate: bool | None = None

    @asynccontextmanager
    async def connection(self, conn: Any = None) -> AsyncIterator[psycopg.AsyncConnection[Any]]:  # noqa: ANN401
        """See `Driver.connection`."""
        try:
            if conn is not None:
                yield await aunwrap(conn)
            else:
                async with self.pooled() as own, self._isolated(own):
                    try:
                        yield own
                    except psycopg.errors.ReadOnlySqlTransaction:
                        await self._discard(own)
                        raise
        except psycopg.Error as error:
            translated = translate(error, self.schema)
            if translated is error:
                raise
            raise translated from cause(error)

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
            except (DatabaseUnavailable, *RETRYABLE) as error:  # noqa: PERF203 - the loop is for it
                attempt += 1
                if conn is not None or not may_retry(error, attempt):
                    raise
                await asyncio.sleep(retry_pause(attempt))

    async def run_all(self, operation: Operation[T], conn: Any = None) -> T:  # noqa: ANN401
        """See `Driver.run_all`."""
        attempt = 0
        while True:
            try:
                async with self.transaction(conn) as own:
                    return await self._follow(operation.steps(), own)
            except RETRYABLE as error:  # noqa: PERF203 - the loop is there for it
                attempt += 1
                if conn is not None or not (may_retry(error, attempt) and operation.restart()):
                    raise
                await asyncio.sleep(retry_pause(attempt))

    @staticmethod
    async def execute(statement: Statement[T], connection: psycopg.AsyncConnection[Any]) -> T:
        """See `Driver.execute`."""
        if isinstance(connection, BoundedAsyncConnection):
            rows = await _aagain(connection, statement)
            if rows is not None:
                return statement.read(rows)
        async with psycopg.AsyncCursor(connection, row_factory=tuple_row) as cursor:
            cursor.format = Format.BINARY
            await cursor.execute(statement.sql, statement.params)
            return statement.read(await cursor.fetchall())

    async def _follow(self, steps: Steps[T], connection: psycopg.AsyncConnection[Any]) -> T:
        """See `Driver._follow`."""
        answer = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            if isinstance(step, Statement):
                answer = await self.execute(step, connection)
                continue
            answer = None
            with _one_answer(connection):
                async with (
                    psycopg.AsyncCursor(connection) as cursor,
                    cursor.copy(step.sql.encode()) as copy,
                ):
                    for piece in step.pieces:
                        await copy.write(piece)

    async def _discard(self, own: psycopg.AsyncConnection[Any]) -> None:
        """See `Driver._discard`."""
        await own.close()
        if hasattr(self.given, "drain"):
            await self.given.drain()

    @asynccontextmanager
    async def _isolated(self, own: psycopg.AsyncConnection[Any]) -> AsyncIterator[None]:
        """See `Driver._isolated`."""
        if self.given is not None and self._isolate is None:
            async with psycopg.AsyncCursor(own, row_factory=tuple_row) as cursor:
                await cursor.execute(SHOW_SESSION)
                self._isolate = needs_isolation(await cursor.fetchone())
        if self._isolate:
            await own.rollback()
            async with own.transaction():
                await own.execute(READ_COMMITTED)
                yield
        else:
            yield
