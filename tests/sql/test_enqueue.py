"""enqueue() and enqueue_many()."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Db

INVALID, TOO_LARGE = "PQ002", "PQ003"


def test_null_means_the_default(db: Db) -> None:
    """Callers in other languages pass null for what they leave out."""
    options = (
        "payload", "queue", "priority", "run_at", "delay", "max_attempts", "backoff", "dedupe_key",
        "dedupe_until", "on_conflict", "tags", "metadata", "ref",
    )  # fmt: skip
    nothing: dict[str, Any] = dict.fromkeys(options)
    job = db.job(db.enqueue(**nothing))
    assert (job.payload, job.queue, job.priority, job.max_attempts) == ({}, "default", 5, 20)
    keyed = db.job(db.enqueue(dedupe_key="x", dedupe_until=None, on_conflict=None))
    assert keyed.dedupe_until == "finish"


def test_delayed_job_has_no_position(db: Db) -> None:
    """It gets one when it becomes ready."""
    assert db.job(db.enqueue(delay=timedelta(seconds=5))).position is None
    assert db.job(db.enqueue()).position is not None


def test_day_of_delay_has_24_hours_in_every_time_zone(connect: Callable[..., Db]) -> None:
    """Also in the night when clocks change."""
    for zone in ("Europe/Paris", "UTC", "America/New_York"):
        db = connect(timezone=zone)
        for month in range(1, 13):
            assert db.one(
                "select extract(epoch from pgqueue._after(t, '200 days') - t) from (select make_timestamptz("
                "2026, %s, 1, 0, 0, 0) as t) x", month,
            ) == 200 * 86400  # fmt: skip


@pytest.mark.parametrize("options, state", [
    ({"delay": timedelta(seconds=-1)}, INVALID),
    ({"delay": timedelta(0), "run_at": "2030-01-01"}, INVALID),
    ({"on_conflict": "nonsense"}, INVALID),
    ({"payload": {"a": "x" * 300_000}}, TOO_LARGE),
    ({"priority": 10}, "23514"),
    ({"priority": 70000}, "22003"),
    ({"queue": "a b"}, "23514"),
    ({"queue": "x" * 129}, "23514"),
    ({"queue": ""}, "23514"),
    ({"queue": "line\n"}, "23514"),
    ({"max_attempts": 0}, "23514"),
    ({"run_at": "infinity"}, "23514"),
    ({"run_at": "-infinity"}, "23514"),
    ({"dedupe_key": "k", "dedupe_until": "later"}, "23514"),
])  # fmt: skip
def test_wrong_argument_is_refused(db: Db, options: dict[str, Any], state: str) -> None:
    """With a SQLSTATE that tells what it is, and nothing is written."""
    with pytest.raises(psycopg.Error) as caught:
        db.enqueue(**options)
    assert caught.value.sqlstate == state
    assert db.one("select count(*) from pgqueue.job") == 0


def test_rollback_takes_the_job_and_its_lane_along(db: Db) -> None:
    """A savepoint's as well; an enqueue after it marks the lane again."""
    db.conn.execute("begin")
    db.conn.execute("savepoint a")
    db.enqueue(queue="fresh")
    db.conn.execute("rollback to a")
    kept = db.enqueue(queue="fresh")
    db.conn.execute("commit")
    assert [job.id for job in db.claim(5, "fresh")] == [kept]


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_enqueue_in_a_stricter_transaction_returns_or_asks_for_another_try(
    connect: Callable[..., Db], isolation: str
) -> None:
    """A holder that the snapshot cannot see is a failed serialization, never an endless loop."""
    db, other = connect(statement_timeout="5s"), connect()
    with db.transaction(f"begin isolation level {isolation}"):
        db.one("select 1")
        other.enqueue(dedupe_key="x")
        with pytest.raises(errors.SerializationFailure):
            db.enqueue(dedupe_key="x")
    with db.transaction(f"begin isolation level {isolation}"):
        assert db.call("enqueue", "k", dedupe_key="x")[0].duplicate
        assert not db.call("enqueue", "k", dedupe_key="y")[0].duplicate


# enqueue_many


def test_many_come_back_in_order(db: Db) -> None:
    """Place, id and whether it is a duplicate."""
    rows = db.enqueue_many(
        {"kind": "a"},
        {"kind": "a", "dedupe_key": "x"},
        {"kind": "a", "dedupe_key": "x"},
        {"kind": "b"},
    )
    assert [row[0] for row in rows] == [1, 2, 3, 4]
    assert [row[2] for row in rows] == [False, False, True, False]
    assert rows[2][1] == rows[1][1]
    assert [job.id for job in sorted(db.claim(9), key=lambda job: job.position)] == [
        rows[0][1], rows[1][1], rows[3][1],
    ]  # fmt: skip


def test_many_of_nothing_is_nothing(db: Db) -> None:
    """An empty array is valid."""
    assert db.enqueue_many() == []


def test_many_replaces_within_the_batch(db: Db) -> None:
    """The last one of a key wins."""
    rows = db.enqueue_many(*(
        {"kind": "a", "dedupe_key": "x", "on_conflict": "replace", "payload": {"n": n}} for n in range(4)
    ))  # fmt: skip
    assert [row[2] for row in rows] == [False, True, True, True]
    assert db.claim_one().payload == {"n": 3}


def test_many_is_all_or_nothing(db: Db) -> None:
    """A key that is held, with `raise`, undoes the others."""
    db.enqueue("a", dedupe_key="x")
    with pytest.raises(psycopg.Error) as caught:
        db.enqueue_many({"kind": "b"}, {"kind": "a", "dedupe_key": "x", "on_conflict": "raise"})
    assert caught.value.sqlstate == "PQ001"
    assert db.one("select count(*) from pgqueue.job") == 1


def test_many_replaces_into_another_lane(db: Db) -> None:
    """The new lane is marked, so that the job is found there."""
    (first,) = db.enqueue_many({"kind": "a", "dedupe_key": "x", "queue": "one"})
    (again,) = db.enqueue_many(
        {"kind": "a", "dedupe_key": "x", "queue": "two", "priority": 1, "on_conflict": "replace"}
    )
    assert again[1:] == (first[1], True)
    assert db.claim(1, "one") == []
    assert db.claim_one(queue="two").id == first[1]


@pytest.mark.parametrize("jobs, message", [
    (None, "jobs is null"),
    ({"kind": "a"}, "jobs is a JSON object"),
    ([1], "job 1 of the batch cannot be stored: it is no object"),
    ([{"kind": "a"}, {"kind": "a", "delay": -1}], "job 2 .* its delay is negative"),
    ([{"kind": "a", "delay": 1, "run_at": "2030-01-01"}], "both run_at and delay"),
    ([{"kind": "a", "on_conflict": "x"}], "on_conflict"),
    ([{"kind": "a", "payload": "x" * 300_000}], "payload is over the limit"),
])  # fmt: skip
def test_many_says_what_is_wrong(db: Db, jobs: Any, message: str) -> None:
    """And with which job."""
    with pytest.raises(psycopg.Error, match=message):
        db.call("enqueue_many", None if jobs is None else Jsonb(jobs))


def test_many_with_the_same_keys_in_other_orders_do_not_deadlock(
    connect: Callable[..., Db], together: Callable[..., list[Any]]
) -> None:
    """Keys are taken in one order, whatever that of the batch."""
    keys = [{"kind": "a", "dedupe_key": f"{n}", "on_conflict": "replace"} for n in range(60)]
    dbs = [connect(deadlock_timeout="5ms") for _ in range(4)]
    for _ in range(3):
        together(*(
            lambda db=db, i=i: db.enqueue_many(*(keys if i % 2 else keys[::-1])) for i, db in enumerate(dbs)
        ))  # fmt: skip
        dbs[0].rows(
            "delete from pgqueue.job where id in (select id from pgqueue.job order by random() limit 30)"
        )
    assert dbs[0].one("select count(distinct dedupe_key) = count(*) from pgqueue.job")


# Large numbers


def test_ids_and_positions_go_beyond_32_bits(db: Db) -> None:
    """Nothing on the way is an int4."""
    for sequence in ("job_id_seq", "position_seq"):
        db.rows(f"select setval('pgqueue.{sequence}', 2147483647)")
    ids = [
        db.enqueue(),
        db.enqueue_many({"kind": "k"})[0][1],
        db.enqueue(delay=timedelta(seconds=1)),
    ]
    assert min(ids) >= 2**31
    jobs = db.claim(5, floors=[2**31 + 1] * 10) + db.claim(5)
    assert db.end("fail", *jobs, delays=[timedelta(0)] * 2) == []
    db.travel(hours=1)
    assert db.value("promote") == 1
    jobs = db.claim(5)
    assert {job.id for job in jobs} == set(ids)
    assert db.end("ack", *jobs) == []
    db.call("maintain")
    assert db.call("retry", ids) != []
