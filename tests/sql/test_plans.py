"""What the hot statements cost: by index whatever the statistics say, HOT, and level under an old snapshot."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Db

MODES = ["auto", "force_generic_plan", "force_custom_plan"]
HOUR = timedelta(hours=1)


def _counts(db: Db) -> tuple[int, int, int]:
    """Sequential scans, updates and HOT updates of the table of jobs, as far as not reported yet."""
    rows = db.rows(
        "select coalesce(seq_scan, 0), n_tup_upd, n_tup_hot_upd from pg_stat_xact_user_tables "
        "where relid = 'pgqueue.job'::regclass"
    )
    return tuple(rows[0]) if rows else (0, 0, 0)


def _buffers(db: Db, call: str) -> int:
    """Pages that a second call reads; the first may plan, and so read the catalog."""
    explain = f"explain (analyze, buffers, format json) select * from pgqueue.{call}"
    db.one(explain)
    (plan,) = db.one(explain)
    return int(plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"])


def _every_hot_call(db: Db) -> None:
    """Each of the functions that run all the time, once or more."""
    db.enqueue(dedupe_key="x", delay=HOUR)
    db.enqueue(dedupe_key="x", delay=HOUR)
    db.enqueue_many({"kind": "k"}, {"kind": "k", "dedupe_key": "x"})
    db.call("claim", kinds=["other"])
    jobs = db.claim(5, kinds=["k", "j"]) + db.claim(3, floors=[0] * 10)
    db.call("extend", [j.id for j in jobs], [j.token for j in jobs], HOUR)
    for how, some in (
        ("ack", jobs[:2]),
        ("fail", jobs[2:4]),
        ("release", jobs[4:5]),
        ("skip", jobs[5:6]),
    ):
        db.end(how, *some)
        db.end(how, *some)
    db.call("cancel", [job.id for job in jobs])
    db.call("promote", 5, False)
    db.call("promote")
    db.call("reap", 5, False)
    db.call("reap")
    db.call("_fold_lanes", False)
    db.call("_fold_lanes", True)
    db.call("maintain")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("statistics", ["of an empty table", "none"])
def test_no_hot_statement_reads_the_whole_table(
    connect: Callable[..., Db], mode: str, statistics: str
) -> None:
    """Nor one that a worker planned while the queue was empty."""
    db = connect(plan_cache_mode=mode)
    db.rows("alter table pgqueue.job set (autovacuum_enabled = off)")
    for _ in range(7):
        _every_hot_call(db)
    db.rows("delete from pgqueue.job")
    if statistics == "of an empty table":
        db.rows("vacuum (analyze) pgqueue.job")
        for _ in range(7):
            _every_hot_call(db)
        db.rows("delete from pgqueue.job")
    connect().fill(3000)
    db.conn.execute("begin")
    before = _counts(db)[0]
    _every_hot_call(db)
    assert _counts(db)[0] == before
    db.conn.execute("commit")
    # Nor a whole index of it.
    for call in ("claim(count => 1, floors => '{0,0,0,0,0,0,0,0,0,0}')", "ack('{1}', '{1}')", "extend('{1}', '{1}', '1 s')",
                 "fail('{1}', '{1}')", "cancel('{-1}')", "enqueue('k', dedupe_key => 'y')"):  # fmt: skip
        assert _buffers(db, call) < 200, call


@pytest.mark.parametrize("only", ["nestloop", "hashjoin", "mergejoin"])
@pytest.mark.parametrize("mode", MODES)
def test_claim_takes_no_more_than_asked_for_by_any_plan(
    connect: Callable[..., Db], only: str, mode: str
) -> None:
    """Not even where the inner side of a join is run again for each outer row."""
    joins = {f"enable_{how}": "off" for how in ("nestloop", "hashjoin", "mergejoin") if how != only}
    db = connect(plan_cache_mode=mode, enable_material="off", enable_memoize="off", **joins)
    for priority in (0, 5, 9):
        db.fill(40, priority=priority)
    for _ in range(7):
        assert len(db.claim(10)) == 10
    assert db.one("select count(*) from pgqueue.job where lease_until is not null") == 70


def test_claim_reads_no_more_at_any_depth(db: Db) -> None:
    """A backlog costs nothing."""
    db.fill(200)
    db.rows("vacuum (analyze) pgqueue.job")
    db.claim(10)
    shallow = _buffers(db, "claim(count => 100)")
    db.fill(100_000)
    db.rows("vacuum (analyze) pgqueue.job")
    db.claim(10)
    deep = _buffers(db, "claim(count => 100)")
    assert deep < shallow * 1.5 + 100


def test_claims_are_hot(db: Db) -> None:
    """They write no index: no claim leaves a dead entry."""
    db.fill(2000)
    for count in (1000, 20):
        db.rows("vacuum pgqueue.job")
        with db.transaction():
            _, updates, hot = _counts(db)
            for _ in range(500 // count + 1):
                db.claim(count)
            _, updates_after, hot_after = _counts(db)
            assert updates_after - updates >= 500
            assert hot_after - hot >= (updates_after - updates) * 0.99


def _churn(db: Db, rounds: int) -> list[int]:
    """Claims and acks in the way of a warm client; the buffers of a claim after each round."""
    costs: list[int] = []
    for _ in range(rounds):
        db.fill(5000)
        highest = 0
        while jobs := db.claim(
            1000, floors=[None] * 5 + [max(highest - 2000, 0) or None] + [None] * 4
        ):
            highest = max(job.position for job in jobs)
            db.end("ack", *jobs)
        db.fill(100)
        db.call("_fold_lanes", False)
        costs.append(_buffers(db, "claim(count => 100)"))
    return costs


@pytest.mark.slow
def test_old_snapshot_does_not_make_claims_and_promotes_dearer(connect: Callable[..., Db]) -> None:
    """It keeps all dead rows; the floors spare the scan of them."""
    db, old = connect(), connect()
    _churn(db, 1)
    with old.transaction("begin isolation level repeatable read"):
        old.one("select 1 from pgqueue.setting")
        costs = _churn(db, 10)
        assert max(costs[-3:]) < max(costs[:3]) * 1.3 + 200, costs
        assert _buffers(db, "_fold_lanes(false)") < 500
        db.rows("select pgqueue.enqueue('k', delay => '1 s') from generate_series(1, 3000)")
        db.travel(seconds=10)
        assert db.value("promote", 5000, False) == 3000
        db.travel(seconds=10)
        db.value("promote", 5000, False)
        assert _buffers(db, "promote(5000, false)") < 200


@pytest.mark.slow
def test_old_snapshot_does_not_make_reaps_dearer(connect: Callable[..., Db]) -> None:
    """They begin at the lane's bottom."""
    db, old = connect(), connect()
    with old.transaction("begin isolation level repeatable read"):
        old.one("select 1 from pgqueue.setting")
        costs: list[int] = []
        for _ in range(8):
            db.fill(5000)
            while jobs := db.claim(1000):
                db.end("ack", *jobs)
            db.call("_fold_lanes", False)
            db.call("reap", 1000, False)
            costs.append(_buffers(db, "reap(1000, false)"))
        # The hints trail by up to 20,000 positions; from then on the cost is level.
        assert costs[-1] < max(costs[3:5]) * 1.3 + 200, costs


def test_enqueue_passes_over_sleepers_that_woke(connect: Callable[..., Db]) -> None:
    """However often they slept since the oldest snapshot."""
    db, old = connect(), connect()
    db.rows("select pgqueue.sleep('{other}', 'o', '1 h')")  # or nobody would be looked for
    with old.transaction("begin isolation level repeatable read"):
        old.one("select 1 from pgqueue.setting")
        db.rows(
            "select pgqueue.sleep('{default}', 'w', '-1 s'), pgqueue.wake('w') from generate_series(1, 3000)"
        )
        assert _buffers(db, "enqueue('k')") < 100


def test_waiting_for_nobody_writes_nothing(db: Db) -> None:
    """An idle claim leaves no transaction behind."""
    with db.transaction():
        db.claim(5)
        db.claim(5, floors=[0] * 10)
        assert db.one("select pg_current_xact_id_if_assigned()") is None
