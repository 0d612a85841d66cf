"""Time travel in the database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import pgqueue
from pgqueue import AsyncClient, Client, JobState, Maintenance
from pgqueue.testing import stop_travelling, travel

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
CLOSE = timedelta(seconds=20)


def offset(client: Client) -> timedelta:
    """How far the database's clock is ahead, as an enqueue sees it."""
    job = client.get(client.enqueue("a").id)
    return job.enqueued_at - datetime.now(timezone.utc)


def test_travels_add_up(pgqueue_client: Client) -> None:
    """There and back, with a client or a DSN."""
    travel(pgqueue_client, HOUR)
    assert abs(offset(pgqueue_client) - HOUR) < CLOSE
    travel(pgqueue_client.dsn, 2 * HOUR)
    assert abs(offset(pgqueue_client) - 3 * HOUR) < CLOSE
    travel(pgqueue_client, -4 * HOUR)
    assert abs(offset(pgqueue_client) + HOUR) < CLOSE
    stop_travelling(pgqueue_client)
    assert abs(offset(pgqueue_client)) < CLOSE


def test_travels_add_up_exactly(pgqueue_client: Client) -> None:
    """The time that passes meanwhile is not counted twice."""
    for _ in range(20):
        travel(pgqueue_client, MINUTE)
    with psycopg.connect(pgqueue_client.dsn) as conn:
        row = conn.execute("select pgqueue.clock() - clock_timestamp()").fetchone()
    assert row is not None
    assert abs(row[0] - 20 * MINUTE) < timedelta(milliseconds=30)


def test_clock_goes_on(pgqueue_client: Client) -> None:
    """It is moved, not stopped."""
    travel(pgqueue_client, HOUR)
    first = pgqueue_client.get(pgqueue_client.enqueue("a").id)
    second = pgqueue_client.get(pgqueue_client.enqueue("a").id)
    assert second.enqueued_at > first.enqueued_at


def test_jobs_fall_due_and_leases_run_out(pgqueue_client: Client) -> None:
    """What a test travels for."""
    later = pgqueue_client.enqueue("later", delay=HOUR).id
    pgqueue_client.enqueue("now")
    (claimed,) = pgqueue_client.claim()
    travel(pgqueue_client, HOUR)
    assert pgqueue_client.maintain() == Maintenance(promoted=1, reaped=1, next_run_at=None) or (
        pgqueue_client.get(claimed.id).state is JobState.SCHEDULED
    )
    assert pgqueue_client.get(later).state is JobState.READY
    assert pgqueue_client.get(claimed.id).history[0].outcome == "expired"


def test_maintenance_works_after_a_journey_back(pgqueue_client: Client) -> None:
    """What it did in the future does not keep it from working now."""
    travel(pgqueue_client, 30 * MINUTE)
    pgqueue_client.maintain()
    stop_travelling(pgqueue_client)
    job_id = pgqueue_client.enqueue("a", delay=timedelta(microseconds=1)).id
    pgqueue_client.maintain()
    assert pgqueue_client.get(job_id).state is JobState.READY


def test_async_client_travels_too(pgqueue_async_client: AsyncClient) -> None:
    """From within its event loop, between two awaits."""

    async def main() -> None:
        async with pgqueue_async_client as client:
            job_id = (await client.enqueue("a", delay=HOUR)).id
            travel(client, HOUR)
            await client.maintain()
            assert (await client.get(job_id)).state is JobState.READY

    asyncio.run(main())


def test_each_schema_has_its_own_clock(pgqueue_client: Client) -> None:
    """Only the client's, or the one that is named with a DSN."""
    with Client(pgqueue_client.dsn, schema="Other") as other:
        other.migrate()
        travel(other, HOUR)
        travel(pgqueue_client.dsn, HOUR, schema="Other")
        assert abs(offset(other) - 2 * HOUR) < CLOSE
        assert abs(offset(pgqueue_client)) < CLOSE


@contextmanager
def foreign_database(dsn: str) -> Iterator[str]:
    """A database that the fixtures did not make, though its name says so."""
    name = "pgqueue_test_foreign"
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(f"create database {name}".encode())
        yield make_conninfo(dsn, dbname=name)
        conn.execute(f"drop database {name} with (force)".encode())


def test_databases_of_others_are_left_alone(pgqueue_server_dsn: str) -> None:
    """Unless the caller says that this is what is meant."""
    with foreign_database(pgqueue_server_dsn) as dsn, Client(dsn) as client:
        client.migrate()
        with pytest.raises(pgqueue.ConfigurationError, match="'pgqueue_test_foreign' was not made"):
            travel(client, HOUR)
        with pytest.raises(pgqueue.ConfigurationError, match="any_database=True"):
            stop_travelling(dsn)
        assert abs(offset(client)) < CLOSE
        travel(client, HOUR, any_database=True)
        assert abs(offset(client) - HOUR) < CLOSE
        stop_travelling(client, any_database=True)
        assert abs(offset(client)) < CLOSE
