"""tick(): each slot once, whoever ticks and however late; and what its policies do."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from .test_schedules import HOUR, put, row

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Db

MINUTE = timedelta(minutes=1)


def runs(db: Db, name: str = "s") -> list[tuple[float, str]]:
    """Slots, in hours after the start, and what became of them."""
    return [
        ((r.slot - r.starts_at) / HOUR, r.outcome)
        for r in db.rows(
            "select r.slot, r.outcome, s.starts_at from pgqueue.schedule_run r "
            "join pgqueue.schedule s on s.id = r.schedule_id where s.name = %s order by slot", name,
        )
    ]  # fmt: skip


def jobs(db: Db) -> list[Any]:
    """Unfinished jobs, in the order in which they were enqueued."""
    return db.rows("select * from pgqueue.job order by id")


def test_slot_becomes_a_job_with_all_its_options(db: Db) -> None:
    """And the job says whose it is."""
    put(db, kind="report", payload={"a": 1}, queue="slow", priority=8, max_attempts=3, tags=["t"],
        metadata={"m": 1}, ref="r", backoff={"delays": [1]})  # fmt: skip
    assert db.value("tick") == 0
    db.travel(hours=1)
    assert db.value("tick") == 1
    assert db.value("tick") == 0
    (job,) = jobs(db)
    assert (job.kind, job.payload, job.queue, job.priority, job.max_attempts, job.tags, job.ref, job.backoff) == (
        "report", {"a": 1}, "slow", 8, 3, ["t"], "r", {"delays": [1]}
    )  # fmt: skip
    assert (job.metadata["m"], job.metadata["schedule"]) == (1, "s")
    state = row(db)
    assert db.one("select %s::timestamptz", job.metadata["slot"]) == job.run_at == state.last_run_at
    assert (state.next_run_at - state.last_run_at, state.last_job_id) == (HOUR, job.id)
    assert job.position is not None


@pytest.mark.parametrize(
    "catch_up, grace, expected",
    [
        (1, MINUTE, [(3, "enqueued")]),
        (2, MINUTE, [(2, "enqueued"), (3, "enqueued")]),
        (1000, MINUTE, [(1, "enqueued"), (2, "enqueued"), (3, "enqueued")]),
        (0, MINUTE, [(3, "missed")]),
        (0, 30 * MINUTE, [(3, "enqueued")]),
    ],
)
def test_late_tick_makes_up_as_asked(
    db: Db, catch_up: int, grace: timedelta, expected: list[Any]
) -> None:
    """Three slots are due, the last one ten minutes ago."""
    put(db, catch_up=catch_up, grace=grace)
    db.travel(hours=3, minutes=10)
    assert db.value("tick") == sum(outcome == "enqueued" for _, outcome in expected)
    assert runs(db) == expected
    assert row(db).next_run_at == row(db).starts_at + 4 * HOUR


@pytest.mark.parametrize("times", [{"cron": "*/10 * * * *"}, {"every": 10 * MINUTE}])
@pytest.mark.parametrize(
    "options, expected",
    [
        ({"catch_up": 0}, [(7, "enqueued")]),
        ({"catch_up": 0, "grace": MINUTE}, [(7, "missed")]),
        ({"catch_up": 1}, [(7, "enqueued")]),
        ({"catch_up": 3}, [(n, "enqueued") for n in (5, 6, 7)]),
        ({"catch_up": 1000}, [(n, "enqueued") for n in range(1, 8)]),
        ({"catch_up": 1000, "jitter": MINUTE}, [(n, "enqueued") for n in range(1, 8)]),
        ({"catch_up": 1000, "overlap": "skip"}, [(1, "enqueued")] + [(n, "skipped") for n in range(2, 8)]),
    ],
)  # fmt: skip
def test_tick_an_hour_late(
    db: Db, times: dict[str, Any], options: dict[str, Any], expected: list[Any]
) -> None:
    """Of seven slots, the first an hour ago, the last five minutes: by the policy, once, and then as planned."""
    start = db.one("select date_trunc('hour', pgqueue.clock()) + interval '1 hour'")
    db.travel(seconds=(start - db.value("clock")).total_seconds())
    put(db, starts_at=start, **times, **options)
    first = row(db).next_run_at
    db.travel(seconds=(first - db.value("clock")).total_seconds() + 3900)
    enqueued = [n for n, outcome in expected if outcome == "enqueued"]
    assert db.value("tick") == len(enqueued)
    assert db.value("tick") == 0
    found = db.rows("select slot, outcome from pgqueue.schedule_run order by slot")
    assert [((r.slot - first) / (10 * MINUTE) + 1, r.outcome) for r in found] == expected
    slots = [db.one("select %s::timestamptz", job.metadata["slot"]) for job in jobs(db)]
    assert slots == [first + (n - 1) * 10 * MINUTE for n in enqueued]
    assert row(db).next_run_at == first + 7 * 10 * MINUTE


def test_daily_slot_an_hour_late(db: Db) -> None:
    """It is fired once, or missed; the next one is tomorrow's."""
    for name, catch_up in (("a", 5), ("b", 1), ("c", 0)):
        put(db, name, cron="0 6 * * *", timezone="Europe/Berlin", catch_up=catch_up)
    first = row(db, "a").next_run_at
    db.travel(seconds=(first - db.value("clock")).total_seconds() + 3600)
    assert db.value("tick") == 2
    assert [r.outcome for r in db.rows("select outcome from pgqueue.schedule_run order by schedule_id")] == [
        "enqueued", "enqueued", "missed",
    ]  # fmt: skip
    assert {row(db, name).next_run_at - first for name in "abc"} <= {n * HOUR for n in (23, 24, 25)}


def test_after_months_with_a_slot_every_second_it_is_quick(db: Db) -> None:
    """It looks at the latest only."""
    put(db, every="1 s", catch_up=3)
    db.travel(days=200)
    started = time.monotonic()
    assert db.value("tick") == 3
    assert time.monotonic() - started < 5
    assert [late for (late, _) in runs(db)] == sorted(late for (late, _) in runs(db))
    assert db.one("select pgqueue.clock() - max(slot) from pgqueue.schedule_run") < timedelta(
        seconds=7
    )


@pytest.mark.parametrize(
    "overlap, expected",
    [
        ("queue", ["enqueued", "enqueued", "enqueued"]),
        ("skip", ["enqueued", "skipped", "enqueued"]),
        ("replace", ["enqueued", "enqueued", "enqueued"]),
    ],
)
def test_slot_while_an_earlier_job_is_unfinished(db: Db, overlap: str, expected: list[str]) -> None:
    """It is enqueued all the same, left out, or put in the place of the earlier one."""
    put(db, overlap=overlap)
    for done in (False, True, True):
        db.travel(hours=1)
        db.value("tick")
        if done:
            while claimed := db.claim(10):
                db.end("ack", *claimed)
    assert [outcome for _, outcome in runs(db)] == expected
    states = [r.state for r in db.rows("select state from pgqueue.all_jobs order by id")]
    assert states == {
        "queue": ["succeeded"] * 3,
        "skip": ["succeeded"] * 2,
        "replace": ["cancelled", "succeeded", "succeeded"],
    }[overlap]  # fmt: skip


def test_replacing_a_job_that_somebody_holds_does_not_wait(
    connect: Callable[..., Db],
) -> None:
    """All schedules would wait for it."""
    db, holder = connect(lock_timeout="2s"), connect()
    put(db, overlap="replace")
    db.travel(hours=1)
    db.value("tick")
    with holder.transaction():
        holder.end("ack", *holder.claim(1))
        db.travel(hours=1)
        assert db.value("tick") == 1
    assert len(jobs(db)) == 2


def test_running_job_that_is_replaced_is_asked_to_stop(db: Db) -> None:
    """It may go on until it heeds that."""
    put(db, overlap="replace")
    db.travel(hours=1)
    db.value("tick")
    (job,) = db.claim(1, lease=4 * HOUR)
    db.travel(hours=1)
    db.value("tick")
    assert db.call("extend", [job.id], [job.token], HOUR)[0].cancel_requested


def test_jitter_spreads_jobs_and_stays(db: Db) -> None:
    """Within its bounds, differently for each slot, and not the slots themselves."""
    put(db, jitter=30 * MINUTE, catch_up=20)
    db.travel(hours=20, minutes=5)
    assert db.value("tick") == 20
    late = [db.one("select %s - (%s)::timestamptz", j.run_at, j.metadata["slot"]) for j in jobs(db)]
    assert all(timedelta(0) <= each < 30 * MINUTE for each in late)
    assert len(set(late)) == 20
    assert [slot for slot, _ in runs(db)] == list(range(1, 21))


def test_invalid_job_does_not_hold_up_the_others(db: Db) -> None:
    """It is recorded, with why, and comes again with its next slot."""
    for n in range(8):
        put(db, f"s{n}")
    db.rows("alter table pgqueue.job add constraint picky check (kind <> 'bad')")
    db.rows("update pgqueue.schedule set kind = 'bad' where name in ('s3', 's5')")
    db.travel(hours=1, seconds=1)
    assert db.value("tick") == 6
    assert db.value("tick") == 0
    assert runs(db, "s3") == [(1, "failed")]
    assert "picky" in db.one("select min(error) from pgqueue.schedule_run")
    assert row(db, "s3").next_run_at == row(db, "s3").starts_at + 2 * HOUR


def test_refused_role_is_told_and_nothing_is_lost(db: Db) -> None:
    """What is wrong with whoever ticks is no fault of the schedule's."""
    put(db)
    db.travel(hours=1)
    db.rows("create function refuse() returns trigger language plpgsql as "
            "$$ begin raise insufficient_privilege; end $$")  # fmt: skip
    db.rows(
        "create trigger refuse before insert on pgqueue.job for each row execute function refuse()"
    )
    with pytest.raises(errors.InsufficientPrivilege):
        db.value("tick")
    db.rows("drop trigger refuse on pgqueue.job")
    assert db.value("tick") == 1


def test_limited_tick_fires_the_longest_due_first(db: Db) -> None:
    """And the next one goes on."""
    for n in range(5):
        put(db, f"s{n}", every=(5 - n) * MINUTE)
    db.travel(minutes=6)
    assert [db.value("tick", 2) for _ in range(3)] == [2, 2, 1]
    assert [j.metadata["schedule"] for j in jobs(db)][:2] == ["s4", "s3"]


def test_ticks_at_once_fire_each_slot_once(
    connect: Callable[..., Db], together: Callable[..., list[Any]]
) -> None:
    """Nobody waits, nobody fires what another fires."""
    dbs = [connect() for _ in range(6)]
    dbs[0].rows(
        "insert into pgqueue.schedule (name, kind, every) select 's' || n, 'k', '1 h' from generate_series(1, 300) n"
    )
    dbs[0].travel(hours=1, minutes=1)
    assert (
        sum(together(*(lambda db=db: sum(db.value("tick", 40) for _ in range(10)) for db in dbs)))
        == 300
    )
    assert dbs[0].one("select count(*) from pgqueue.schedule_run") == 300


@pytest.mark.parametrize(
    "change",
    [
        "update pgqueue.schedule set cron = '* * * * *', every = null",
        "delete from pgqueue.schedule",
    ],
)
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_tick_passes_over_a_row_that_is_being_changed(
    connect: Callable[..., Db], change: str, end: str
) -> None:
    """Afterwards the slot that was due is fired, unless the schedule is gone."""
    db, other = connect(lock_timeout="2s"), connect()
    put(db)
    db.travel(hours=1)
    other.conn.execute("begin")
    other.rows(change)
    assert db.value("tick") == 0
    other.conn.execute(end)
    db.rows("select setval('pgqueue.schedule_rescan', 0)")
    assert db.value("tick") == (0 if (change.startswith("delete") and end == "commit") else 1)


def test_change_waits_for_a_tick_and_then_counts(connect: Callable[..., Db]) -> None:
    """A tick that is rolled back has fired nothing."""
    db, other = connect(), connect(lock_timeout="100ms")
    put(db)
    db.travel(hours=1)
    with db.transaction():
        assert db.value("tick") == 1
        with pytest.raises(errors.LockNotAvailable):
            put(other, every=2 * HOUR)
    other.rows("select setval('pgqueue.schedule_rescan', 0)")
    assert other.value("tick") == 1


def test_slot_below_the_floor_is_found_by_the_rescan(connect: Callable[..., Db]) -> None:
    """A schedule that was committed late."""
    db, other = connect(), connect()
    other.conn.execute("begin")
    put(other, every="1 s")
    db.travel(minutes=1)
    db.value("tick")
    other.conn.execute("commit")
    assert db.value("tick") == 0
    db.rows("select setval('pgqueue.schedule_rescan', 0)")
    assert db.value("tick") == 1


def test_by_hand_it_runs_now_and_the_slots_stay(db: Db) -> None:
    """Enabled or not; the job counts as an earlier one."""
    put(db, overlap="skip", enabled=False)
    job_id = db.value("run_schedule", "s")
    assert db.job(job_id).metadata["schedule"] == "s"
    put(db, overlap="skip", enabled=True)
    before = row(db).next_run_at
    db.value("run_schedule", "s")
    assert row(db).next_run_at == before
    db.travel(hours=1)
    assert db.value("tick") == 0
    assert sorted(outcome for _, outcome in runs(db)) == ["manual", "manual", "skipped"]
    with pytest.raises(errors.DatabaseError, match="no schedule 'unknown'") as caught:
        db.value("run_schedule", "unknown")
    assert caught.value.sqlstate == "PQ004"


def test_upkeep_fires_says_what_is_next_and_prunes(db: Db) -> None:
    """The history as long as finished jobs are kept, and no slot again for that."""
    put(db, every="1 day", catch_up=1000)
    db.enqueue(delay=3 * 24 * HOUR)
    assert db.call("maintain")[0].next_run_at == row(db).next_run_at
    db.travel(days=20, minutes=1)
    db.call("maintain")
    assert len(jobs(db)) == 20 + 1
    db.travel(days=14, minutes=1)
    db.rows("update pgqueue.schedule set next_run_at = next_run_at - interval '25 days'")
    db.rows("update pgqueue.schedule set catch_up = 1")
    db.rows("select pgqueue._prune_runs(pgqueue.clock(), 7)")
    assert len(runs(db)) == 13
    db.call("maintain")
    assert [outcome for _, outcome in runs(db)] == ["enqueued"]


def test_history_is_a_second_guard(db: Db) -> None:
    """A slot that is in it is not fired again, whatever a hand did to the row."""
    put(db)
    db.travel(hours=1)
    assert db.value("tick") == 1
    db.rows("update pgqueue.schedule set next_run_at = last_run_at, last_run_at = null")
    assert db.value("tick") == 0
    assert row(db).next_run_at == row(db).starts_at + 2 * HOUR


def _buffers_of_a_tick(db: Db) -> int:
    db.rows(
        "update pgqueue.schedule set next_run_at = pgqueue.clock() - interval '1 s' where name like 'due%'"
    )
    (plan,) = db.one("explain (analyze, buffers, format json) select pgqueue.tick()")
    return int(plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"])


@pytest.mark.slow
def test_tick_costs_the_same_among_many_schedules(db: Db) -> None:
    """A hundred of them are due, alone and among a hundred thousand."""
    db.rows(
        "insert into pgqueue.schedule (name, kind, every) select 'due' || n, 'k', '1 h' from generate_series(1, 100) n"
    )
    _buffers_of_a_tick(db)
    alone = _buffers_of_a_tick(db)
    db.rows("alter table pgqueue.schedule disable trigger user")
    db.rows(
        "insert into pgqueue.schedule (name, kind, every, changed_at, next_run_at) "
        "select 's' || n, 'k', '1 h', now(), now() + interval '1 h' * random() from generate_series(1, 100000) n"
    )
    db.rows("alter table pgqueue.schedule enable trigger user")
    db.rows("vacuum analyze pgqueue.schedule")
    _buffers_of_a_tick(db)
    among = _buffers_of_a_tick(db)
    assert among < 2 * alone, (alone, among)


@pytest.mark.slow
def test_old_snapshot_does_not_make_ticks_dearer(connect: Callable[..., Db]) -> None:
    """It keeps all dead entries of slots that were fired; the floor spares the scan of them."""
    db, old = connect(), connect()
    db.rows(
        "insert into pgqueue.schedule (name, kind, every) select 'due' || n, 'k', '1 min' from generate_series(1, 500) n"
    )
    db.rows("alter table pgqueue.schedule set (autovacuum_enabled = off)")
    with old.transaction("begin isolation level repeatable read"):
        old.one("select 1 from pgqueue.setting")
        for _ in range(12):
            db.travel(minutes=1)
            assert db.value("tick") == 500
            db.rows("delete from pgqueue.job")
        # As after ten seconds without anything due.
        now = db.value("clock")
        db.rows("select pgqueue._write_register('pgqueue.schedule_floor', %s::timestamptz)", now)
        explain = "explain (analyze, buffers, format json) select pgqueue.tick()"
        db.one(explain)
        (plan,) = db.one(explain)
        idle = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
        db.rows("select setval('pgqueue.schedule_rescan', 0)")
        (plan,) = db.one(explain)
        rescan = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
        assert idle < 100 < rescan


def test_waiting_tick_writes_nothing(db: Db) -> None:
    """It leaves no transaction behind."""
    put(db)
    db.value("tick")  # may take the turn of the rescan
    with db.transaction():
        db.value("tick")
        assert db.one("select pg_current_xact_id_if_assigned()") is None


def test_payload_of_a_schedule_may_be_anything(db: Db) -> None:
    """As that of a job."""
    db.call("schedule", "s", "k", Jsonb([1, "two"]), every=HOUR)
    db.travel(hours=1)
    db.value("tick")
    assert jobs(db)[0].payload == [1, "two"]
