"""Rounds of enqueue and drain while somebody holds an old snapshot, so that no vacuum helps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from benchmarks.peers.bench import Bench, database
from benchmarks.peers.figures import HeldRound, quantile
from benchmarks.peers.plan import Plan
from benchmarks.peers.systems import System


def rounds(bench: Bench, plan: Plan, system: System) -> Iterator[HeldRound]:
    """Each round as it ends, until the plan's jobs are churned or its time is up."""
    ours = system.runtime == "ours"
    most = plan.jobs(plan.held_ours if ours else plan.held_peers)
    seconds = plan.seconds(plan.held_seconds) * (3 if ours else 1)
    size = plan.jobs(plan.held_round, system)
    dsn = bench.fresh(system)
    bench.cluster.log_statement_times(database(system))
    churned = 0
    deadline = time.monotonic() + seconds
    with snapshot(dsn):
        while churned < most and time.monotonic() < deadline:
            enqueued = bench.enqueue(system, dsn, size)
            logged = bench.cluster.logged()
            drained = bench.drain(system, dsn, size)
            churned += size
            times = bench.cluster.statement_times(bench.infos[system.name]["claim"], logged)
            p50, p99 = (quantile(times, share) if times else None for share in (0.5, 0.99))
            yield HeldRound(churned, enqueued, drained, p50, p99)


@contextmanager
def snapshot(dsn: str) -> Iterator[None]:
    """A transaction that stays open meanwhile, and with it what it could see."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("begin isolation level repeatable read, read only")
        conn.execute("select count(*) from pg_class")  # a snapshot is taken with the first query
        yield
        conn.execute("commit")
