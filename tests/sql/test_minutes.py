"""The figures of each minute: what is counted, once, and by whom."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.types.json import Jsonb

from pgqueue.operations.history import ERROR, Histogram

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Db

COUNTS = "enqueued, started, succeeded, failed, dead, cancelled, skipped"


def _begin(db: Db) -> None:
    """The clock at the beginning of a minute, so that a test does not run over its end."""
    db.travel(seconds=60 - db.one("select extract(second from pgqueue.clock())::float8"))


def _minutes(db: Db, queue: str = "default") -> list[Any]:
    return db.rows(
        f"select {COUNTS}, ready, scheduled, claimed from pgqueue.minute where queue = %s order by minute",
        queue,
    )


def _work(db: Db) -> None:
    """A job that ends in each way, one that fails, and one that waits."""
    for _ in range(7):
        db.enqueue(max_attempts=3)
    first, second, third, fourth, fifth, _ = db.claim(6)
    db.end("ack", first)
    db.end("skip", second)
    db.end("cancel_claimed", third)
    db.end("fail", fourth, errors=Jsonb([{"class": "E"}]), delays=[timedelta(hours=1)])
    db.rows("update pgqueue.job set max_attempts = 1 where id = %s", fifth.id)
    db.end("fail", fifth)


def test_what_happened_is_counted_after_its_minute(db: Db) -> None:
    """By how it ended; and what waits or runs then."""
    _begin(db)
    _work(db)
    db.call("_count_minutes")
    assert [sum(row[:7]) for row in _minutes(db)] == [0]
    db.travel(seconds=71)
    db.call("_count_minutes")
    assert _minutes(db)[-1] == (7, 6, 1, 1, 1, 1, 1, 1, 1, 1)


def test_each_minute_is_counted_once(db: Db, connect: Callable[..., Db], together: Any) -> None:
    """However many count, and however often."""
    _begin(db)
    _work(db)
    db.travel(seconds=71)
    others = [connect() for _ in range(4)]
    together(*[lambda other=other: other.call("_count_minutes") for other in others])
    db.call("_count_minutes")
    assert [sum(row[:7]) for row in _minutes(db)] == [18]


def test_minutes_that_nobody_counted_are_made_up_for(db: Db) -> None:
    """Each on its own; depths are known of the last only."""
    _begin(db)
    for _ in range(3):
        db.enqueue()
        db.end("ack", db.claim_one())
        db.travel(seconds=60)
    db.enqueue()
    db.travel(seconds=71)
    db.call("_count_minutes")
    assert [(row[0], row.succeeded, row.ready) for row in _minutes(db)][-4:] == [
        (1, 1, None), (1, 1, None), (1, 1, None), (1, 0, 1),
    ]  # fmt: skip


def test_upkeep_counts_and_forgets(db: Db) -> None:
    """Once a minute, and what is past its retention goes."""
    _begin(db)
    _work(db)
    db.travel(seconds=76)
    db.call("maintain")
    assert [row.succeeded for row in _minutes(db)] == [1]
    db.travel(days=8)
    db.rows("select setval('pgqueue.partitions_due', 1)")
    db.call("maintain")
    assert [row.succeeded for row in _minutes(db) if row.succeeded] == []


def test_entries_of_the_audit_log_are_kept_for_a_time(db: Db) -> None:
    """By the setting."""
    db.rows("insert into pgqueue.audit (actor, via, action) values ('ada', 'cli', 'pause')")
    db.call("_partitions")
    assert db.one("select count(*) from pgqueue.audit") == 1
    db.travel(days=366)
    db.call("_partitions")
    assert db.one("select count(*) from pgqueue.audit") == 0


@pytest.mark.parametrize("seconds", [0.0002, 0.003, 0.5, 1, 59.9, 4000, 900_000])
def test_quantiles_are_within_their_error(db: Db, seconds: float) -> None:
    """As far off as is said, and no further, whatever the duration."""
    counts = db.one(
        "select pgqueue._counts(array_agg(b), array_agg(1)) from (select pgqueue._bucket(%s)) b (b)",
        timedelta(seconds=seconds),
    )
    found = Histogram(counts).p50
    assert found is not None
    assert abs(found.total_seconds() / seconds - 1) <= ERROR + 0.001


def test_shortest_and_longest_have_a_bucket(db: Db) -> None:
    """Those beyond the ends are in the first and the last."""
    bucket = "select pgqueue._bucket(%s)"
    assert db.one(bucket, timedelta(0)) == db.one(bucket, timedelta(seconds=-5)) == 1
    assert db.one(bucket, timedelta(days=4000)) == 133


def test_waits_and_runs_are_those_of_the_jobs_that_ended(db: Db) -> None:
    """From ready to start, and from start to end, by queue."""
    _begin(db)
    for _ in range(10):
        db.enqueue()
    db.travel(seconds=8)
    jobs = db.claim(10, lease=timedelta(hours=1))
    db.travel(seconds=30)
    db.end("ack", *jobs)
    db.travel(seconds=40)
    db.call("_count_minutes")
    waits, runs = db.rows("select waits, runs from pgqueue.minute where waits <> '{}'")[0]
    wait, run = Histogram(waits), Histogram(runs)
    assert (wait.total, run.total) == (10, 10)
    assert wait.p99 is not None
    assert run.p50 is not None
    assert abs(wait.p99.total_seconds() / 8 - 1) < ERROR + 0.05
    assert abs(run.p50.total_seconds() / 30 - 1) < ERROR + 0.05


def test_no_ack_writes_for_the_figures(db: Db) -> None:
    """Nor does a fail by the job: one row for each statement."""
    db.fill(50)
    jobs = db.claim(50)
    written = (
        "select coalesce(sum(n_tup_ins), 0) from pg_stat_xact_user_tables "
        "where relname in ('minute', 'attempt_end')"
    )
    with db.transaction():
        db.end("ack", *jobs[:20])
        assert db.one(written) == 0
        db.end("fail", *jobs[20:])
        assert db.one(written) == 1
