"""Queues of others in the test's database, made by their own packages where there are any."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from procrastinate import PsycopgConnector
from procrastinate.schema import SchemaManager

from pgqueue import Client

PGMQ = """
    -- A double: the columns of PGMQ 1.13, which takes an extension, or 2,000 lines of SQL.
    create schema pgmq;
    create table pgmq.q_orders (
        msg_id bigint primary key generated always as identity, read_ct int not null default 0,
        enqueued_at timestamptz not null default now(), vt timestamptz not null,
        message jsonb, headers jsonb
    );
"""


class Sql:
    """Runs SQL apart from any client."""

    def __init__(self, dsn: str) -> None:
        self.conn = psycopg.connect(dsn, autocommit=True)

    def __call__(self, query: str, *params: object) -> list[tuple[Any, ...]]:
        """All rows of `query`."""
        cursor = self.conn.execute(query.encode(), params or None)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def sql(pgqueue_dsn: str) -> Iterator[Sql]:
    """The test's database."""
    made = Sql(pgqueue_dsn)
    yield made
    made.conn.close()


@pytest.fixture
def client(pgqueue_client: Client) -> Client:
    """A client of a new queue."""
    return pgqueue_client


@pytest.fixture
def pgmq(sql: Sql) -> Sql:
    """The database, with a queue `orders` of PGMQ's shape."""
    sql(PGMQ)
    return sql


@pytest.fixture
def procrastinate(sql: Sql) -> Sql:
    """The database, with Procrastinate's own schema."""
    sql(SchemaManager(PsycopgConnector()).get_schema())
    return sql


@pytest.fixture
def pgqueuer(sql: Sql) -> Sql:
    """The database, with PgQueuer's own schema."""
    command = [sys.executable, "-W", "ignore", "-m", "pgqueuer", "sql", "install"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, timeout=30)
    sql(done.stdout)
    return sql


@pytest.fixture
def waiting(client: Client, sql: Sql) -> Callable[[], list[Any]]:
    """The unfinished jobs as (queue, kind, payload, priority), in the order of their claim."""
    del client
    return lambda: sql(
        "select queue, kind, payload, priority from pgqueue.job "
        "order by position is null, priority, position, run_at, id"
    )
