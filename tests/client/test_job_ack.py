"""`Job.ack`, whose control is the client that claimed the job."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

import pgqueue
from pgqueue import AsyncClient, Client, JobState


def test_job_is_acked_in_the_handlers_transaction(pgqueue_client: Client) -> None:
    """With a sync client: at once."""
    pgqueue_client.enqueue("a")
    (job,) = pgqueue_client.claim()
    with psycopg.connect(pgqueue_client.dsn) as conn:
        assert job.ack(conn=conn, result=[1]) is None
        assert pgqueue_client.get(job.id).state is JobState.CLAIMED
    assert pgqueue_client.get(job.id).result == [1]
    assert not job.cancel_requested


def test_job_is_acked_in_the_async_handlers_transaction(pgqueue_async_client: AsyncClient) -> None:
    """With an async client: when awaited."""

    async def main() -> None:
        async with pgqueue_async_client as client:
            await client.enqueue("a")
            (job,) = await client.claim()
            async with await psycopg.AsyncConnection.connect(client.dsn) as conn:
                acked = job.ack(conn=conn, result=[1])
                assert acked is not None
                await acked
            assert (await client.get(job.id)).result == [1]
            assert not job.cancel_requested

    asyncio.run(main())


def test_job_of_no_client_cannot_ack_itself(pgqueue_client: Client) -> None:
    """A job that was made by hand has nobody to ask."""
    pgqueue_client.enqueue("a")
    statement = pgqueue_client.statements.claim(
        ["default"], 1, pgqueue.models.DEFAULT_LEASE, None, None, None
    )
    (job,) = pgqueue_client.driver.run(statement)
    with pytest.raises(pgqueue.ConfigurationError, match=r"client\.ack"):
        job.ack(conn=None)
    assert not job.cancel_requested
    pgqueue_client.ack(job)
