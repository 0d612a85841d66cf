"""Clients behind PgBouncer in transaction mode, where each statement may run in another session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.faults.harness.pooler import Pooler

from pgqueue import Client, DatabaseUnavailable


def thresholds(client: Client) -> set[int | None]:
    """After how many uses the client's idle connections prepare a statement."""
    driver: Any = client.driver
    return {conn.prepare_threshold for conn, _ in driver._spares._kept._idle}


def test_nothing_is_prepared_behind_a_pooler(
    make_client: Callable[..., Client], pgqueue_dsn: str, pgbouncer: Pooler
) -> None:
    """Clients with different statements share sessions, and none meets those of another."""
    producer, crew, other = (make_client(pgbouncer.through(pgqueue_dsn)) for _ in range(3))

    def produce() -> None:
        for _ in range(30):
            producer.enqueue("a")

    def work() -> None:
        for _ in range(30):
            crew.ack(crew.claim(limit=2))

    def fill() -> None:
        for _ in range(30):
            other.stats()
            other.enqueue_many([("b", {})] * 100, queue="other")

    with ThreadPoolExecutor(3) as threads:
        for part in [threads.submit(part) for part in (produce, work, fill)]:
            part.result(30)
    assert [thresholds(client) for client in (producer, crew, other)] == [{None}] * 3
    assert [queue.ready for queue in other.stats() if queue.queue == "other"] == [3_000]


@pytest.mark.direct("it compares with a connection that is straight")
def test_prepared_statements_are_used_where_they_may(
    make_client: Callable[..., Client], pgqueue_dsn: str, pgbouncer: Pooler
) -> None:
    """Straight to the server, and behind a pooler for which the caller vouches."""
    pooled = pgbouncer.through(pgqueue_dsn)
    targets = [(pgqueue_dsn, None), (pooled, True), (pooled, False), (pgqueue_dsn, False)]
    found = []
    for dsn, prepare in targets:
        client = make_client(dsn, prepare=prepare)
        client.enqueue("a")
        found.append(thresholds(client))
    assert found == [{5}, {5}, {None}, {None}]


def test_session_that_ends_during_a_copy_is_told(
    make_client: Callable[..., Client],
    pgqueue_dsn: str,
    pgbouncer: Pooler,
    sql: Callable[..., Any],
) -> None:
    """By its own name, although psycopg stumbles over what the pooler adds to the server's word."""
    client = make_client(pgbouncer.through(pgqueue_dsn))
    sql(
        "create function die() returns trigger language plpgsql as "
        "'begin perform pg_terminate_backend(pg_backend_pid()); perform pg_sleep(5); end'"
    )
    sql("create trigger die before insert on pgqueue.job for each row execute function die()")
    with pytest.raises(DatabaseUnavailable):
        client.enqueue_many([("a", {})] * 200)
    sql("drop trigger die on pgqueue.job")

    def broken() -> Iterator[tuple[str, dict[str, int]]]:
        yield from [("a", {"n": n}) for n in range(2_500)]
        raise ValueError("the caller's own")

    with pytest.raises(ValueError, match="the caller's own"):
        client.enqueue_many(broken())
    assert client.enqueue_many([("a", {})] * 200).duplicates == 0
