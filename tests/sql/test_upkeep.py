"""promote(), reap(), maintain(), their registers, and the doorbell."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Db

HOUR = timedelta(hours=1)


def test_due_jobs_become_ready_in_the_order_of_their_times(db: Db) -> None:
    """Those that are not due stay."""
    late, soon = db.enqueue(delay=2 * HOUR), db.enqueue(delay=HOUR)
    not_yet = db.enqueue(delay=9 * HOUR)
    assert db.value("promote") == 0
    db.travel(hours=3)
    assert db.value("promote") == 2
    assert [job.id for job in db.claim(1) + db.claim(1)] == [soon, late]
    assert db.state(not_yet) == "scheduled"


def test_promote_goes_on_where_it_stopped(db: Db) -> None:
    """A full batch moves the floor only as far as it got."""
    for n in range(10):
        db.enqueue(delay=timedelta(minutes=n + 1))
    db.travel(hours=1)
    assert [db.value("promote", 4, False) for _ in range(4)] == [4, 4, 2, 0]


@pytest.mark.parametrize("rescan", [True, False])
def test_job_committed_late_is_promoted(connect: Callable[..., Db], rescan: bool) -> None:  # noqa: FBT001
    """With the next rescan, if it is more than seconds late."""
    db, producer = connect(), connect()
    producer.conn.execute("begin")
    producer.enqueue(delay=timedelta(seconds=1))
    db.travel(minutes=1)
    db.value("promote", 10, False)
    producer.conn.execute("commit")
    assert db.value("promote", 10, rescan) == rescan


def test_concurrent_promotes_share_the_work(
    connect: Callable[..., Db], together: Callable[..., list[Any]]
) -> None:
    """Each job becomes ready once."""
    dbs = [connect() for _ in range(4)]
    dbs[0].rows("select pgqueue.enqueue('k', delay => '1 minute') from generate_series(1, 400)")
    dbs[0].travel(minutes=2)
    assert sum(together(*(lambda db=db: db.value("promote", 150) for db in dbs))) == 400


def test_reap_ends_expired_claims_only(db: Db) -> None:
    """A job of many leases, always renewed, runs once."""
    db.fill(3)
    kept, gone, done = db.claim(3)
    db.end("ack", done)
    for _ in range(5):
        db.travel(seconds=20)
        db.call("extend", [kept.id], [kept.token], timedelta(seconds=30))
        db.call("reap", 10, False)
    assert db.state(kept.id) == "claimed"
    assert db.history(gone.id)[0]["outcome"] == "expired"
    assert db.history(gone.id)[0]["error_class"] == "LeaseExpired"


def test_concurrent_reaps_end_each_claim_once(
    connect: Callable[..., Db], together: Callable[..., list[Any]]
) -> None:
    """Together with late acks, of which each either comes first or is lost."""
    dbs = [connect(deadlock_timeout="5ms") for _ in range(4)]
    dbs[0].fill(300)
    jobs = dbs[0].claim(300)
    dbs[0].rows("update pgqueue.job set lease_until = '2000-01-01'")
    first, second, lost, _ = together(
        lambda: dbs[0].value("reap", 200),
        lambda: dbs[1].value("reap", 200),
        lambda: dbs[2].end("ack", *jobs[::-1]),
        lambda: dbs[3].call("extend", [j.id for j in jobs], [j.token for j in jobs], HOUR),
    )
    acked = dbs[0].one("select count(*) from pgqueue.archive where state = 'succeeded'")
    assert len(lost) + acked == 300
    reaped = dbs[0].one("select count(*) from pgqueue.job where history is not null")
    assert first + second == reaped
    assert set(lost) == {
        row.id for row in dbs[0].rows("select id from pgqueue.job where history is not null")
    }


def test_reaper_passes_over_what_is_locked(connect: Callable[..., Db]) -> None:
    """It waits for nobody."""
    db, other = connect(statement_timeout="3s"), connect()
    db.fill(2)
    first, second = db.claim(2)
    db.rows("update pgqueue.job set lease_until = '2000-01-01'")
    with other.transaction():
        other.call("extend", [first.id], [first.token], HOUR)
        assert db.value("reap") == 1
    assert db.state(second.id) != "claimed"


def test_maintain_does_all_that_is_due(db: Db) -> None:
    """And says when the next scheduled job is due."""
    db.enqueue()
    expired = db.claim_one()
    db.enqueue(delay=HOUR)
    later = db.enqueue(delay=3 * HOUR)
    db.travel(hours=2)
    promoted, reaped, next_run_at = db.call("maintain")[0]
    # The expired job is due since, and counts as promoted, or is ready already.
    assert (promoted, reaped) == (1, 1)
    assert next_run_at == db.job(later).run_at
    assert db.state(expired.id) == "ready"
    db.call("purge", "default")
    assert db.call("maintain") == [(0, 0, None)]


def test_turns_are_shared(db: Db) -> None:
    """What was done is not done again at once, by nobody."""
    for _ in range(2):
        db.call("maintain")
    db.enqueue()
    db.expire(db.claim_one().id)
    assert db.call("maintain")[0].reaped == 0
    db.travel(seconds=1)
    assert db.call("maintain")[0].reaped == 1


def test_upkeep_with_nothing_to_do_writes_nothing(db: Db) -> None:
    """No transaction id is used up by a fleet of idle workers, but for its shared turns."""
    unwritten = 0
    for _ in range(20):
        with db.conn.transaction():
            db.call("maintain")
            unwritten += db.one("select pg_current_xact_id_if_assigned() is null")
    assert unwritten >= 10


def test_full_batch_is_followed_at_once(db: Db) -> None:
    """A fleet that died is reaped without pauses."""
    db.fill(2500)
    db.claim(2500)
    db.rows("update pgqueue.job set lease_until = '2000-01-01'")
    assert [db.call("maintain")[0].reaped for _ in range(4)] == [1000, 1000, 500, 0]


@pytest.mark.parametrize("back", [timedelta(minutes=-30), timedelta(days=-40)])
def test_clock_set_back_does_not_stop_the_maintenance(db: Db, back: timedelta) -> None:
    """Not for longer than ten minutes."""
    db.call("maintain")
    registers = db.rows(
        "select sequencename, last_value from pg_sequences where sequencename like '%\\_due'"
    )
    db.travel(seconds=back.total_seconds())
    # What travelling resets, a clock that is set back would not.
    for name, value in registers:
        db.rows("select setval(%s::regclass, %s)", f"pgqueue.{name}", value)
    db.enqueue()
    job = db.claim_one()
    db.expire(job.id)
    assert db.call("maintain")[0].reaped == 1


def test_costly_work_is_done_less_often_but_within_ten_minutes(db: Db) -> None:
    """One part in twenty-five of the time."""
    for cost, pause in ((0.001, 1.0), (2, 50), (1000, 600)):
        db.rows(
            "select pgqueue._end_turn('pgqueue.lanes_due', pgqueue.clock() - %s * interval '1 s', '1 s')",
            cost,
        )
        left = db.one(
            "select extract(epoch from pgqueue._read_register('pgqueue.lanes_due') - pgqueue.clock())"
        )
        assert abs(float(left) - pause) < 0.5
    assert not db.one("select pgqueue._take_turn('pgqueue.lanes_due', pgqueue.clock(), '1 s')")


# The doorbell


@pytest.mark.direct("LISTEN belongs to a session")
def test_only_sleepers_are_rung(connect: Callable[..., Db]) -> None:
    """Of that queue, while they sleep; nobody else's commit pays for a notification."""
    db, listener = connect(), connect()
    listener.rows("listen pgqueue")

    def rung() -> list[str]:
        return sorted(notice.payload for notice in listener.conn.notifies(timeout=0.05))

    db.enqueue(queue="a")
    assert rung() == []
    db.call("sleep", ["a", "b", "a"], "w1", timedelta(seconds=30))
    db.call("sleep", ["a"], "w2", timedelta(seconds=30))
    db.enqueue(queue="a")
    db.enqueue(queue="c")
    db.enqueue(queue="a", delay=HOUR)
    assert rung() == ["a w1", "a w2"]
    db.call("wake", "w1")
    db.call("wake", "w2")
    db.enqueue(queue="a")
    assert rung() == []
    db.call("sleep", ["a"], "w1", timedelta(seconds=30))
    db.travel(minutes=1)
    db.enqueue(queue="a")
    assert rung() == []


@pytest.mark.direct("LISTEN belongs to a session")
def test_one_job_wakes_two_sleepers_that_run_its_kind(connect: Callable[..., Db]) -> None:
    """Should one have died. For many jobs, of kinds that nobody looked at, all are rung."""
    db, listener = connect(), connect()
    listener.rows("listen pgqueue")
    for number in range(50):
        db.call("sleep", ["a", "b"], f"w {number}", timedelta(seconds=30), ["k", f"k{number}"])

    def rung(queue: str, kind: str) -> set[str]:
        db.enqueue(kind, queue=queue)
        return {notice.payload for notice in listener.conn.notifies(timeout=0.05)}

    woken = rung("a", "k")
    assert len(woken) == 2
    assert all(payload.startswith("a w ") for payload in woken)
    assert rung("b", "k7") == {"b w 7"}
    assert rung("b", "unknown") == set()
    db.call("sleep", ["c"], "any", timedelta(seconds=30))
    db.call("sleep", ["c"], "w" * 9000, timedelta(seconds=30))
    assert rung("c", "unknown") == {"c any"}
    db.enqueue_many({"kind": "k", "queue": "a"})
    assert [notice.payload for notice in listener.conn.notifies(timeout=0.05)] == ["a"]


@pytest.mark.direct("LISTEN belongs to a session")
def test_maintenance_rings_for_what_was_left_lying(connect: Callable[..., Db]) -> None:
    """Half a second after a ring that nobody answered; not for a queue that is paused."""
    db, listener = connect(), connect()
    listener.rows("listen pgqueue")
    for queue in ("a", "b"):
        db.enqueue(queue=queue)
        db.call("sleep", [queue], f"w {queue}", timedelta(minutes=1))
    db.call("pause", "b")

    def rung() -> list[str]:
        db.call("maintain")
        return [notice.payload for notice in listener.conn.notifies(timeout=0.05)]

    db.travel(seconds=-1)  # the jobs are not of age yet
    assert rung() == []
    db.travel(seconds=3)
    assert rung() == ["a"]
    db.call("claim", ["a"])
    db.travel(seconds=2)
    assert rung() == []


def test_what_dead_sleepers_left_goes_away(db: Db) -> None:
    """An hour later."""
    db.call("sleep", ["a"], "w1", timedelta(seconds=30))
    db.travel(hours=2)
    db.call("maintain")
    assert db.rows("select from pgqueue.sleeper") == []
