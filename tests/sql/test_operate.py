"""cancel(), retry(), redrive(), purge(), pause(), stats() and the view all_jobs."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Db

HOUR = timedelta(hours=1)


def test_cancel_ends_waiting_jobs_and_asks_running_ones(db: Db) -> None:
    """Finished and unknown ones are not mentioned."""
    claimed_id = db.enqueue()
    db.claim_one()
    ready, later = db.enqueue(), db.enqueue(delay=HOUR)
    rows = db.call("cancel", [later, -1, ready, claimed_id, ready], reason="no need")
    assert rows == [(claimed_id, "claimed"), (ready, "cancelled"), (later, "cancelled")]
    assert db.history(ready)[-1]["error"] == "no need"
    assert db.call("cancel", [ready, later]) == []
    assert db.call("cancel", None) == []


def test_cancelled_job_whose_worker_is_gone_ends_by_the_reaper(db: Db) -> None:
    """It does not run again."""
    db.enqueue()
    job = db.claim_one()
    db.call("cancel", [job.id])
    db.expire(job.id)
    assert db.value("reap") == 1
    assert db.state(job.id) == "cancelled"


def test_cancel_ref_cancels_what_refers(db: Db) -> None:
    """As a trigger on the parent's table would."""
    ids = [db.enqueue(ref="user:1") for _ in range(3)]
    other = db.enqueue(ref="user:2")
    assert db.value("cancel_ref", "user:1", "deleted") == 3
    assert [db.state(i) for i in ids] == ["cancelled"] * 3
    assert db.state(other) == "ready"
    assert db.value("cancel_ref", None) == 0


@pytest.mark.parametrize("state", ["succeeded", "dead", "cancelled", "skipped"])
def test_finished_job_runs_again_with_all_its_attempts(db: Db, state: str) -> None:
    """With its history; a token of its earlier life is worth nothing."""
    db.enqueue(payload={"a": 1}, max_attempts=1, dedupe_key="x", tags=["t"], ref="r", priority=2)
    job = db.claim_one()
    how = {"succeeded": "ack", "dead": "fail", "cancelled": "cancel_claimed", "skipped": "skip"}[
        state
    ]
    db.end(how, job)
    assert db.state(job.id) == state
    assert db.call("retry", [job.id, -1, job.id]) == [(job.id,)]
    assert db.rows("select from pgqueue.archive") == []
    assert db.end("ack", job) == [job.id]
    again = db.claim_one()
    assert (again.id, again.attempt, again.payload, again.priority) == (job.id, 1, {"a": 1}, 2)
    assert (again.tags, again.ref, again.dedupe_key) == (["t"], "r", "x")
    assert db.end("ack", job) == [job.id]
    assert db.end("ack", again) == []


def test_retry_makes_scheduled_jobs_ready_and_leaves_others(db: Db) -> None:
    """Returned are those that it changed."""
    claimed = db.enqueue()
    db.claim_one()
    ready, later = db.enqueue(), db.enqueue(delay=HOUR)
    assert db.call("retry", [claimed, ready, later]) == [(later,)]
    assert db.state(later) == "ready"


def test_two_retries_at_once_make_one_job(
    connect: Callable[..., Db], together: Callable[..., list[Any]]
) -> None:
    """Of many, in opposite orders, without a deadlock."""
    dbs = [connect(deadlock_timeout="5ms") for _ in range(4)]
    dbs[0].fill(200)
    jobs = dbs[0].claim(200)
    dbs[0].end("ack", *jobs)
    ids = [job.id for job in jobs]
    results = together(
        *(
            lambda db=db, n=n: db.call("retry", ids if n % 2 else ids[::-1])
            for n, db in enumerate(dbs)
        )
    )
    assert sorted(row[0] for rows in results for row in rows) == sorted(ids)
    assert dbs[0].one("select count(*) from pgqueue.job") == 200
    assert dbs[0].one("select count(*) from pgqueue.archive") == 0


def test_redrive_takes_dead_jobs_by_queue_and_kind(db: Db) -> None:
    """The oldest first, a number at a time."""
    for queue, kind in (("a", "x"), ("a", "y"), ("b", "x"), ("a", "x")):
        db.enqueue(kind, queue=queue, max_attempts=1)
        db.end("fail", db.claim_one(queue=queue))
    assert db.value("redrive", "nowhere") == 0
    assert db.value("redrive", "a", "x", 1) == 1
    assert db.state(1) == "ready"
    assert db.value("redrive", kind="x") == 2
    assert db.value("redrive") == 1
    assert db.value("redrive") == 0


def test_two_redrives_at_once_share_the_dead_jobs(connect: Callable[..., Db]) -> None:
    """The second one neither waits for those that the first has, nor counts them as its own."""
    db, other = connect(), connect(statement_timeout="3s")
    for _ in range(4):
        db.enqueue(max_attempts=1)
    db.end("fail", *db.claim(4))
    with db.transaction():
        assert db.value("redrive", count=2) == 2
        assert other.value("redrive", count=2) == 2
    assert other.one("select count(*) from pgqueue.job") == 2
    assert other.value("redrive", count=5) == 2


def test_purge_deletes_waiting_jobs_only(db: Db) -> None:
    """Up to a number, without a trace."""
    db.enqueue()
    job = db.claim_one()
    for n in range(6):
        db.enqueue("ab"[n % 2], delay=HOUR if n < 3 else None)
    other = db.enqueue(queue="other")
    assert db.value("purge", "default", "b") == 3
    assert db.value("purge", "default", count=2) == 2
    assert db.value("purge", "default", count=2) == 1
    assert db.value("purge", None) == 0
    assert [row.id for row in db.rows("select id from pgqueue.all_jobs order by id")] == [
        job.id,
        other,
    ]


def test_stats_count_by_queue_and_state(db: Db) -> None:
    """Paused queues are listed even if they are empty."""
    db.fill(4, "a")
    db.enqueue(queue="a", delay=HOUR)
    db.claim(1, "a")
    db.enqueue(queue="b", max_attempts=1)
    db.end("fail", db.claim_one(queue="b"))
    db.call("pause", "c")
    db.travel(minutes=5)
    a, b, c = db.call("stats")
    assert a[:5] == ("a", 3, 1, 1, 0)
    assert timedelta(minutes=5) <= a.oldest_wait < timedelta(minutes=6)
    assert b[:6] == ("b", 0, 0, 0, 1, None)
    assert c.queue == "c"
    assert c.paused_until is not None


def test_all_jobs_by_id_or_newest_first_reads_few_rows(db: Db) -> None:
    """The view is fast for what dashboards ask, with both tables full."""
    db.fill(20_000)
    db.end("ack", *db.claim(10_000))
    db.rows("analyze pgqueue.job")
    db.rows("analyze pgqueue.archive")
    for query in ("where id = 5", "where id = 15000", "order by id desc limit 50"):
        (plan,) = db.one(
            f"explain (analyze, buffers, format json) select id, state from pgqueue.all_jobs {query}"
        )
        assert plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"] < 250, query
