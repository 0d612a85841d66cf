"""claim(), and the order, the lanes and the hints behind it."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Db


def test_order_is_queue_then_priority_then_age(db: Db) -> None:
    """First in, first out within a lane."""
    ids = {
        name: db.enqueue(queue=name[0], priority=int(name[1]))
        for name in ("b1", "a5", "a1", "a0", "b0")
    }
    ids["again"] = db.enqueue(queue="a", priority=0)
    # One claim in sixteen serves the oldest job of all first: none of these.
    db.rows("select setseed(0.25)")
    chances = db.rows("select random() as chance from generate_series(1, 7)")
    assert min(row.chance for row in chances) > 0.0625
    db.rows("select setseed(0.25)")
    claimed: list[int] = []
    while jobs := db.claim(1, ["a", "b"]):
        claimed.append(jobs[0].id)
    assert claimed == [ids[name] for name in ("a0", "again", "a1", "a5", "b0", "b1")]


def test_claim_writes_the_attempt_the_token_and_the_lease(db: Db) -> None:
    """What comes back is what is stored."""
    db.enqueue()
    job = db.claim_one(lease=timedelta(minutes=3), worker="w")
    stored = db.job(job.id)
    assert (job.attempt, stored.attempt, stored.worker) == (1, 1, "w")
    assert job.token == stored.token
    assert job.lease_until - job.claimed_at == timedelta(minutes=3)


def test_token_does_not_follow_from_a_seed(connect: Callable[..., Db]) -> None:
    """Somebody's setseed() in the session must not make two claims look the same."""
    db = connect()
    db.fill(2)
    tokens = set()
    for _ in range(2):
        db.rows("select setseed(0.5)")
        tokens.add(db.claim()[0].token)
    assert len(tokens) == 2
    assert all(0 <= token < 2**53 for token in tokens)


@pytest.mark.parametrize("options", [
    {"lease": timedelta(0)}, {"lease": timedelta(seconds=-1)}, {"lease": None}, {"count": None}, {"count": -1},
])  # fmt: skip
def test_claim_without_bounds_is_refused(db: Db, options: dict[str, Any]) -> None:
    """A null count would be no limit at all."""
    db.enqueue()
    with pytest.raises(psycopg.Error) as caught:
        db.call("claim", **options)
    assert caught.value.sqlstate == "PQ002"


@pytest.mark.parametrize("lease", ["8000 years", "infinity"])
def test_lease_that_ends_after_the_year_9998_is_refused(db: Db, lease: str) -> None:
    """Its time could not be read in every language, and the claim would stand all the same."""
    db.fill(2)
    held = db.claim()[0]
    for function, args in (("claim", (["default"], 1)), ("extend", ([held.id], [held.token]))):
        with pytest.raises(psycopg.Error) as caught:
            db.call(function, *args, lease=lease)
        # Before Postgres 17 there is no interval of infinity.
        assert caught.value.sqlstate in ("PQ002", "22007")
    assert len(db.claim(lease=timedelta(days=365 * 7000))) == 1


def test_only_the_kinds_that_are_asked_for(db: Db) -> None:
    """Others stay for those who know them."""
    ids = [db.enqueue(kind) for kind in ("a", "b", "c")]
    assert [job.id for job in db.claim(9, kinds=["b", "x"])] == [ids[1]]
    assert db.claim(9, kinds=[]) == []
    assert {job.id for job in db.claim(9)} == {ids[0], ids[2]}


def test_no_more_is_locked_than_was_asked_for(connect: Callable[..., Db]) -> None:
    """Over several lanes, too: what one claim leaves, another gets."""
    db, other = connect(), connect()
    for priority in range(10):
        db.fill(10, priority=priority)
    with db.transaction():
        assert len(db.claim(15)) == 15
        assert len(other.claim(100)) == 85


def test_concurrent_claims_share_out_the_jobs(
    connect: Callable[..., Db], together: Callable[..., list[Any]]
) -> None:
    """Each job goes to one of them."""
    dbs = [connect() for _ in range(6)]
    for priority in range(5):
        dbs[0].fill(100, priority=priority)

    def drain(db: Db) -> list[int]:
        ids: list[int] = []
        while jobs := db.claim(7):
            ids += [job.id for job in jobs]
        return ids

    drained = together(*(partial(drain, db) for db in dbs))
    claimed = [job_id for ids in drained for job_id in ids]
    assert len(claimed) == len(set(claimed)) == 500


def test_queue_named_twice_gives_its_jobs_once(db: Db) -> None:
    """Nor are they counted as attempts twice."""
    db.fill(4)
    jobs = db.claim(10, ["default", "default"])
    assert sorted(job.attempt for job in jobs) == [1] * 4
    assert db.claim(10) == []


def test_saturated_urgent_lane_does_not_starve_the_last_one(db: Db) -> None:
    """One claim in sixteen serves the oldest job."""
    patient = db.enqueue(priority=9)
    for _ in range(400):
        db.enqueue(priority=0)
        db.enqueue(priority=0)
        if db.claim()[0].id == patient:
            break
    else:
        pytest.fail("never claimed")


def test_ageing_takes_one_claim_in_sixteen(db: Db) -> None:
    """On every version of Postgres: the share does not hang on the low bits of random()."""
    db.fill(1000, priority=9)
    db.fill(1000, priority=0)
    with db.transaction():
        oldest = sum(
            row.priority == 9
            for row in db.rows(
                "select c.priority from generate_series(1, 960) n, pgqueue.claim('{default}', (n > 0)::int) c"
            )
        )
    assert 25 <= oldest <= 105


def test_oldest_job_that_is_locked_for_long_starves_no_lane(connect: Callable[..., Db]) -> None:
    """Claimed in a transaction that stays open, it is the oldest one that waits, as all others see it."""
    db, slow = connect(), connect()
    db.fill(4000, priority=0)
    patient = db.enqueue(priority=9)
    with slow.transaction():
        slow.claim()
        claimed = db.rows(
            "select c.id from generate_series(1, 3000) n, pgqueue.claim('{default}', (n > 0)::int) c"
        )
        assert (patient,) in claimed


# Pauses


def test_paused_queue_gives_nothing(db: Db) -> None:
    """Until it is resumed, or until the time given."""
    db.enqueue()
    db.call("pause", "default", reason="deploy")
    assert db.claim() == []
    assert db.value("resume", "default") is True
    assert db.value("resume", "default") is False
    assert db.value("resume", "unknown") is False
    db.rows("select pgqueue.pause('default', pgqueue.clock() + interval '1 minute')")
    assert db.claim() == []
    db.travel(minutes=2)
    assert len(db.claim()) == 1


def test_pause_for_ever_is_a_time_that_every_language_has(db: Db) -> None:
    """Not infinity."""
    for until in ("infinity", None):
        db.call("pause", "default", until)
        assert (
            db.one("select paused_until from pgqueue.stats() where queue = 'default'").year == 9999
        )


# No job is invisible for good: lanes, floors and heads


def _cold(db: Db, queue: str = "default", **options: Any) -> set[int]:
    db.call("_fold_lanes", True)
    return {job.id for job in db.claim(1000, queue, **options)}


def test_job_below_the_floor_is_found_after_a_rescan(connect: Callable[..., Db]) -> None:
    """One that is committed late stands below all hints."""
    db, late = connect(), connect()
    late.conn.execute("begin")
    slow = late.enqueue()
    db.fill(30_000)
    while db.claim(5000):
        pass
    db.call("_fold_lanes", False)
    late.conn.execute("commit")
    assert db.claim() == []
    db.travel(seconds=11)
    db.call("maintain")
    assert [job.id for job in db.claim()] == [slow]


@pytest.mark.parametrize("how", ["release", "snooze", "fail"])
def test_job_put_back_below_the_floor_is_found(db: Db, how: str) -> None:
    """By a cold claim after a rescan, and at once by one that starts at the bottom."""
    job_id = db.enqueue()
    job = db.claim_one()
    db.rows("select setval('pgqueue.position_seq', 50000)")
    db.call("_fold_lanes", True)
    assert db.one("select floor > %s from pgqueue.lane", job.position)
    assert db.end(how, job, **({} if how == "release" else {"delays": [timedelta(0)]})) == []
    with db.transaction():
        assert [j.id for j in db.claim(floors=[0] * 10)] == [job_id]
    assert _cold(db) == {job_id}


@pytest.mark.parametrize("how", ["promote", "retry", "retry archived", "copy", "replace"])
def test_job_that_comes_into_a_new_lane_marks_it(db: Db, how: str) -> None:
    """However it comes: without a mark no claim would look there."""
    if how == "copy":
        with (
            db.conn.cursor() as cursor,
            cursor.copy("copy pgqueue.job (queue, kind, payload, max_attempts) from stdin") as copy,
        ):
            copy.write("fresh\tk\t{}\t5\n")
        db.call("_enqueued", ["fresh"], [5])
        job_id = db.one("select id from pgqueue.job")
    elif how == "replace":
        job_id = db.enqueue(dedupe_key="x")
        db.enqueue(dedupe_key="x", queue="fresh", on_conflict="replace")
    elif how == "retry archived":
        job_id = db.enqueue(queue="fresh", delay=timedelta(hours=1))
        db.call("cancel", [job_id])
        db.call("retry", [job_id])
    else:
        job_id = db.enqueue(queue="fresh", delay=timedelta(hours=1))
        assert db.rows("select from pgqueue.lane") == []
        if how == "promote":
            db.travel(hours=2)
            db.call("promote")
        else:
            assert db.call("retry", [job_id]) == [(job_id,)]
    assert [job.id for job in db.claim(1, "fresh")] == [job_id]


def test_rescan_finds_jobs_whose_lane_has_no_mark(db: Db) -> None:
    """Rows that somebody inserted by hand, say, or that were committed while the lane was forgotten."""
    ids = {db.enqueue(queue=queue, priority=p) for queue in ("a", "b", "c") for p in (0, 9)}
    claimed = db.claim(1, "b")[0]
    db.rows("delete from pgqueue.lane")
    assert db.claim(9, ["a", "b", "c"]) == []
    assert _cold(db, ["a", "b", "c"]) == ids - {claimed.id}  # type: ignore[arg-type]
    db.expire(claimed.id)
    assert db.value("reap") == 1


def test_unused_lane_is_forgotten(db: Db) -> None:
    """A queue per customer must not cost for ever; lanes with jobs stay."""
    db.enqueue(queue="busy")
    db.enqueue(queue="running")
    db.claim(1, "running")
    for n in range(5):
        db.enqueue(queue=f"once-{n}")
        db.end("ack", db.claim_one(queue=f"once-{n}"))
    db.call("_fold_lanes", True)
    assert db.one("select count(distinct queue) from pgqueue.lane") == 7
    db.rows("select setval('pgqueue.position_seq', 50000)")
    db.call("_fold_lanes", False)
    assert db.one("select count(distinct queue) from pgqueue.lane") == 7
    db.call("_fold_lanes", True)
    assert {row.queue for row in db.rows("select queue from pgqueue.lane")} == {"busy", "running"}
    again = db.enqueue(queue="once-3")
    assert [job.id for job in db.claim(1, "once-3")] == [again]


def test_marks_of_a_lane_fold_into_one(
    connect: Callable[..., Db], together: Callable[..., list[Any]]
) -> None:
    """Two folders at once do not lose it, nor its head."""
    dbs = [connect() for _ in range(3)]
    dbs[0].fill(10)
    dbs[0].rows(
        "insert into pgqueue.lane (queue, priority, head) select 'default', 5, n * 1000 from generate_series(1, 99) n"
    )
    for rescan in (True, False):
        together(*(lambda db=db, r=rescan: db.call("_fold_lanes", r) for db in dbs))
        dbs[0].call("_fold_lanes", rescan)
        assert dbs[0].rows("select queue, priority, head from pgqueue.lane") == [
            ("default", 5, 99_000)
        ]


def test_head_stands_above_every_claimed_job(db: Db) -> None:
    """The reaper reads no further."""
    for _ in range(3):
        db.fill(9000)
        while db.claim(3000):
            pass
        assert db.one("select max(position) from pgqueue.job") <= db.one(
            "select max(head) from pgqueue.lane"
        )
    # And few claims write it.
    assert db.one("select count(*) from pgqueue.lane") <= 4


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_claim_and_ack_in_a_stricter_transaction(
    connect: Callable[..., Db], isolation: str
) -> None:
    """They work; who loses a race is told so, and nothing is claimed twice."""
    db, other = connect(), connect()
    db.fill(3)
    db.conn.execute(f"begin isolation level {isolation}")
    db.one("select 1 from pgqueue.setting")
    taken = other.claim()
    with pytest.raises(psycopg.errors.SerializationFailure):
        db.claim(3)
    db.conn.execute("rollback")
    db.conn.execute(f"begin isolation level {isolation}")
    jobs = db.claim(3)
    assert db.end("fail", *jobs[:1]) == []
    assert db.end("ack", *jobs[1:]) == []
    db.conn.execute("commit")
    assert {job.id for job in jobs}.isdisjoint({taken[0].id})
