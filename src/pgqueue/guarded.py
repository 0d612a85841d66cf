"""Statements under a setting that holds for their own transaction alone.

Set within the statement, for a setting of the session would not survive PgBouncer. Only for
statements that are calls of one function, and transactions of their own.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

import attrs

if TYPE_CHECKING:
    from pgqueue.statements import Statement

T = TypeVar("T")


def impatient(statement: Statement[T], seconds: float) -> Statement[T]:
    """`statement`, so that it does not wait for a row's lock for long.

    Somebody's open transaction may have locked one of our jobs: a cancel that is not committed
    yet, or a handler's own ack. All the other jobs must not wait for it, least of all for their
    heartbeat.

    Raises (when it runs):
        psycopg.errors.LockNotAvailable: after so many seconds; nothing was written.
    """
    return _under(statement, "lock_timeout", f"{seconds * 1000:.0f}ms")


def unsynced(statement: Statement[T]) -> Statement[T]:
    """`statement`, so that its commit waits neither for the disk nor for a standby.

    For what a crash of the server may undo without harm. A claim that is undone leaves its job
    ready; its holder is refused by the next token, as after a lease that ran out.
    """
    return _under(statement, "synchronous_commit", "off")


def _under(statement: Statement[T], setting: str, value: str) -> Statement[T]:
    return attrs.evolve(statement, sql=_text(statement.sql, setting, value))


@lru_cache
def _text(text: str, setting: str, value: str) -> str:
    columns, _, call = text.partition("select ")[2].rpartition(" from ")
    guard = f"(select set_config('{setting}', '{value}', true) as set offset 0) guard"
    if not columns:
        return f"select {call} from {guard}"
    source = f"lateral (select * from {call} where guard.set is not null offset 0) called"
    return f"select {columns} from {guard}, {source}"
