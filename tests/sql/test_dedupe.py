"""Dedupe keys: two scopes, three ways out of a conflict, and jobs that take their keys back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from time import sleep
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Db

HOUR = timedelta(hours=1)


@pytest.mark.parametrize("scope", ["start", "finish"])
def test_key_is_held_until_its_scope_ends(db: Db, scope: str) -> None:
    """Per kind."""
    first = db.enqueue(dedupe_key="x", dedupe_until=scope)
    assert db.call("enqueue", "k", dedupe_key="x", dedupe_until=scope) == [(first, True)]
    assert not db.call("enqueue", "other", dedupe_key="x")[0].duplicate
    job = db.claim_one(kinds=["k"])
    second = db.call("enqueue", "k", dedupe_key="x", dedupe_until=scope, delay=HOUR)[0]
    assert second.duplicate == (scope == "finish")
    db.end("ack", job)
    assert db.call("enqueue", "k", dedupe_key="x", delay=HOUR)[0].duplicate == (scope == "start")


def test_megabyte_of_a_key_is_a_key(db: Db) -> None:
    """It is stored hashed."""
    key = "é" * 500_000
    first = db.enqueue(dedupe_key=key)
    assert db.call("enqueue", "k", dedupe_key=key) == [(first, True)]
    assert not db.call("enqueue", "k", dedupe_key=key + "x")[0].duplicate


def test_raise_names_the_holder(db: Db) -> None:
    """In the error's detail."""
    first = db.enqueue(dedupe_key="x")
    with pytest.raises(psycopg.Error) as caught:
        db.enqueue(dedupe_key="x", on_conflict="raise")
    assert (caught.value.sqlstate, caught.value.diag.message_detail) == ("PQ001", str(first))


@pytest.mark.parametrize("before", ["ready", "scheduled"])
@pytest.mark.parametrize("after", ["ready", "scheduled"])
def test_replace_changes_a_waiting_job(db: Db, before: str, after: str) -> None:
    """All of it but its key; a ready job that stays so keeps its place."""
    delay = {"ready": None, "scheduled": HOUR}
    job_id = db.enqueue(dedupe_key="x", delay=delay[before])
    position = db.job(job_id).position
    again = db.call(
        "enqueue", "k", {"new": 1}, dedupe_key="x", on_conflict="replace", delay=delay[after], max_attempts=7,
        backoff={"base": 9}, tags=["t"], metadata={"m": 1}, ref="r", dedupe_until="start",
    )  # fmt: skip
    assert again == [(job_id, True)]
    job = db.job(job_id)
    assert (job.payload, job.max_attempts, job.backoff) == ({"new": 1}, 7, {"base": 9})
    assert (job.tags, job.metadata, job.ref, job.dedupe_until) == (["t"], {"m": 1}, "r", "start")
    assert db.state(job_id) == after
    if before == after == "ready":
        assert job.position == position


def test_replaced_job_has_all_its_attempts_before_it(db: Db) -> None:
    """Those of what it replaces do not count, nor exceed a lower number that is allowed."""
    db.enqueue(dedupe_key="x", max_attempts=20)
    for _ in range(3):
        db.end("fail", db.claim_one(), delays=[timedelta(0)])
    db.enqueue(dedupe_key="x", max_attempts=2, on_conflict="replace")
    assert db.claim_one().attempt == 1


def test_replace_leaves_a_running_job_alone(db: Db) -> None:
    """It keeps what it started with."""
    db.enqueue(dedupe_key="x")
    job = db.claim_one()
    assert db.call("enqueue", "k", {"new": 1}, dedupe_key="x", on_conflict="replace")[0].duplicate
    assert db.job(job.id).payload == {}


def _wait_until_blocked(watch: Db, blocked: Db) -> None:
    for _ in range(1000):
        if watch.one("select cardinality(pg_blocking_pids(%s))", blocked.conn.info.backend_pid):
            return
        sleep(0.01)
    pytest.fail("it waits for nobody")


def _wait_until_blocked_by(watch: Db, blocked: Db, holder: Db) -> None:
    pids = (holder.conn.info.backend_pid, blocked.conn.info.backend_pid)
    for _ in range(1000):
        if watch.one("select %s::int = any (pg_blocking_pids(%s))", *pids):
            return
        sleep(0.01)
    pytest.fail("it does not wait for that one")


@pytest.mark.parametrize("how", ["enqueue_many", "retry"])
def test_keys_are_taken_in_one_order(connect: Callable[..., Db], how: str) -> None:
    """Also where a holder ends in the middle of it, and by jobs that come back from the archive."""
    db, other, third, watch = (connect(deadlock_timeout="10ms") for _ in range(4))
    low, middle, high = (
        {"kind": "k", "dedupe_key": row.key}
        for row in db.rows(
            "select key from unnest('{a,b,c}'::text[]) key order by pgqueue._dedupe_hash(null, 'k', key)"
        )
    )
    ids = [row[1] for row in db.enqueue_many(middle, high, low)]
    jobs = {job.id: job for job in db.claim(3)}
    db.end("ack", *(jobs[i] for i in (ids if how == "retry" else ids[:2])))
    third.conn.execute("begin")
    third.enqueue_many(high)
    with ThreadPoolExecutor(2) as pool:
        call = {
            "enqueue_many": lambda: db.enqueue_many(low, middle, high),
            "retry": lambda: db.call("retry", ids),
        }[how]
        one = pool.submit(call)
        _wait_until_blocked(watch, db)
        if how == "enqueue_many":
            watch.end("ack", jobs[ids[2]])
        two = pool.submit(other.enqueue_many, low, middle)
        _wait_until_blocked(watch, other)
        third.conn.execute("rollback")
        assert len(one.result(10)) == 3
        assert len(two.result(10)) == 2


def _two_keys(db: Db) -> tuple[dict[str, Any], dict[str, Any]]:
    """Jobs whose keys are taken in this order."""
    low, high = (
        {"kind": "k", "dedupe_key": row.key, "on_conflict": "replace"}
        for row in db.rows(
            "select key from unnest('{a,b}'::text[]) key order by pgqueue._dedupe_hash(null, 'k', key)"
        )
    )
    return low, high


def test_batch_that_replaces_and_an_ack_do_not_deadlock(connect: Callable[..., Db]) -> None:
    """A job that was claimed while the batch waited for it is not kept locked."""
    limits = {"deadlock_timeout": "10ms", "statement_timeout": "8s"}
    batch, claimer, acker, watch = (connect(**limits) for _ in range(4))
    low, high = _two_keys(watch)
    first = watch.enqueue(**high)
    running = watch.claim_one()
    second = watch.enqueue(**low)
    acker.conn.execute("begin")
    assert acker.end("ack", running) == []
    claimer.conn.execute("begin")
    claimer.rows("select from pgqueue.job where id = %s for update", second)
    with ThreadPoolExecutor(2) as pool:
        storing = pool.submit(batch.enqueue_many, low, high)
        _wait_until_blocked(watch, batch)
        claimed = claimer.claim_one()
        claimer.conn.execute("commit")
        _wait_until_blocked_by(watch, batch, acker)
        assert acker.end("ack", claimed) == []
        acker.conn.execute("commit")
        (_, low_id, low_held), (_, high_id, high_held) = storing.result(10)
    assert (low_id, low_held, high_held) == (second, True, False)
    assert high_id not in (first, second)


@pytest.mark.parametrize("how", ["cancel", "retry"])
def test_waiting_jobs_are_locked_in_the_order_of_their_keys(
    connect: Callable[..., Db], how: str
) -> None:
    """As enqueues that replace them come to them, whatever their ids."""
    limits = {"deadlock_timeout": "10ms", "statement_timeout": "8s"}
    producer, operator, watch = (connect(**limits) for _ in range(3))
    low, high = _two_keys(watch)
    ids = [watch.enqueue(**job, delay=HOUR) for job in (high, low)]
    producer.conn.execute("begin")
    producer.enqueue(**low, delay=HOUR)
    with ThreadPoolExecutor(1) as pool:
        operating = pool.submit(operator.call, how, ids)
        _wait_until_blocked(watch, operator)
        producer.enqueue(**high, delay=HOUR)
        producer.conn.execute("commit")
        assert {row[0] for row in operating.result(10)} == set(ids)


@pytest.mark.parametrize("how", ["fail", "snooze", "release", "expire"])
@pytest.mark.parametrize("holder", ["waits", "runs", "ended", None])
def test_waiting_job_takes_its_key_back(db: Db, how: str, holder: str | None) -> None:
    """Unless a newer one waits by now: that stands for both."""
    db.enqueue(dedupe_key="x", dedupe_until="start")
    job = db.claim_one()
    second = db.enqueue(dedupe_key="x", dedupe_until="start") if holder else None
    if holder in ("runs", "ended"):
        newer = db.claim_one()
        if holder == "ended":
            db.end("ack", newer)
    if how == "expire":
        db.expire(job.id)
        assert db.value("reap") == 1
    else:
        assert db.end(how, job, **({"delays": [HOUR]} if how == "snooze" else {})) == []
    if holder == "waits":
        assert db.state(job.id) == "skipped"
        assert db.history(job.id)[-1]["outcome"] == "superseded"
        assert db.enqueue(dedupe_key="x") == second
    else:
        assert db.call("enqueue", "k", dedupe_key="x") == [(job.id, True)]


def test_two_of_one_key_that_expire_together(db: Db) -> None:
    """One takes the key, the other is superseded, and nothing fails."""
    for _ in range(2):
        db.enqueue(dedupe_key="x", dedupe_until="start")
        db.claim_one()
    bystander = db.enqueue()
    db.claim_one()
    db.rows("update pgqueue.job set lease_until = '2000-01-01'")
    assert db.value("reap") == 3
    assert sorted(row.state for row in db.rows("select state from pgqueue.all_jobs")) == [
        "scheduled", "scheduled", "skipped",
    ]  # fmt: skip
    assert db.state(bystander) == "scheduled"


def test_open_transaction_does_not_hold_up_the_reaper(connect: Callable[..., Db]) -> None:
    """One that may take the key at its commit: the job then goes on without it."""
    db, producer = connect(statement_timeout="3s"), connect()
    for n in range(3):
        db.enqueue(dedupe_key=str(n), dedupe_until="start")
    db.claim(3)
    db.rows("update pgqueue.job set lease_until = '2000-01-01'")
    producer.conn.execute("begin")
    producer.enqueue(dedupe_key="1")
    assert db.value("reap") == 3
    producer.conn.execute("commit")
    assert db.one("select count(*) from pgqueue.job where dedupe_hash is not null") == 3
    assert db.one("select count(*) from pgqueue.job") == 4
    assert db.one("show lock_timeout") == "0"


def test_superseded_job_waits_for_the_archive_as_long_as_any(
    connect: Callable[..., Db],
) -> None:
    """The short patience is for keys; partitions that are being dropped are waited for."""
    db, other = connect(), connect()
    db.enqueue(dedupe_key="x", dedupe_until="start")
    job = db.claim_one()
    db.enqueue(dedupe_key="x", dedupe_until="start")
    other.conn.execute("begin; lock table pgqueue.archive in access exclusive mode")
    with ThreadPoolExecutor(1) as pool:
        failing = pool.submit(db.end, "fail", job)
        sleep(0.1)
        other.conn.execute("commit")
        assert failing.result(10) == []
    assert db.state(job.id) == "skipped"


def test_retried_job_whose_key_is_held_stays_in_the_archive(db: Db) -> None:
    """As it was."""
    old = db.enqueue(dedupe_key="x")
    db.end("ack", db.claim_one())
    archived = db.rows("select * from pgqueue.archive")
    db.enqueue(dedupe_key="x")
    assert db.call("retry", [old]) == []
    assert db.rows("select * from pgqueue.archive") == archived


def test_fifty_producers_of_one_key_of_which_half_roll_back(
    connect: Callable[..., Db], together: Callable[..., list[Any]]
) -> None:
    """One job remains, and each that commits was told its id."""
    dbs = [connect() for _ in range(50)]

    def produce(db: Db, commit: bool) -> int | None:  # noqa: FBT001
        db.conn.execute("begin")
        row = db.call("enqueue", "k", dedupe_key="x")[0]
        db.conn.execute("commit" if commit else "rollback")
        return row.id if commit else None

    for scope in range(3):
        told = together(*(lambda db=db, n=n: produce(db, n % 2 == 0) for n, db in enumerate(dbs)))
        (job_id,) = [row.id for row in dbs[0].rows("select id from pgqueue.job")]
        assert set(told) == {None, job_id}, scope
        dbs[0].call("cancel", [job_id])
