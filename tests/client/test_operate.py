"""Cancel, retry, redrive, purge, pause and maintain."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest

import pgqueue
from pgqueue import Client, JobState, NewJob
from pgqueue.testing import travel

MINUTE = timedelta(minutes=1)
LONG_AGO = datetime(2001, 1, 1, tzinfo=timezone.utc)


def die(client: Client, kind: str = "a", **options: Any) -> int:
    """A dead job's id."""
    job_id = client.enqueue(kind, max_attempts=1, **options).id
    client.fail(client.claim(options.get("queue", "default"), kinds=[kind]), "why")
    assert client.get(job_id).state is JobState.DEAD
    return job_id


# Cancel


def test_waiting_jobs_are_cancelled_at_once(client: Client) -> None:
    """Ready or scheduled: they are finished, with the reason, and never run."""
    ready = client.enqueue("a").id
    scheduled = client.enqueue("a", delay=MINUTE).id
    cancelled = client.cancel([ready, scheduled], "not wanted \0")
    assert cancelled == dict.fromkeys([ready, scheduled], JobState.CANCELLED)
    seen = client.get(ready)
    assert (seen.state, seen.history[-1].error) == (JobState.CANCELLED, "not wanted ␀")
    assert client.claim(limit=9) == []


def test_running_job_is_asked_to_stop(client: Client) -> None:
    """It stays claimed, and whoever holds it learns of it when extending the lease."""
    client.enqueue("a")
    (job,) = client.claim()
    assert client.cancel(job.id) == {job.id: JobState.CLAIMED}
    assert client.get(job.id).cancel_requested
    assert client.extend(job) == {job.id: True}
    client.fail(job, "stopped")
    assert client.get(job.id).state is JobState.CANCELLED


def test_running_job_may_finish_all_the_same(client: Client) -> None:
    """Whoever does not heed the request has done the work."""
    client.enqueue("a")
    (job,) = client.claim()
    client.cancel(job.id)
    client.ack(job)
    assert client.get(job.id).state is JobState.SUCCEEDED


def test_finished_and_unknown_jobs_are_not_cancelled(client: Client) -> None:
    """They are missing from the answer."""
    client.enqueue("a")
    (job,) = client.claim()
    client.ack(job)
    assert client.cancel([job.id, 12345]) == {}
    assert client.cancel([]) == {}


def test_cancelled_job_frees_its_key(client: Client) -> None:
    """A new one may hold it."""
    first = client.enqueue("a", dedupe_key="k").id
    client.cancel(first)
    assert not client.enqueue("a", dedupe_key="k").duplicate


def test_all_jobs_of_a_ref_are_cancelled(client: Client) -> None:
    """Waiting ones at once, running ones on request; those of other refs go on."""
    running = client.enqueue("a", ref="user:7").id
    client.claim()
    waiting = client.enqueue("b", ref="user:7", queue="q").id
    other = client.enqueue("a", ref="user:8").id
    assert client.cancel_ref("user:7", "gone") == 2
    assert client.get(running).cancel_requested
    assert client.get(waiting).state is JobState.CANCELLED
    assert client.get(other).state is JobState.READY
    assert client.cancel_ref("nobody") == 0


# Retry and redrive


def test_dead_job_runs_again_with_all_its_attempts(client: Client) -> None:
    """It keeps its id, payload and history."""
    dead = die(client, payload={"n": 1}, tags=["t"], ref="r", metadata={"m": 1})
    assert client.retry(dead) == [dead]
    (job,) = client.claim()
    assert (job.id, job.attempt, job.payload) == (dead, 1, {"n": 1})
    assert (job.tags, job.ref, job.metadata) == (["t"], "r", {"m": 1})
    assert client.get(dead).history[0].error == "why"


@pytest.mark.parametrize("state", ["succeeded", "skipped", "cancelled"])
def test_finished_job_runs_again(client: Client, state: str) -> None:
    """Whatever became of it the first time."""
    job_id = client.enqueue("a").id
    if state == "cancelled":
        client.cancel(job_id)
    else:
        (client.ack if state == "succeeded" else client.skip)(client.claim())
    assert client.get(job_id).state == state
    assert client.retry([job_id]) == [job_id]
    assert client.claim()[0].id == job_id


def test_waiting_job_is_ready_at_once(client: Client) -> None:
    """It need not wait for its time or its backoff."""
    later = client.enqueue("a", delay=MINUTE).id
    assert client.retry(later) == [later]
    assert client.claim()[0].id == later


def test_claimed_and_unknown_jobs_are_not_retried(client: Client) -> None:
    """They are missing from the answer."""
    client.enqueue("a")
    (job,) = client.claim()
    assert client.retry([job.id, 12345]) == []
    assert client.retry([]) == []


def test_job_whose_key_is_taken_is_not_retried(client: Client) -> None:
    """It stays dead, and can be retried when the key is free."""
    dead = die(client, dedupe_key="k")
    holder = client.enqueue("a", dedupe_key="k").id
    other = die(client, "b")
    assert client.retry([dead, other]) == [other]
    assert client.get(dead).state is JobState.DEAD
    client.cancel(holder)
    assert client.retry(dead) == [dead]


def test_redrive_takes_the_longest_dead_first(client: Client) -> None:
    """As many as asked for, of a queue or a kind or of all."""
    one, two, three = (die(client), die(client, queue="q"), die(client, "b"))
    assert client.redrive(limit=2) == 2
    assert client.get(three).state is JobState.DEAD
    client.cancel([one, two])
    assert client.redrive("q") == 0
    assert client.redrive(kind="a") == 0
    assert client.redrive("default", kind="b") == 1
    assert client.get(three).state is JobState.READY


# Purge


def test_purge_deletes_waiting_jobs_of_one_queue(client: Client) -> None:
    """Claimed ones, finished ones and those of other queues stay."""
    client.enqueue_many([("done", 1), ("running", 1)])
    client.ack(client.claim(kinds=["done"]))
    client.claim(kinds=["running"])
    client.enqueue_many([("a", 1), ("b", 1), NewJob("a", delay=MINUTE), NewJob("a", queue="q")])
    assert client.purge("default", kind="a") == 2
    assert client.purge("default") == 1
    assert sorted(job.kind for job in client.list()) == ["a", "done", "running"]


def test_purge_is_bounded(client: Client) -> None:
    """It deletes up to its limit, so that it can be repeated."""
    client.enqueue_many([("a", 1)] * 25)
    assert [client.purge("default", limit=10) for _ in range(4)] == [10, 10, 5, 0]


# Pause


def test_paused_queue_gives_no_jobs_until_resumed(client: Client) -> None:
    """Enqueues are stored, running jobs go on, other queues are served."""
    client.enqueue_many([("a", 1), ("a", 2), NewJob("a", queue="q")])
    (running,) = client.claim()
    client.pause("default", reason="broken \0")
    client.pause("default")
    client.enqueue("a", 3)
    client.ack(running)
    assert [job.queue for job in client.claim(["default", "q"], limit=9)] == ["q"]
    assert client.resume("default")
    assert len(client.claim(limit=9)) == 2
    assert not client.resume("default")
    assert not client.resume("never-heard-of")


def test_pause_may_end_by_itself(client: Client) -> None:
    """At a time, by the database's clock."""
    client.enqueue("a")
    client.pause("default", until=datetime.now(timezone.utc) + timedelta(minutes=5))
    assert client.claim() == []
    travel(client, timedelta(minutes=6))
    assert len(client.claim()) == 1
    assert not client.resume("default")


def test_pause_until_the_past_is_none(client: Client) -> None:
    """It is over before it begins."""
    client.enqueue("a")
    client.pause("default", until=LONG_AGO)
    assert len(client.claim()) == 1


# Maintain


def test_maintain_tells_what_it_did_and_what_is_next(client: Client) -> None:
    """Promoted and reaped jobs are counted, and the next due time is known."""
    client.enqueue_many([("a", 1), NewJob("a", delay=MINUTE), NewJob("a", delay=4 * MINUTE)])
    client.claim()
    last = client.list(limit=1)[0].run_at
    travel(client, 2 * MINUTE)
    assert client.maintain() == pgqueue.Maintenance(promoted=1, reaped=1, next_run_at=last)
    assert client.maintain().next_run_at is not None


def test_operations_join_the_callers_transaction(client: Client, connect: Any) -> None:
    """What is rolled back did not happen."""
    dead = die(client)
    waiting = client.enqueue("a", ref="r").id
    client.pause("paused")
    conn: psycopg.Connection[Any] = connect()
    before = (client.list(), client.stats()[1:])
    assert client.cancel(waiting, conn=conn)
    assert client.retry(dead, conn=conn)
    conn.rollback()
    assert client.cancel_ref("r", conn=conn) == 1
    assert client.redrive(conn=conn) == 1
    client.pause("default", conn=conn)
    assert client.resume("paused", conn=conn)
    conn.rollback()
    assert client.purge("default", conn=conn) == 1
    client.maintain(conn=conn)
    conn.rollback()
    assert (client.list(), client.stats()[1:]) == before
