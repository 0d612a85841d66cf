"""The archive's partitions: made ahead, dropped by retention, and what happens if nobody maintains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Db


def _finish(db: Db, how: str = "ack") -> int:
    job_id = db.enqueue(max_attempts=1)
    db.end(how, db.claim_one())
    return job_id


def _in_default(db: Db, part: str = "done") -> int:
    return int(db.one(f"select count(*) from pgqueue.archive_{part}_default"))


def test_partitions_are_made_ahead(db: Db) -> None:
    """For today and three days, of both parts, at install already."""
    for part in ("done", "dead"):
        assert db.one(
            "select count(*) from pgqueue._bounds(%s) where until > clock_timestamp() "
            "and since < clock_timestamp() + interval '4 days'", part,
        ) == 4  # fmt: skip
    _finish(db)
    _finish(db, "fail")
    assert _in_default(db) == _in_default(db, "dead") == 0


def test_retention_drops_partitions(db: Db) -> None:
    """Dead jobs stay longer."""
    done, dead = _finish(db), _finish(db, "fail")
    for days, left in ((13, {done, dead}), (3, {dead}), (90, set())):
        db.travel(days=days)
        db.call("maintain")
        assert {row.id for row in db.rows("select id from pgqueue.archive")} == left
    assert db.one("select count(*) from pgqueue._bounds('done')") == 4


@pytest.mark.slow
def test_retention_of_many_rows_takes_no_time(connect: Callable[..., Db]) -> None:
    """200,000 are gone within a second, and so are a million: whole tables are dropped."""
    db, pruner = connect(), connect(statement_timeout="1s")
    db.rows(
        "insert into pgqueue.archive (id, state, finished_at, run_at, enqueued_at, attempt, max_attempts, "
        "priority, queue, kind, payload) select n, 'succeeded', pgqueue.clock(), now(), now(), 1, 1, 5, 'q', 'k', '{}' "
        "from generate_series(1, 200000) n"
    )
    assert _in_default(db) == 0
    db.travel(days=20)
    with pruner.transaction():
        pruner.call("_partitions")
        deleted = pruner.one(
            "select sum(n_tup_del) from pg_stat_xact_user_tables where relname like 'archive%'"
        )
        assert deleted == 0
        assert pruner.rows("select from pgqueue.archive") == []


def test_shorter_retention_takes_effect(db: Db) -> None:
    """With the next call."""
    _finish(db)
    db.travel(days=3)
    db.rows("update pgqueue.setting set retention = '1 hour'")
    db.call("_partitions")
    assert db.rows("select from pgqueue.archive") == []


def test_what_fell_into_the_default_is_moved_to_its_partition(db: Db) -> None:
    """Nobody maintained for a week; the rows of today come home, later ones directly."""
    db.travel(days=7)
    job_id = _finish(db)
    assert _in_default(db) == 1
    db.call("_partitions")
    assert _in_default(db) == 0
    assert db.state(job_id) == "succeeded"
    _finish(db)
    assert _in_default(db) == 0


def test_default_is_emptied_by_retention(db: Db) -> None:
    """Of days that never had a partition."""
    db.travel(days=7)
    _finish(db)
    db.travel(days=8)
    db.call("_partitions")
    assert _in_default(db) == 1
    db.travel(days=10)
    db.call("_partitions")
    assert _in_default(db) == 0


@pytest.mark.parametrize("first, second", [("1 day", "1 hour"), ("1 hour", "1 day")])
def test_width_may_change(db: Db, first: str, second: str) -> None:
    """Partitions never overlap, and no time from now on lacks one."""
    db.rows("update pgqueue.setting set partition_width = %s", first)
    db.travel(days=30)
    db.call("_partitions")
    db.travel(minutes=70)
    db.rows("update pgqueue.setting set partition_width = %s", second)
    for _ in range(30):
        db.call("_partitions")
        _finish(db)
        db.travel(hours=5 if second == "1 day" else 1)
    assert _in_default(db) == 0
    assert db.one(
        "select count(*) from pgqueue._bounds('done') a join pgqueue._bounds('done') b "
        "on a.part <> b.part and a.since < b.until and b.since < a.until"
    ) == 0  # fmt: skip


def test_travel_back_leaves_the_default_to_serve(db: Db) -> None:
    """A clock that was wrong for a while stops nothing."""
    db.travel(days=40)
    db.call("maintain")
    db.travel(days=-40)
    db.call("maintain")
    job_id = _finish(db)
    db.call("maintain")
    assert db.state(job_id) == "succeeded"
    assert _in_default(db) == 0


@pytest.mark.parametrize("style", ["ISO, MDY", "SQL, DMY", "German", "Postgres, MDY"])
@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/St_Johns"])
def test_bounds_are_read_in_any_format(connect: Callable[..., Db], style: str, zone: str) -> None:
    """Whatever the session's DateStyle, time zone and string syntax."""
    db = connect(
        datestyle=style,
        timezone=zone,
        standard_conforming_strings="off",
        escape_string_warning="off",
    )
    db.travel(days=16)
    db.call("_partitions")
    db.travel(days=3)
    db.call("_partitions")
    assert db.one("select count(*) from pgqueue._bounds('done')") == 7


def test_reader_of_the_archive_holds_up_a_drop_and_not_the_acks(connect: Callable[..., Db]) -> None:
    """It is tried again with the next call."""
    db, reader = connect(statement_timeout="3s"), connect()
    _finish(db)
    db.travel(days=20)
    with reader.transaction():
        reader.rows("select from pgqueue.archive")
        db.call("_partitions")
        assert db.one("select count(*) from pgqueue.archive") == 1
        _finish(db)
    db.call("_partitions")
    assert db.one("select count(*) from pgqueue.archive") == 1
    assert _in_default(db) == 0


def test_huge_default_is_left_to_retention(db: Db) -> None:
    """Moving it would hold up the acks."""
    db.travel(days=7)
    db.rows(
        "insert into pgqueue.archive (id, state, finished_at, run_at, enqueued_at, attempt, max_attempts, "
        "priority, queue, kind, payload) select n, 'succeeded', pgqueue.clock(), now(), now(), 1, 1, 5, 'q', 'k', '{}' "
        "from generate_series(1, 20001) n"
    )
    db.call("_partitions")
    assert _in_default(db) == 20001
    _finish(db)
    db.travel(days=1)
    _finish(db)
    assert _in_default(db) == 20002
    db.travel(days=14)
    for left in (2, 0):
        db.call("_partitions")
        assert _in_default(db) == left


def test_partition_that_somebody_detached_or_uses_holds_up_no_other(db: Db) -> None:
    """Neither the one that cannot be made again, nor the one that cannot be dropped."""
    first, second = (
        row.part
        for row in db.rows(
            "select part::text from pgqueue._bounds('done') where until > pgqueue.clock() order by since limit 2"
        )
    )
    db.conn.execute(f"alter table pgqueue.archive_done detach partition {second}")
    db.conn.execute(f"create view pgqueue.mine as select id from {first}")
    db.travel(days=1)
    job_id = _finish(db)
    assert _in_default(db) == 1
    db.call("_partitions")
    for part in ("done", "dead"):
        assert (
            db.one("select count(*) from pgqueue._bounds(%s) where until > pgqueue.clock()", part)
            >= 3
        )
    db.travel(days=30)
    db.call("_partitions")
    assert db.state(job_id) is None
    assert db.one("select count(*) from pgqueue._bounds('done') where until < pgqueue.clock()") == 1


def test_two_at_once_do_not_disturb_each_other(connect: Callable[..., Db]) -> None:
    """The second leaves it to the first."""
    db, other = connect(), connect(statement_timeout="2s")
    db.travel(days=5)
    with db.transaction():
        db.call("_partitions")
        other.call("_partitions")
    other.call("_partitions")
    assert (
        other.one("select count(*) from pgqueue._bounds('done') where until > pgqueue.clock()") == 4
    )
