"""Edits, claims of one job, deletes, and the pause of everything, as functions of SQL."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Db

HOUR = timedelta(hours=1)


def _order(db: Db) -> list[int]:
    """Ids in the order in which their positions have them, by priority."""
    return [
        row.id
        for row in db.rows(
            "select id from pgqueue.job where position is not null order by priority, position"
        )
    ]


def test_job_of_another_priority_keeps_its_age(db: Db) -> None:
    """It stands where it would, had it always been of that priority."""
    first, old, second = (db.enqueue(priority=p) for p in (2, 7, 2))
    third = db.enqueue(priority=2)
    assert db.value("edit", old, priority=2) == "ready"
    assert _order(db) == [first, old, second, third]


def test_job_is_not_put_below_the_floor_of_its_new_lane(db: Db) -> None:
    """A claim by the database's hint finds it at once."""
    old = db.enqueue(priority=7)
    db.fill(10, priority=2)
    db.rows(
        "update pgqueue.lane set floor = (select max(position) from pgqueue.job) where priority = 2"
    )
    db.value("edit", old, priority=2)
    assert old in {job.id for job in db.claim(2)}


def test_job_in_a_lane_that_is_new_can_be_claimed(db: Db) -> None:
    """The lane gets its mark, and an idle worker is rung."""
    job_id = db.enqueue(delay=HOUR)
    assert db.value("edit", job_id, priority=0) == "scheduled"
    assert db.claim() == []
    assert db.value("edit", job_id, run_at=db.one("select now()")) == "ready"
    assert db.claim_one().id == job_id


def test_ready_job_can_be_put_off(db: Db) -> None:
    """It waits until then, and is promoted as any other."""
    job_id = db.enqueue()
    db.value("edit", job_id, run_at=db.one("select now() + interval '1 h'"))
    assert (db.state(job_id), db.claim()) == ("scheduled", [])
    db.travel(hours=1.1)
    assert db.value("promote") == 1
    assert db.claim_one().id == job_id


@pytest.mark.parametrize("delay", [None, HOUR])
def test_claim_of_one_job_is_fenced_and_reaped(db: Db, delay: timedelta | None) -> None:
    """As any claim: its end needs the token, and if its holder dies the job runs again."""
    job_id = db.enqueue(delay=delay, queue="never-seen")
    (job,) = db.call("claim_one", job_id, worker="ada")
    assert (job.id, job.attempt, job.queue) == (job_id, 1, "never-seen")
    with pytest.raises(psycopg.Error, match=f"job {job_id} is claimed") as caught:
        db.call("claim_one", job_id)
    assert (caught.value.sqlstate, caught.value.diag.message_detail) == (
        "PQ007",
        f"{job_id} claimed",
    )
    db.expire(job_id)
    assert db.value("reap", 1000, False) == 1
    assert db.end("ack", job) == [job_id]


def test_claim_of_one_job_takes_no_job_from_another(
    connect: Callable[..., Db], together: Any
) -> None:
    """Of several at once, one gets it."""
    sessions = [connect() for _ in range(6)]
    job_id = sessions[0].enqueue()

    def claim(db: Db) -> str | None:
        try:
            db.call("claim_one", job_id)
        except psycopg.Error as error:
            return error.sqlstate
        return "claimed"

    ended = together(*[lambda db=db: claim(db) for db in sessions])
    assert sorted(ended) == ["PQ007"] * 5 + ["claimed"]


@pytest.mark.parametrize("call", ["claim_one(99)", "edit(99, priority => 1)"])
def test_unknown_job_has_a_state_of_its_own(db: Db, call: str) -> None:
    """With the id as its detail."""
    with pytest.raises(psycopg.Error) as caught:
        db.rows(f"select * from pgqueue.{call}")
    assert (caught.value.sqlstate, caught.value.diag.message_detail) == ("PQ006", "99")


def test_delete_leaves_claimed_jobs(db: Db) -> None:
    """Waiting and finished ones go."""
    ids = [db.enqueue(dedupe_key=str(n)) for n in range(3)]
    done, held = db.claim(2)
    db.end("ack", done)
    assert db.value("delete", ids) == 2
    assert [db.state(job_id) for job_id in ids if job_id != held.id] == [None, None]
    assert db.state(held.id) == "claimed"


def test_no_schedule_fires_while_all_is_paused(db: Db) -> None:
    """Nor does upkeep come sooner for it; by hand it does, and afterwards the last slot is made up for."""
    db.call("schedule", "s", "k", every=timedelta(minutes=1))
    db.call("pause", "*")
    db.travel(minutes=3)
    assert db.value("tick") == 0
    assert db.call("maintain")[0].next_run_at is None
    assert db.one("select count(*) from pgqueue.job") == 0
    db.value("run_schedule", "s")
    assert db.one("select count(*) from pgqueue.job") == 1
    assert db.value("resume", "*")
    assert db.value("tick") == 1


def test_endpoint_has_nothing_to_do_while_all_is_paused(db: Db) -> None:
    """So that it is not poked."""
    db.enqueue()
    assert db.value("_has_ready", "default")
    db.call("pause", "*")
    assert not db.value("_has_ready", "default")


@pytest.mark.direct("LISTEN belongs to a session")
def test_end_of_the_pause_rings_every_sleeper(connect: Callable[..., Db]) -> None:
    """Of every queue: jobs may have come meanwhile."""
    db, worker = connect(), connect()
    worker.rows("listen pgqueue")
    db.call("pause", "*")
    worker.call("sleep", ["a", "b"], "w", timedelta(minutes=1))
    db.call("resume", "*")
    found = {note.payload for note in worker.conn.notifies(timeout=5, stop_after=2)}
    assert found == {"a", "b"}


def test_pause_of_all_costs_a_claim_nothing(db: Db) -> None:
    """It is one more key in a look that each claim takes anyway."""
    db.fill(100)
    db.claim(10)
    explain = "explain (analyze, buffers, format json) select * from pgqueue.claim(count => 1)"
    db.one(explain)
    (plan,) = db.one(explain)
    before = plan["Plan"]["Shared Hit Blocks"]
    db.call("pause", "elsewhere")
    (plan,) = db.one(explain)
    assert plan["Plan"]["Shared Hit Blocks"] <= before + 20
