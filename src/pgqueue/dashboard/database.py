"""Reads and writes of the pages. Each has a deadline, in the server and for its answer."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.rows import tuple_row

from pgqueue.client import Client
from pgqueue.errors import DatabaseUnavailable
from pgqueue.migrate import render
from pgqueue.statements import Statement

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg_pool import ConnectionPool

T = TypeVar("T")

READ_DEADLINE = timedelta(seconds=5)
WRITE_DEADLINE = timedelta(seconds=30)
_POOL_SIZE = 5
_PRELUDE = """
select set_config('statement_timeout', %s, true), set_config('lock_timeout', '3s', true),
    set_config('transaction_read_only', %s, true), set_config('jit', 'off', true)
"""


def client_of(target: Client | ConnectionPool[Any] | str | None, schema: str) -> Client:
    """The client that was given, or one for what was given."""
    if isinstance(target, Client):
        return target
    # A little longer than the server's own deadline, which leaves the connection usable.
    silence = WRITE_DEADLINE + timedelta(seconds=5)
    return Client(target, schema=schema, pool_size=_POOL_SIZE, reply_timeout=silence)


class Database:
    """The queue, as the pages ask it."""

    def __init__(self, client: Client, deadline: timedelta) -> None:
        self.client = client
        self._read = f"{deadline.total_seconds() * 1000:.0f}ms"
        self._write = f"{WRITE_DEADLINE.total_seconds() * 1000:.0f}ms"

    def read(self, look: Callable[[Any], T]) -> T:
        """What `look` finds over a connection, in one transaction that can write nothing."""
        try:
            return self._within(look, self._read, "on")
        except DatabaseUnavailable:
            # A spare connection may have died with the server that is back by now.
            return self._within(look, self._read, "on")

    def write(self, act: Callable[[Any], T]) -> T:
        """What `act` gives, having happened wholly or not at all."""
        return self._within(act, self._write, "off")

    def rows(self, text: str, *params: object, conn: Any = None) -> list[tuple[Any, ...]]:  # noqa: ANN401
        """The rows of a query of ours, in which @extschema@ is the schema."""
        statement = Statement(render(text, self.client.schema), params, list)
        if conn is not None:
            return self.client.driver.run(statement, conn)
        return self.read(lambda own: self.client.driver.run(statement, own))

    def _within(self, work: Callable[[Any], T], timeout: str, read_only: str) -> T:
        with self.client.driver.transaction() as conn:
            with psycopg.Cursor(conn, row_factory=tuple_row) as cursor:
                cursor.execute(_PRELUDE, (timeout, read_only))
            return work(conn)
