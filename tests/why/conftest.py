"""Situations in which a job does not run, made with the functions that make them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import psycopg
import pytest

from pgqueue import Client, Explanation, Gate, GateCode


class Sql(Protocol):
    """Runs SQL on a connection of its own, which commits each statement; gives all rows."""

    def __call__(self, query: str, *params: object) -> list[tuple[Any, ...]]:
        """All rows of `query`."""


@pytest.fixture
def client(pgqueue_client: Client) -> Client:
    """A client of the test's own database."""
    return pgqueue_client


@pytest.fixture
def direct_dsn(pgqueue_dsn: str, direct: Any) -> str:
    """The same database, without a pooler."""
    return str(direct(pgqueue_dsn))


@pytest.fixture
def sql(direct_dsn: str) -> Iterator[Sql]:
    """See `Sql`."""
    with psycopg.connect(direct_dsn, autocommit=True) as conn:

        def run(query: str, *params: object) -> list[tuple[Any, ...]]:
            cursor = conn.execute(query.encode(), params or None)
            return cursor.fetchall() if cursor.description else []

        yield run


@pytest.fixture
def other(direct_dsn: str) -> Iterator[psycopg.Connection]:
    """A session that leaves its transactions open."""
    with psycopg.connect(direct_dsn, application_name="somebody") as conn:
        yield conn


class Hire(Protocol):
    """Registers a worker that is not there, with room unless it is said to be full."""

    def __call__(
        self, name: str = "w", queues: str = "{default}", kinds: str = "{k}", *, full: bool = False
    ) -> None:
        """Registers it, and beats once."""


@pytest.fixture
def hire(sql: Sql) -> Hire:
    """See `Hire`."""

    def register(
        name: str = "w", queues: str = "{default}", kinds: str = "{k}", *, full: bool = False
    ) -> None:
        sql("select pgqueue.register_worker(%s, %s, %s, 2, 'host', 7, '1.0')", name, queues, kinds)
        sql("select pgqueue.beat(%s, %s)", name, 2 if full else 0)

    return register


def codes(found: Explanation) -> list[GateCode]:
    """The gates, in their order."""
    return [gate.code for gate in found.gates]


def gate(found: Explanation, code: GateCode) -> Gate:
    """The one gate of this code."""
    (only,) = [gate for gate in found.gates if gate.code is code]
    return only
