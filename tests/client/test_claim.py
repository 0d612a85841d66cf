"""Claim jobs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest

import pgqueue
from pgqueue import Client, JobState, NewJob
from pgqueue.floors import RESCAN_SECONDS
from pgqueue.testing import travel


def payloads(jobs: list[pgqueue.Job[Any]]) -> list[Any]:
    """What the jobs carry."""
    return [job.payload for job in jobs]


def test_empty_queue_gives_no_jobs(client: Client) -> None:
    """Nothing is ready: an empty list, at once; so it is for a queue that never was."""
    assert client.claim() == []
    assert client.claim(["a", "b"], limit=1000) == []


def test_urgent_jobs_come_first_then_older_ones(client: Client) -> None:
    """Priority 0 before 9; within a priority, first in, first out."""
    priorities = [5, 9, 0, 5, 0]
    client.enqueue_many([NewJob("a", n, priority=p) for n, p in enumerate(priorities)])
    assert payloads(client.claim(limit=10)) == [2, 4, 0, 3, 1]


def test_no_priority_starves(client: Client) -> None:
    """While urgent jobs never run out, one claim in sixteen serves the oldest."""
    client.enqueue("old", priority=9)
    client.enqueue_many([NewJob("new", priority=0)] * 1000)
    for _ in range(500):
        if client.claim()[0].kind == "old":
            return
    pytest.fail("500 claims went to the urgent jobs")


def test_limit_is_kept(client: Client) -> None:
    """No more than asked for, however many are ready."""
    client.enqueue_many([("a", n) for n in range(250)])
    assert [len(client.claim(limit=100)) for _ in range(4)] == [100, 100, 50, 0]


def test_claimed_job_is_not_given_again(client: Client) -> None:
    """As long as its lease runs it is nobody else's."""
    client.enqueue("a")
    (job,) = client.claim(worker="me")
    assert client.claim() == []
    seen = client.get(job.id)
    assert (seen.state, seen.worker, seen.lease_until) == (JobState.CLAIMED, "me", job.lease_until)


def test_lease_counts_from_now(client: Client) -> None:
    """It is 30 s by default, else what is asked for."""
    client.enqueue_many([("a", 1), ("a", 2)])
    (one,) = client.claim()
    (two,) = client.claim(lease=timedelta(days=2, microseconds=3))
    assert one.lease_until - one.claimed_at == timedelta(seconds=30)
    assert two.lease_until - two.claimed_at == timedelta(days=2, microseconds=3)


def test_job_whose_lease_ran_out_runs_again(client: Client) -> None:
    """Maintenance gives it back after its backoff; the attempt counts."""
    client.enqueue("a", retry=pgqueue.Constant(timedelta(minutes=10), jitter=0))
    (first,) = client.claim()
    travel(client, timedelta(seconds=31))
    assert client.maintain().reaped == 1
    assert client.get(first.id).history[0].outcome == "expired"
    travel(client, timedelta(minutes=10))
    client.maintain()
    (second,) = client.claim()
    assert (second.id, second.attempt) == (first.id, 2)
    assert second.token != first.token
    assert second != first


def test_queues_are_served_in_their_order(client: Client) -> None:
    """The second queue is looked at only for what the first leaves of the limit."""
    client.enqueue_many([NewJob("a", n, queue=q) for n, q in enumerate("yxyx")])
    client.enqueue("a", 9, queue="z")
    # The oldest job's lane may come first: see test_no_priority_starves.
    claimed = [job.queue for job in client.claim(["x", "y"], limit=3)]
    assert sorted(claimed) in (["x", "x", "y"], ["x", "y", "y"])
    assert len(client.claim(["x", "y"], limit=3)) == 1


def test_only_the_kinds_asked_for_are_claimed(client: Client) -> None:
    """What a worker cannot run stays ready for one that can."""
    client.enqueue_many([("old", 1), ("new", 2), ("old", 3)])
    assert payloads(client.claim(kinds=["old"], limit=10)) == [1, 3]
    assert client.claim(kinds=[], limit=10) == []
    assert payloads(client.claim(kinds=["new", "other"], limit=10)) == [2]


def test_claim_in_the_callers_transaction_is_undone_with_it(
    client: Client, connect: Callable[..., psycopg.Connection[Any]]
) -> None:
    """The job is ready again, and its attempt is not counted."""
    client.enqueue("a")
    conn = connect()
    (job,) = client.claim(conn=conn)
    assert job.attempt == 1
    conn.rollback()
    (again,) = client.claim()
    assert (again.id, again.attempt) == (job.id, 1)


def test_threads_never_get_the_same_job(client: Client) -> None:
    """Four threads share the client; each job goes to one of them."""
    client.enqueue_many([("a", n) for n in range(400)])
    seen: list[int] = []

    def work() -> None:
        while jobs := client.claim(limit=7):
            seen.extend(job.payload for job in jobs)
            client.ack(jobs)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while jobs := client.claim(limit=100):  # a claim may miss what others hold locked
        seen.extend(job.payload for job in jobs)
    assert sorted(seen) == list(range(400))


def test_job_put_back_below_the_floor_is_found(client: Client) -> None:
    """A client remembers where its lanes begin; now and then it looks below, from the bottom."""
    seconds = 1000.0
    client._floors.clock = lambda: seconds
    client.enqueue_many([("a", n) for n in range(5000)])
    jobs = client.claim(limit=5000)
    client.release(jobs[0])
    client.ack(jobs[1:])
    assert client.claim() == []
    seconds += RESCAN_SECONDS
    assert client.claim()[0].id == jobs[0].id


def test_batch_that_is_committed_late_is_drained_without_pauses(
    client: Client, connect: Callable[..., psycopg.Connection[Any]]
) -> None:
    """The claim from the bottom that finds a part of it leads the next ones to the rest."""
    seconds = 1000.0
    client._floors.clock = lambda: seconds
    late = connect()
    client.enqueue_many([("late", n) for n in range(100)], conn=late)
    client.enqueue_many([("a", n) for n in range(5000)])
    client.ack(client.claim(limit=5000))
    late.commit()
    assert client.claim(limit=10) == []
    seconds += RESCAN_SECONDS
    drained = [len(client.claim(limit=10)) for _ in range(11)]
    assert drained == [10] * 10 + [0]


@pytest.mark.parametrize("hard", ["1e5000", "[" * 3000 + "]" * 3000])
def test_json_that_python_cannot_read_spoils_no_claim(
    client: Client, sql: Callable[..., Any], hard: str
) -> None:
    """Enqueued in SQL, it comes with the others, and is shown like them."""
    client.enqueue("a")
    query = "select id from pgqueue.enqueue('hard', %s::jsonb, metadata => %s::jsonb)"
    ((job_id,),) = sql(query, f'{{"x": {hard}}}', f'{{"y": {hard}}}')
    easy, job = client.claim(limit=2)
    assert (easy.payload, job.id) == ({}, job_id)
    detail = client.get(job_id)
    for value in (job.payload["x"], job.metadata["y"], detail.payload["x"], detail.metadata["y"]):  # type: ignore[index]
        assert (value == 10**5000) if hard == "1e5000" else isinstance(value[0][0], list)
    assert len(client.list()) == 2
    client.ack([easy, job])


def test_claims_alone_do_not_wait_for_the_disk(
    client: Client, connect: Callable[..., Any], sql: Callable[..., Any]
) -> None:
    """A crash may undo a claim without harm. All else is kept, the caller's transaction as well."""
    sql("create table public.seen (what text, how text)")
    sql(
        "create function public.see() returns trigger language plpgsql as $$ begin "
        "insert into public.seen values (tg_op, current_setting('synchronous_commit')); "
        "return null; end $$"
    )
    sql("create trigger see after insert or update or delete on pgqueue.job "
        "for each row execute function public.see()")  # fmt: skip
    client.enqueue("a")
    (job,) = client.claim()
    client.release(job)
    conn = connect()
    (job,) = client.claim(conn=conn)
    conn.commit()
    client.ack(job)
    assert sql("select what, how from public.seen") == [
        ("INSERT", "on"), ("UPDATE", "off"), ("UPDATE", "on"), ("UPDATE", "on"), ("DELETE", "on"),
    ]  # fmt: skip
