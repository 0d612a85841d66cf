"""ack(), skip(), cancel_claimed(), fail(), snooze(), release() and extend(): fenced, and safe to repeat."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Db

ENDS = ["ack", "skip", "cancel_claimed", "fail", "snooze", "release"]


def _end(db: Db, how: str, *jobs: Any) -> list[int]:
    named: dict[str, Any] = {}
    if how == "snooze":
        named["delays"] = [timedelta(hours=1)] * len(jobs)
    if how in ("skip", "cancel_claimed"):
        named["reasons"] = ["because"] * len(jobs)
    return db.end(how, *jobs, **named)


@pytest.mark.parametrize("how, state", [
    ("ack", "succeeded"), ("skip", "skipped"), ("cancel_claimed", "cancelled"),
    ("fail", "scheduled"), ("snooze", "scheduled"), ("release", "ready"),
])  # fmt: skip
def test_end_leads_to_its_state(db: Db, how: str, state: str) -> None:
    """And repeating it changes nothing."""
    db.enqueue()
    job = db.claim_one()
    for _ in range(2):
        assert _end(db, how, job) == []
        assert db.state(job.id) == state
    assert len(db.history(job.id)) == (0 if how in ("ack", "release") else 1)


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("lost_by", ["reaped", "claimed anew", "ended", "cancelled", "never ours"])
def test_end_by_a_lost_token_changes_nothing(db: Db, how: str, lost_by: str) -> None:
    """The job is as it was, and the id comes back."""
    db.enqueue()
    job = db.claim_one()
    if lost_by in ("reaped", "claimed anew"):
        db.expire(job.id)
        db.call("reap")
    if lost_by == "claimed anew":
        db.travel(hours=2)
        db.call("promote")
        db.claim_one()
    if lost_by == "ended":
        db.end("skip" if how == "ack" else "ack", job)
    if lost_by == "cancelled":
        # By the reaper, as the worker did not heed it.
        db.call("cancel", [job.id])
        db.expire(job.id)
        db.call("reap")
    if lost_by == "never ours":
        job = job._replace(token=job.token ^ 1)
    before = db.rows("select * from pgqueue.job"), db.rows("select * from pgqueue.archive")
    assert _end(db, how, job) == [job.id]
    assert db.call("extend", [job.id], [job.token], timedelta(hours=1)) == []
    assert (
        db.rows("select * from pgqueue.job"),
        db.rows("select * from pgqueue.archive"),
    ) == before


@pytest.mark.parametrize("how", [*ENDS, "extend"])
def test_late_end_counts_while_nobody_took_the_job(db: Db, how: str) -> None:
    """The lease ran out, but the token is still the last one."""
    db.enqueue()
    job = db.claim_one()
    db.expire(job.id)
    if how == "extend":
        assert len(db.call("extend", [job.id], [job.token], timedelta(hours=1))) == 1
        assert db.value("reap") == 0
    else:
        assert _end(db, how, job) == []


@pytest.mark.parametrize("how", ENDS)
def test_bulk_end_takes_ours_and_names_the_others(db: Db, how: str) -> None:
    """In any order, with ids twice, unknown ones and nulls."""
    db.fill(6)
    jobs = db.claim(6)
    gone, mine = jobs[0], jobs[1:]
    db.end("skip" if how == "ack" else "ack", gone)
    stranger = gone._replace(id=-7)
    mixed = [*mine, gone, stranger, *mine[:2]]
    random.shuffle(mixed)
    assert sorted(_end(db, how, *mixed)) == [-7, gone.id]
    assert db.one("select count(*) from pgqueue.job where lease_until is not null") == 0
    assert db.one("select count(*) from pgqueue.all_jobs") == 6
    assert _end(db, how) == []
    if how != "snooze":
        assert db.value(how, None, None) == []


def test_results_go_to_their_jobs(db: Db) -> None:
    """In whatever order they are given; null is none."""
    db.fill(20)
    jobs = db.claim(20)
    random.shuffle(jobs)
    results = [None if n % 5 == 0 else {"id": job.id} for n, job in enumerate(jobs)]
    assert db.end("ack", *jobs, results=Jsonb(results)) == []
    for job, result in zip(jobs, results, strict=True):
        assert db.one("select result from pgqueue.archive where id = %s", job.id) == result


def test_errors_and_delays_go_to_their_jobs(db: Db) -> None:
    """Delays override the backoff, where given."""
    db.fill(12)
    jobs = db.claim(12)
    random.shuffle(jobs)
    delays = [None if n % 3 == 0 else timedelta(hours=n) for n in range(12)]
    errors = [{"class": "E", "message": str(job.id)} for job in jobs]
    now = db.one("select pgqueue.clock()")
    assert db.end("fail", *jobs, errors=Jsonb(errors), delays=delays) == []
    for job, delay in zip(jobs, delays, strict=True):
        (entry,) = db.history(job.id)
        assert (entry["error"], entry["error_class"], entry["outcome"]) == (
            str(job.id),
            "E",
            "failed",
        )
        waits = db.job(job.id).run_at - now
        assert abs(waits - delay) < timedelta(seconds=5) if delay else waits <= timedelta(seconds=3)


def test_day_of_delay_has_24_hours(connect: Callable[..., Db]) -> None:
    """Also for retries and leases, whatever the session's time zone does in between."""
    db = connect(timezone="Europe/Paris")
    db.fill(2)
    failed, extended = db.claim(2, lease=timedelta(days=200))
    db.end("fail", failed, delays=[timedelta(days=200)])
    db.call("extend", [extended.id], [extended.token], timedelta(days=200))
    for column in ("run_at", "lease_until"):
        exact = db.one(
            f"select max({column}) between clock_timestamp() + interval '4799 hours 59 minutes' "
            "and clock_timestamp() + interval '4800 hours' from pgqueue.job"
        )
        assert exact


def test_history_is_bounded(db: Db) -> None:
    """Twenty attempts; of each error the class, the message's start and the traceback's end."""
    job_id = db.enqueue(max_attempts=100)
    error = [{"class": "C" * 999, "message": "m" * 9999, "traceback": "x" * 9999 + "end"}]
    for _ in range(23):
        db.end("fail", db.claim_one(), errors=Jsonb(error), delays=[timedelta(0)])
    history = db.history(job_id)
    assert [entry["attempt"] for entry in history] == list(range(4, 24))
    assert len(history[0]["error_class"]) == 200
    assert len(history[0]["error"]) == 1000
    assert len(history[0]["traceback"]) == 4000
    assert history[0]["traceback"].endswith("end")


@pytest.mark.parametrize("errors", [[None], ["text"], [5], [[]], [{"message": {"a": 1}}], []])
def test_odd_error_does_not_keep_the_attempt_from_ending(db: Db, errors: Any) -> None:
    """What is no object is left out."""
    db.enqueue()
    assert db.end("fail", db.claim_one(), errors=Jsonb(errors)) == []


def test_job_is_dead_after_its_last_attempt(db: Db) -> None:
    """By fail or by the reaper; the attempts are exactly as many as allowed."""
    for by_reaper in (False, True):
        job_id = db.enqueue(max_attempts=3)
        for attempt in range(1, 4):
            job = db.claim_one()
            assert job.attempt == attempt
            if by_reaper:
                db.expire(job.id)
                db.call("reap")
            else:
                db.end("fail", job)
            if attempt < 3:
                db.travel(hours=2)
                db.call("promote")
        assert db.state(job_id) == "dead"
        assert [entry["outcome"] for entry in db.history(job_id)] == (
            ["expired"] * 3 if by_reaper else ["failed"] * 3
        )


def test_snooze_and_release_give_the_attempt_back(db: Db) -> None:
    """However often."""
    db.enqueue(max_attempts=1)
    for how in ("snooze", "release") * 3:
        job = db.claim_one()
        assert job.attempt == 1
        assert db.end(how, job, **({"delays": [timedelta(0)]} if how == "snooze" else {})) == []


def test_released_job_keeps_its_place(db: Db) -> None:
    """And its run_at."""
    db.fill(3)
    (job,) = db.claim(1)
    before = db.job(job.id)
    db.end("release", job)
    after = db.job(job.id)
    assert (after.position, after.run_at) == (before.position, before.run_at)


@pytest.mark.parametrize("delays", [None, [None], [timedelta(seconds=-1)]])
def test_snooze_without_a_delay_is_refused(db: Db, delays: Any) -> None:
    """It would be a guess."""
    db.enqueue()
    with pytest.raises(Exception, match="snooze needs a delay"):
        db.end("snooze", db.claim_one(), delays=delays)


def test_cancellation_that_was_asked_for_ends_the_job(db: Db) -> None:
    """Whichever way the attempt ends, unless it ends well."""
    for how, state in (
        ("fail", "cancelled"),
        ("snooze", "cancelled"),
        ("release", "cancelled"),
        ("ack", "succeeded"),
    ):
        job_id = db.enqueue()
        job = db.claim_one()
        assert db.call("cancel", [job_id]) == [(job_id, "claimed")]
        assert db.call("extend", [job.id], [job.token], timedelta(hours=1)) == [(job_id, True)]
        assert _end(db, how, job) == []
        assert db.state(job_id) == state


def test_nothing_is_kept_with_retention_zero_but_the_dead(db: Db) -> None:
    """Acks are then not remembered either: a repeated one is lost."""
    db.rows("update pgqueue.setting set retention = '0'")
    for how in ("ack", "skip", "cancel_claimed"):
        db.enqueue()
        job = db.claim_one()
        assert db.end(how, job) == []
        assert db.state(job.id) is None
        assert db.end(how, job) == [job.id]
    db.enqueue(max_attempts=1)
    job = db.claim_one()
    db.end("fail", job)
    assert db.state(job.id) == "dead"


@pytest.mark.parametrize("how", [*ENDS, "extend"])
def test_reversed_bulk_calls_do_not_deadlock(
    connect: Callable[..., Db], together: Callable[..., list[Any]], how: str
) -> None:
    """All lock in the order of ids: an end and a heartbeat of the same jobs, in opposite orders."""
    dbs = [connect(deadlock_timeout="5ms") for _ in range(4)]
    dbs[0].fill(400)
    jobs = dbs[0].claim(400)

    def run(db: Db, function: str, jobs: list[Any]) -> Any:
        if function == "extend":
            return db.call(
                "extend", [j.id for j in jobs], [j.token for j in jobs], timedelta(hours=1)
            )
        return _end(db, function, *jobs)

    shuffled = random.sample(jobs, len(jobs))
    together(
        lambda: run(dbs[0], how, jobs[::-1]),
        lambda: run(dbs[1], "extend", jobs),
        lambda: run(dbs[2], how, shuffled),
        lambda: dbs[3].call("cancel", [j.id for j in jobs]),
    )
    assert dbs[0].one("select count(*) from pgqueue.all_jobs") == 400
