"""Assertions about what is in the queue."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta

import psycopg
import pytest

from pgqueue import AsyncClient, Client, NewJob
from pgqueue.testing import assert_enqueued, assert_not_enqueued, enqueued


@pytest.fixture
def client(pgqueue_client: Client) -> Client:
    """A queue with a few jobs."""
    pgqueue_client.enqueue_many(
        [
            NewJob("mail", {"to": "a@b.c", "cc": ["x", "y"]}, queue="out", ref="user:1"),
            NewJob("mail", {"to": "d@e.f"}, delay=timedelta(hours=1)),
            NewJob("other"),
            NewJob("done", {"to": "a@b.c"}),
        ]
    )
    pgqueue_client.ack(pgqueue_client.claim(kinds=["done"]))
    pgqueue_client.claim(kinds=["other"])
    return pgqueue_client


def test_enqueued_gives_unfinished_jobs_that_fit(client: Client) -> None:
    """Scheduled, ready and claimed ones, oldest first; by each filter, and by all."""
    assert [job.kind for job in enqueued(client)] == ["mail", "mail", "other"]
    assert [job.payload["to"] for job in enqueued(client, "mail")] == ["a@b.c", "d@e.f"]
    assert len(enqueued(client, queue="out")) == 1
    assert len(enqueued(client, payload={"to": "a@b.c"})) == 1
    assert len(enqueued(client, payload={"cc": ["y"]})) == 1
    assert len(enqueued(client, ref="user:1")) == 1
    assert enqueued(client, "mail", queue="out", ref="user:2") == []


def test_assert_enqueued_gives_the_last_job_that_fits(client: Client) -> None:
    """For more assertions about it."""
    assert assert_enqueued(client, "mail").payload == {"to": "d@e.f"}
    assert_enqueued(client, "mail", count=2)
    assert_enqueued(client, "mail", queue="out", payload={"to": "a@b.c"}, ref="user:1", count=1)


@pytest.mark.parametrize(
    "filters, told",
    [
        ({"kind": "done"}, "expected at least one job with kind='done', found 0"),
        ({"kind": "mail", "count": 1}, "expected 1 job with kind='mail', found 2"),
        ({"kind": "mail", "count": 3}, "expected 3 jobs with kind='mail', found 2"),
        ({"kind": "mail", "payload": {"to": "z"}}, "kind='mail', payload={'to': 'z'}, found 0"),
    ],
)
def test_failed_assertion_lists_what_there_is(
    client: Client, filters: dict[str, object], told: str
) -> None:
    """It says what was expected, and shows the queue."""
    with pytest.raises(AssertionError, match=re.escape(told)) as caught:
        assert_enqueued(client, **filters)  # type: ignore[arg-type] # of several types
    lines = str(caught.value).splitlines()
    assert lines[1:] == [
        "  ready mail in out: {'cc': ['x', 'y'], 'to': 'a@b.c'}",
        "  scheduled mail in default: {'to': 'd@e.f'}",
        "  claimed other in default: {}",
    ]


def test_assert_not_enqueued(client: Client) -> None:
    """Finished jobs are not in the queue; without filters the queue must be empty."""
    assert_not_enqueued(client, "done")
    assert_not_enqueued(client, "mail", queue="nowhere")
    with pytest.raises(AssertionError, match="expected no job with kind='mail', found 2"):
        assert_not_enqueued(client, "mail")
    with pytest.raises(AssertionError, match="expected no job at all, found 3"):
        assert_not_enqueued(client)


def test_empty_and_long_queues_are_shown(pgqueue_client: Client) -> None:
    """Not more than twenty jobs are listed."""
    with pytest.raises(AssertionError, match="there are no unfinished jobs"):
        assert_enqueued(pgqueue_client, "a")
    pgqueue_client.enqueue_many([("b", {"x": "y" * 1000})] * 23)
    with pytest.raises(AssertionError) as caught:
        assert_enqueued(pgqueue_client, "a")
    lines = str(caught.value).splitlines()
    assert len(lines) == 22
    assert len(lines[1]) < 250
    assert lines[-1] == "  and 3 more"


def test_jobs_of_an_open_transaction_are_seen_on_its_connection(pgqueue_client: Client) -> None:
    """Where a test rolls everything back, nothing is ever committed."""
    with psycopg.connect(pgqueue_client.dsn) as conn:
        pgqueue_client.enqueue("a", conn=conn)
        assert_not_enqueued(pgqueue_client, "a")
        assert_enqueued(pgqueue_client, "a", conn=conn)
        with pytest.raises(AssertionError, match="ready a in default"):
            assert_not_enqueued(pgqueue_client, "a", conn=conn)
        conn.rollback()
        assert_not_enqueued(pgqueue_client, conn=conn)


def test_async_client_is_looked_at_without_await(pgqueue_async_client: AsyncClient) -> None:
    """In its loop, and after it."""

    async def main() -> None:
        await pgqueue_async_client.enqueue("a", {"n": 1})
        assert_enqueued(pgqueue_async_client, "a", payload={"n": 1})

    asyncio.run(main())
    assert_enqueued(pgqueue_async_client, "a", count=1)
