"""Statements that a connection of ours runs again and again, without psycopg's cursors.

A cursor finds out anew how to send each parameter, and how to read each column, and whether to
prepare. Here a statement is prepared once, its parameters are text, and the readers of its columns
are kept. Measured (psycopg 3.3, an enqueue's call with its answer): 53 us of the client's CPU
instead of 87.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import generators
from psycopg.adapt import Transformer
from psycopg.pq import ExecStatus, Format, TransactionStatus

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from psycopg.pq.abc import PGconn, PGresult

MOST = 64
"""Statements that a connection keeps prepared; others go by a cursor."""
STALE = (psycopg.errors.InvalidSqlStatementName, psycopg.errors.FeatureNotSupported)
"""The server does not know the statement any more, or a migration has changed its columns."""


class Prepared:
    """The statements that one connection has prepared."""

    def __init__(self, conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
        """Of `conn`, which is in UTF-8 and does nothing else while a statement runs."""
        self._conn = conn
        self._transformer = Transformer(conn)
        self._names: dict[str, bytes | None] = {}  # None: left to cursors
        self._uses: dict[str, int] = {}
        self._made = 0

    def suits(self, sql: str, params: Sequence[object]) -> bool:
        """Whether the statement is to go this way: not its first times, as in psycopg.

        Nor in a transaction, which a failure to prepare would end.
        """
        threshold = self._conn.prepare_threshold
        if threshold is None or self._conn.pgconn.transaction_status != TransactionStatus.IDLE:
            return False
        if sql not in self._names:
            if len(self._names) >= MOST:
                return False
            uses = self._uses[sql] = self._uses.get(sql, 0) + 1
            if uses <= threshold:
                if len(self._uses) > 10 * MOST:
                    self._uses.clear()
                return False
            del self._uses[sql]
        elif self._names[sql] is None:
            return False
        return self._conn.autocommit and all(map(_is_plain, params))

    def run(
        self, sql: str, params: Sequence[object]
    ) -> Generator[Any, Any, list[tuple[Any, ...]] | None]:
        """Runs the statement; None if the server would not prepare it, and so nothing was done.

        For `wait` of the connection, sync or async.

        Raises:
            psycopg.Error: the statement's error. One of `STALE`: nothing was done; see `forget`.
        """
        pgconn = self._conn.pgconn
        name = self._names.get(sql)
        if name is None:
            name = yield from self._prepare(pgconn, sql)
            if name is None:
                return None
        values = [None if value is None else str(value).encode() for value in params]
        pgconn.send_query_prepared(name, values, result_format=Format.BINARY)
        result = yield from _answer(pgconn)
        if result.status != ExecStatus.TUPLES_OK:
            raise psycopg.errors.error_from_result(result)
        transformer = self._transformer
        transformer.set_pgresult(result)
        rows: list[tuple[Any, ...]] = transformer.load_rows(0, result.ntuples, tuple)
        return rows

    def forget(self, sql: str, error: psycopg.Error) -> None:
        """What follows one of `STALE`: the statement is prepared anew, or left to cursors.

        The latter where it is not supported: that may be the statement's own error, every time.
        """
        if isinstance(error, psycopg.errors.FeatureNotSupported):
            self._names[sql] = None
        else:
            self._names.pop(sql, None)

    def _prepare(self, pgconn: PGconn, sql: str) -> Generator[Any, Any, bytes | None]:
        self._made += 1
        name = f"pgqueue_{self._made}".encode()
        pgconn.send_prepare(name, _numbered(sql))
        result = yield from _answer(pgconn)
        prepared = result.status == ExecStatus.COMMAND_OK
        # Otherwise a cursor runs it, and tells the error if that has one, too.
        self._names[sql] = name if prepared else None
        return name if prepared else None


def _answer(pgconn: PGconn) -> Generator[Any, Any, PGresult]:
    results = yield from generators.execute(pgconn)
    result: PGresult = results[-1]
    return result


def _is_plain(value: object) -> bool:
    """Whether the text of `value` is what a cursor would send."""
    if isinstance(value, str):
        # libpq would end the text at a NUL.
        return type(value) is str and "\0" not in value
    return value is None or type(value) is int


def _numbered(sql: str) -> bytes:
    """`sql` with $1, $2 and so on for each %s."""
    first, *others = sql.split("%s")
    numbered = "".join(f"${place}{text}" for place, text in enumerate(others, 1))
    return (first + numbered).replace("%%", "%").encode()
