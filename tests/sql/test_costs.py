"""What a job writes, counted: no measure of time, so that a change shows on any machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Db

JOBS = 2_000


def _cycle(db: Db) -> None:
    """Jobs from enqueue to archive, in batches."""
    db.fill(JOBS)
    while jobs := db.claim(500):
        db.end("ack", *jobs)


@pytest.mark.parametrize("retention, most", [("14 days", 1_150), ("0", 800)])
def test_bytes_in_the_log_per_job(db: Db, retention: str, most: int) -> None:
    """Measured: 962 with retention and 643 without, images of whole pages included (docs/benchmarks.md)."""
    db.rows("update pgqueue.setting set retention = %s", retention)
    _cycle(db)  # the pages that are touched have their images in the log now
    before = db.one("select pg_current_wal_insert_lsn()")
    _cycle(db)
    written = db.one("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s)::float8", before)
    assert written / JOBS < most


def test_rows_written_per_job(connect: Callable[..., Db]) -> None:
    """Two inserted, one updated, one deleted; and the claim, a HOT update, adds no index entry."""
    db = connect()
    count = (
        "select sum(n_tup_ins) i, sum(n_tup_upd) u, sum(n_tup_hot_upd) h, sum(n_tup_del) d "
        "from pg_stat_xact_user_tables where relname = 'job' or relname like 'archive_done%'"
    )
    with db.transaction():
        _cycle(db)
        inserted, updated, hot, deleted = db.rows(count)[0]
    assert (inserted, updated, deleted) == (2 * JOBS, JOBS, JOBS)
    assert hot >= 0.98 * JOBS
