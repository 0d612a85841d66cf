"""Enqueue one job."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

import pgqueue
from pgqueue import Client, EnqueueResult, JobState
from pgqueue.testing import travel

MINUTE = timedelta(minutes=1)


def test_enqueued_job_is_claimed_with_all_that_was_given(client: Client) -> None:
    """Every option is stored, and comes back with the claim."""
    payload: pgqueue.Json = {
        "to": "ä@b.c",
        "list": [1, 2.5, None, True],
        "deep": {"\\u0000": "\U0001f40d"},
    }
    added = client.enqueue(
        "email.send",
        payload,
        queue="mail/out",
        priority=3,
        max_attempts=7,
        dedupe_key="k",
        tags=["a", "b,c", '"'],
        metadata={"trace": "x"},
        ref="user:7",
    )
    (job,) = client.claim("mail/out", worker="me")
    assert added == EnqueueResult(job.id, duplicate=False)
    assert (job.kind, job.payload, job.queue, job.priority) == (
        "email.send",
        payload,
        "mail/out",
        3,
    )
    assert (job.attempt, job.max_attempts, job.dedupe_key) == (1, 7, "k")
    assert (job.tags, job.metadata, job.ref) == (["a", "b,c", '"'], {"trace": "x"}, "user:7")
    assert job.claimed_at - job.enqueued_at < MINUTE
    assert job.run_at == job.enqueued_at


def test_defaults(client: Client) -> None:
    """Without options: queue default, priority 5, 20 attempts, an empty object."""
    client.enqueue("a")
    (job,) = client.claim()
    assert (job.queue, job.priority, job.max_attempts, job.payload) == ("default", 5, 20, {})
    assert (job.dedupe_key, job.tags, job.metadata, job.ref) == (None, None, None, None)


@pytest.mark.parametrize("payload", [0, False, "", [], {}, 1.5, "text", [None]])
def test_payload_may_be_any_json(client: Client, payload: pgqueue.Json) -> None:
    """Values that are false count as payloads, too."""
    client.enqueue("a", payload)
    (job,) = client.claim()
    assert job.payload == payload
    assert type(job.payload) is type(payload)


def test_delayed_job_is_ready_when_its_time_comes(client: Client) -> None:
    """The delay counts by the database's clock; maintenance makes the job ready."""
    job_id = client.enqueue("a", delay=timedelta(days=1)).id
    assert client.get(job_id).state is JobState.SCHEDULED
    travel(client, timedelta(hours=23, minutes=59))
    client.maintain()
    assert client.claim() == []
    travel(client, MINUTE)
    assert client.maintain().promoted == 1
    (job,) = client.claim()
    assert job.id == job_id


def test_a_day_of_delay_is_24_hours(client: Client, sql: Callable[..., Any]) -> None:
    """Also where the database's time zone has days of 23 and 25 hours."""
    sql("do $$ begin execute format('alter database %I set timezone to ''Europe/Berlin''', "
        "current_database()); end $$")  # fmt: skip
    delays = [timedelta(days=days) for days in range(0, 400, 50)]
    for delay in delays:
        client.enqueue("a", delay=delay)
    client.enqueue_many([pgqueue.NewJob("a", delay=delay) for delay in delays])
    client.enqueue_many([pgqueue.NewJob("a", delay=delay) for delay in delays * 20])
    rows = sql("select extract(epoch from run_at - enqueued_at) from pgqueue.job order by id")
    seconds = [delay.total_seconds() for delay in delays * 22]
    assert [row[0] for row in rows] == seconds


def test_run_at_may_be_in_any_zone(client: Client) -> None:
    """It is one instant, wherever it was written."""
    zone = timezone(timedelta(hours=-5, minutes=-30))
    late = datetime(2040, 1, 1, tzinfo=zone)
    past = datetime(2001, 1, 1, tzinfo=zone)
    late_id = client.enqueue("a", run_at=late).id
    past_id = client.enqueue("a", run_at=past).id
    assert client.get(late_id).run_at == late
    (job,) = client.claim(limit=2)
    assert (job.id, job.run_at) == (past_id, past)


def test_retry_policy_decides_the_backoff(client: Client) -> None:
    """The delay after a fail is that of the job's own policy."""
    client.enqueue("a", retry=pgqueue.Constant(timedelta(hours=5), jitter=0))
    (job,) = client.claim()
    client.fail(job)
    after = client.get(job.id)
    assert after.state is JobState.SCHEDULED
    ended = after.history[0].ended
    assert ended is not None
    assert after.run_at - ended == timedelta(hours=5)


# Dedupe keys


@pytest.mark.parametrize("until", ["start", "finish"])
def test_second_enqueue_of_a_key_returns_the_first_job(
    client: Client, until: pgqueue.models.DedupeUntil
) -> None:
    """While it waits, both scopes hold the key."""
    first = client.enqueue("a", {"n": 1}, dedupe_key="k", dedupe_until=until)
    second = client.enqueue("a", {"n": 2}, dedupe_key="k", dedupe_until=until)
    assert (first.duplicate, second) == (False, EnqueueResult(first.id, duplicate=True))
    (job,) = client.claim(limit=2)
    assert job.payload == {"n": 1}


def test_key_until_start_is_free_once_the_job_runs(client: Client) -> None:
    """A next job may wait while the first one runs, and it is the only one that may."""
    first = client.enqueue("a", dedupe_key="k", dedupe_until="start")
    client.claim()
    second = client.enqueue("a", dedupe_key="k", dedupe_until="start")
    third = client.enqueue("a", dedupe_key="k", dedupe_until="start")
    assert second.id != first.id
    assert third == EnqueueResult(second.id, duplicate=True)


def test_key_until_finish_is_held_by_the_running_job(client: Client) -> None:
    """It is free once the job is acked."""
    first = client.enqueue("a", dedupe_key="k")
    (job,) = client.claim()
    assert client.enqueue("a", dedupe_key="k") == EnqueueResult(first.id, duplicate=True)
    client.ack(job)
    assert not client.enqueue("a", dedupe_key="k").duplicate


def test_key_is_held_during_backoff(client: Client) -> None:
    """A failed job still is to run, so its key is taken."""
    first = client.enqueue("a", dedupe_key="k")
    client.fail(client.claim())
    assert client.enqueue("a", dedupe_key="k") == EnqueueResult(first.id, duplicate=True)


def test_failed_job_whose_key_was_taken_makes_way(client: Client) -> None:
    """With scope start another may wait by then; that one stands for both."""
    first = client.enqueue("a", dedupe_key="k", dedupe_until="start")
    jobs = client.claim()
    second = client.enqueue("a", dedupe_key="k", dedupe_until="start")
    client.fail(jobs)
    old = client.get(first.id)
    assert old.state is JobState.SKIPPED
    assert old.history[-1].outcome == "superseded"
    assert client.get(second.id).state is JobState.READY


def test_keys_are_per_kind(client: Client) -> None:
    """Another kind may have the same key, in the same queue."""
    client.enqueue("a", dedupe_key="k")
    assert not client.enqueue("b", dedupe_key="k").duplicate


def test_key_may_be_long(client: Client) -> None:
    """Longer than a B-tree entry can be, and different at the very end only."""
    key = "ä" * 1_000_000
    first = client.enqueue("a", dedupe_key=key + "1")
    assert client.enqueue("a", dedupe_key=key + "1").id == first.id
    assert not client.enqueue("a", dedupe_key=key + "2").duplicate


def test_conflict_replace_debounces(client: Client) -> None:
    """The waiting job takes over payload, time and options; it stays the same job."""
    first = client.enqueue("a", {"n": 1}, dedupe_key="k", delay=MINUTE)
    second = client.enqueue(
        "a", {"n": 2}, dedupe_key="k", on_conflict="replace", priority=1, queue="q", ref="r"
    )
    assert second == EnqueueResult(first.id, duplicate=True)
    (job,) = client.claim("q")
    assert (job.id, job.payload, job.priority, job.ref) == (first.id, {"n": 2}, 1, "r")


def test_conflict_replace_leaves_a_running_job_alone(client: Client) -> None:
    """What runs keeps what it started with."""
    first = client.enqueue("a", {"n": 1}, dedupe_key="k")
    client.claim()
    second = client.enqueue("a", {"n": 2}, dedupe_key="k", on_conflict="replace")
    assert second == EnqueueResult(first.id, duplicate=True)
    assert client.get(first.id).payload == {"n": 1}


def test_conflict_replace_may_put_a_ready_job_off(client: Client) -> None:
    """A debounced job waits again from the last enqueue on."""
    first = client.enqueue("a", dedupe_key="k")
    client.enqueue("a", dedupe_key="k", on_conflict="replace", delay=MINUTE)
    assert client.get(first.id).state is JobState.SCHEDULED
    assert client.claim() == []


def test_conflict_raise_names_the_holder(client: Client) -> None:
    """Nothing is stored, and the message says which job holds the key."""
    first = client.enqueue("a", dedupe_key="k")
    with pytest.raises(pgqueue.DuplicateJob, match=f"job {first.id} holds the dedupe key k"):
        client.enqueue("a", dedupe_key="k", on_conflict="raise")
    assert len(client.list()) == 1


def test_racing_producers_store_a_key_once(client: Client, connect: Any) -> None:
    """Half of them roll back, and take neither the key nor the job of the others with them."""
    results: list[pgqueue.EnqueueResult] = []
    barrier = threading.Barrier(6)

    def produce(n: int) -> None:
        conn = connect()
        for key in range(10):
            barrier.wait()
            result = client.enqueue("a", dedupe_key=str(key), conn=conn)
            if n % 2:
                conn.rollback()
            else:
                conn.commit()
                results.append(result)

    threads = [threading.Thread(target=produce, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stored = {job.dedupe_key: job.id for job in client.list()}
    assert stored.keys() == {str(key) for key in range(10)}
    assert len(results) == 30
    assert {result.id for result in results} == set(stored.values())
    assert sum(not result.duplicate for result in results) == 10


# What cannot be stored


def test_payload_over_the_cap_is_refused(client: Client) -> None:
    """256 KiB as Postgres writes it; the message says what to do."""
    client.enqueue("a", "x" * (256 * 1024 - 2))
    with pytest.raises(pgqueue.PayloadTooLarge, match="store the data elsewhere"):
        client.enqueue("a", "x" * (256 * 1024 - 1))
    assert len(client.list()) == 1


def test_schema_may_allow_larger_payloads(client: Client, sql: Callable[..., Any]) -> None:
    """The cap is a setting of the schema."""
    sql("update pgqueue.setting set max_payload_bytes = 3000000")
    client.enqueue("a", "x" * 2_000_000)
    (job,) = client.claim()
    assert len(job.payload) == 2_000_000


@pytest.mark.parametrize(
    "options",
    [
        {"delay": timedelta.max},
        {"delay": timedelta(days=365 * 8_000)},
        {"run_at": datetime.max.replace(tzinfo=timezone.utc)},
        {"run_at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))},
        {"run_at": datetime.min.replace(tzinfo=timezone.utc)},
        {"run_at": datetime.min.replace(tzinfo=timezone(timedelta(hours=5)))},
    ],
)
def test_time_out_of_range_is_refused(client: Client, options: dict[str, Any]) -> None:
    """A time that a client could not read back never gets into the table, by none of three ways."""
    with pytest.raises(pgqueue.InvalidJob):
        client.enqueue("a", **options)
    for count in (1, 200):
        with pytest.raises(pgqueue.InvalidJob):
            client.enqueue_many([pgqueue.NewJob("a", **options)] * count)
    assert client.list() == []


def test_payload_nested_too_deeply_is_refused(client: Client) -> None:
    """Whether Python or Postgres gives up first."""
    payload: list[Any] = []
    for _ in range(100_000):
        payload = [payload]
    with pytest.raises(pgqueue.PayloadError):
        client.enqueue("a", payload)
