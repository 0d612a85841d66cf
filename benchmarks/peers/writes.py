"""What the systems write for a job: WAL, table rows, index entries."""

from __future__ import annotations

import psycopg
from benchmarks.peers import wal
from benchmarks.peers.bench import Bench, database
from benchmarks.peers.figures import Writes
from benchmarks.peers.plan import LEAST_WRITES, Plan
from benchmarks.peers.systems import System

TUPLES = """
    select sum(n_tup_ins), sum(n_tup_upd), sum(n_tup_hot_upd), sum(n_tup_del)
    from pg_stat_user_tables
"""


def measure(bench: Bench, plan: Plan, system: System) -> Writes:
    """Counts over one enqueue in bulk and one drain by one process, per job."""
    count = plan.jobs(plan.write_jobs, system, LEAST_WRITES)
    dsn = bench.fresh(system)
    tuples = _tuples(dsn)
    start = wal.position(bench.cluster)
    bench.enqueue(system, dsn, count)
    bench.drain(system, dsn, count)
    bench.cluster.settle(database(system))
    logged = wal.counts(bench.cluster, start, wal.position(bench.cluster))
    rows = [after - before for before, after in zip(tuples, _tuples(dsn), strict=True)]
    inserted, updated, hot, deleted = (value / count for value in rows)
    return Writes(
        system=system.name,
        wal_bytes=logged.size / count,
        wal_records=logged.records / count,
        index_entries=logged.index_entries / count,
        inserted=inserted,
        updated=updated,
        hot_updated=hot,
        deleted=deleted,
    )


def _tuples(dsn: str) -> list[int]:
    with psycopg.connect(dsn, autocommit=True) as conn:
        row = conn.execute(TUPLES).fetchone()
    return [int(value or 0) for value in row or ()]
