"""What a session remembers of lanes, so that its enqueues need not look: never a mark that is gone.

A job in a lane without a mark is seen by no claim until the next rescan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from tests.sql.conftest import Db
from tests.sql.roles import Roles, made

from pgqueue import migrate

if TYPE_CHECKING:
    from pgqueue.testing.databases import Databases

MARKS = "select count(*) from pgqueue.lane"
NAMED = "select count(*) from pgqueue.lane where queue = %s and priority = %s"


def test_lane_is_marked_once(db: Db) -> None:
    """By the first job of each priority, whatever else is enqueued in between."""
    for _ in range(3):
        for queue in ("a", "b"):
            for priority in (0, 5):
                db.enqueue(queue=queue, priority=priority)
    assert db.one(MARKS) == 4


def test_queues_that_share_a_setting(db: Db) -> None:
    """There are 32, and many more queues."""
    queues = [f"q{n}" for n in range(100)]
    for queue in queues * 2:
        db.enqueue(queue=queue)
    assert db.one(MARKS) == 100
    assert len(db.claim(500, queues)) == 200


@pytest.mark.parametrize("how", ["delete from pgqueue.lane", "truncate pgqueue.lane"])
def test_marks_that_somebody_deletes(connect: Callable[..., Db], how: str) -> None:
    """A test suite that empties its tables, in another session."""
    db, other = connect(), connect()
    db.enqueue(queue="a")
    other.rows(f"truncate pgqueue.job; {how}")
    job_id = db.enqueue(queue="a")
    assert [job.id for job in other.claim(1, "a")] == [job_id]


def test_mark_that_maintenance_forgets(connect: Callable[..., Db]) -> None:
    """As it does with lanes out of use."""
    db, keeper = connect(), connect()
    db.enqueue(queue="a")
    db.end("ack", db.claim_one(queue="a"))
    db.rows("select setval('pgqueue.position_seq', 50000)")
    keeper.call("_fold_lanes", True)
    assert db.one(NAMED, "a", 5) == 0
    job_id = db.enqueue(queue="a")
    assert [job.id for job in keeper.claim(1, "a")] == [job_id]


@pytest.mark.parametrize("end", ["rollback", "rollback to a"])
def test_mark_of_a_transaction_that_is_undone(db: Db, end: str) -> None:
    """What it remembered is undone as well."""
    db.conn.execute("begin")
    db.conn.execute("savepoint a")
    db.enqueue(queue="a")
    db.conn.execute(end.encode())
    job_id = db.enqueue(queue="a")
    db.conn.execute("commit")
    assert [job.id for job in db.claim(1, "a")] == [job_id]


def test_schema_of_the_same_name_that_is_new(db: Db) -> None:
    """And so has no marks, in a session that remembers those of the old one."""
    db.enqueue(queue="a")
    db.rows("drop schema pgqueue cascade")
    db.conn.execute(migrate.script("pgqueue").encode())
    job_id = db.enqueue(queue="a")
    assert [job.id for job in db.claim(1, "a")] == [job_id]


def test_other_schema_of_the_same_session(db: Db) -> None:
    """It has marks of its own, even if both were installed in the same second."""
    db.conn.execute(migrate.script("other").encode())
    for schema in ("pgqueue", "other"):
        db.rows(f"select setval('{schema}.marks_deleted', 7)")
        db.rows(f"select {schema}.enqueue('k', queue => 'a')")
        assert len(db.rows(f"select id from {schema}.claim('{{a}}')")) == 1


def test_scheduled_jobs_need_no_mark(db: Db) -> None:
    """Until they are ready; then promotion gives it."""
    job_id = db.enqueue(queue="a", delay=timedelta(hours=1))
    assert db.one(MARKS) == 0
    db.rows("update pgqueue.job set run_at = pgqueue.clock()")
    db.value("promote")
    assert [job.id for job in db.claim(1, "a")] == [job_id]


@pytest.fixture
def roles(_pgqueue_databases: Databases) -> Iterator[Roles]:
    """A database with roles of its own."""
    with made(_pgqueue_databases) as roles:
        yield roles


@pytest.mark.direct("LISTEN belongs to a session")
@pytest.mark.parametrize("whose", ["the role's own", "also PUBLIC's"])
def test_role_without_rights_on_the_sequences(roles: Roles, whose: str) -> None:
    """One of before an upgrade has PUBLIC's; without these, it looks each time, and rings."""
    with roles.as_owner() as owner:
        if whose == "also PUBLIC's" and owner.conn.info.server_version < 180_000:
            pytest.skip("before Postgres 18 it is an error to ask")
        losers = [f'"{roles.names["producer"]}"', "public"][: 1 + (whose == "also PUBLIC's")]
        owner.rows(
            "revoke all on sequence pgqueue.marks_deleted, pgqueue.slept_until from "
            + ", ".join(losers)
        )
    with roles.as_("worker") as worker, roles.as_("producer") as producer:
        worker.rows("listen pgqueue")
        worker.call("sleep", ["a"], "w", timedelta(minutes=1))
        ids = {producer.enqueue(queue="a") for _ in range(3)}
        assert producer.one(MARKS) == 1
        assert len(list(worker.conn.notifies(timeout=5, stop_after=3))) == 3
        assert {job.id for job in worker.claim(9, "a")} == ids


@pytest.mark.direct("LISTEN belongs to a session")
def test_register_of_sleepers_keeps_the_latest(db: Db) -> None:
    """One that sleeps for long is not forgotten for one that sleeps for less."""
    db.rows("listen pgqueue")
    db.call("sleep", ["a"], "long", timedelta(hours=1))
    db.call("sleep", ["b"], "short", timedelta(seconds=1))
    db.rows("select pgqueue.wake('short')")
    assert db.one(
        "select to_timestamp(last_value / 1e6) > clock_timestamp() + '59 min' from pgqueue.slept_until"
    )
    db.enqueue(queue="a")
    assert [note.payload for note in db.conn.notifies(timeout=5, stop_after=1)] == ["a long"]
