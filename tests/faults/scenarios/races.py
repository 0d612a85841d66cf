"""Many at once at the same jobs: bulk calls in opposite orders, and producers of one key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from threading import Barrier
from typing import TypeVar

import psycopg
from tests.faults.harness.database import rows
from tests.faults.harness.report import Report
from tests.faults.harness.run import Run

from pgqueue import Client, LeaseLost, NewJob
from pgqueue.statements import Statement
from pgqueue.testing import travel

T = TypeVar("T")

BULK = 200
"""Jobs that all calls of a round are about."""
KEYS = 60
PRODUCERS = 50
AT_ONCE = timedelta(0)
LONG = timedelta(hours=1)


def together(pool: ThreadPoolExecutor, calls: Sequence[Callable[[], T]]) -> list[T]:
    """What the calls return, all of which begin at the same time; each has a thread of the pool."""
    barrier = Barrier(len(calls))

    def begin(call: Callable[[], T]) -> T:
        barrier.wait(30)
        return call()

    return [future.result(60) for future in [pool.submit(begin, call) for call in calls]]


def endings(run: Run) -> Report:
    """Acks, fails, releases, extends and cancels of the same claims."""
    return _reversed(run, ("ack", "fail", "release", "extend", "cancel", "reap"), 0, keys=0)


def batches(run: Run) -> Report:
    """Batches that replace, beside what ends, cancels and brings back the jobs with their keys."""
    return _reversed(run, ("ack", "extend", "cancel", "retry", "batch", "reversed batch"), 0)


def all_at_once(run: Run) -> Report:
    """All of them. Deadlocks are possible, and nobody hears of one.

    An ack that has begun finds a job that meanwhile was put back and replaced, in a batch that
    waits for this ack. To lock by keys in every ack would be the dearer way out.
    """
    some = ("ack", "fail", "release", "extend", "cancel", "retry", "batch", "reversed batch")
    return _reversed(run, some, None)


def _reversed(
    run: Run, names: Sequence[str], most_deadlocks: int | None, keys: int = KEYS
) -> Report:
    rounds, dsn, report = run.count(4, 150), run.dsn(), Report()
    with Client(dsn) as client, ThreadPoolExecutor(len(names)) as pool:
        for number in range(rounds):
            _one_round(run, client, pool, names, keys, report)
            run.tell(number + 1, rounds)
    # A client runs again what a deadlock undid; the database counts it all the same.
    deadlocks = _deadlocks(dsn)
    if most_deadlocks is None:
        report.notes.append(f"{deadlocks} deadlocks, each run again by the client")
    else:
        report.promise("deadlocks", deadlocks, most_deadlocks)
    return report


def _one_round(
    run: Run,
    client: Client,
    pool: ThreadPoolExecutor,
    names: Sequence[str],
    keys: int,
    report: Report,
) -> None:
    keyed = [
        NewJob(
            "keyed", dedupe_key=str(n), on_conflict="replace", delay=run.rng.choice([None, LONG])
        )
        for n in range(keys)
    ]
    client.enqueue_many([NewJob("k")] * BULK)
    client.enqueue_many(keyed)
    jobs = client.claim(limit=BULK + KEYS)
    waiting = client.list(kind="keyed", state="scheduled", limit=KEYS)
    ids = [job.id for job in jobs] + [job.id for job in waiting]
    acks, fails, releases, extends = (run.rng.sample(jobs, len(jobs)) for _ in range(4))
    ids = run.rng.sample(ids, len(ids))
    reap = Statement('select "pgqueue".reap()', (), list)
    calls: dict[str, Callable[[], object]] = {
        "ack": lambda: client.ack(acks),
        "fail": lambda: client.fail(fails, retry_in=AT_ONCE),
        "release": lambda: client.release(releases),
        "extend": lambda: client.extend(extends),
        "cancel": lambda: client.cancel(ids[::2]),
        "retry": lambda: client.retry(ids),
        "reap": lambda: client.driver.run(reap),
        "batch": lambda: client.enqueue_many(keyed),
        "reversed batch": lambda: client.enqueue_many(keyed[::-1]),
    }
    lost = together(pool, [partial(_lost, calls[name]) for name in names])
    report.faults += len(names)
    held = {job.id for job in jobs}
    _account(client, report, held - lost[names.index("ack")], held)
    rows(client, "delete from pgqueue.job returning id")
    rows(client, "delete from pgqueue.archive returning id")


def _lost(call: Callable[[], object]) -> set[int]:
    try:
        call()
    except LeaseLost as error:
        return set(error.job_ids)
    return set()


def _account(client: Client, report: Report, acked: set[int], enqueued: set[int]) -> None:
    """Each job in one place; those that were acked stay so, unless `retry` brought them back."""
    stored = rows(client, "select id, state, attempt from pgqueue.all_jobs")
    ids = [row[0] for row in stored]
    report.jobs += len(enqueued)
    report.lost += len(enqueued - set(ids))
    report.double_acked += len(ids) - len(set(ids))
    retried = {row[0] for row in stored if row[1] == "ready" and row[2] == 0}
    succeeded = {row[0] for row in stored if row[1] == "succeeded"}
    report.lost += len(acked - succeeded - retried) + len(succeeded - acked)


def _deadlocks(dsn: str) -> int:
    """As counted once all sessions have ended, and so reported."""
    with psycopg.connect(dsn) as conn:
        row = conn.execute(
            "select deadlocks from pg_stat_database where datname = current_database()"
        ).fetchone()
    assert row is not None
    return int(row[0])


def producers(run: Run) -> Report:
    """Fifty of one key begin at once, and half of them roll back."""
    rounds, dsn, report = run.count(1, 20), run.dsn(), Report()
    connections = [psycopg.connect(dsn) for _ in range(PRODUCERS)]
    with Client(dsn) as client, ThreadPoolExecutor(PRODUCERS) as pool:
        for number in range(rounds):
            report.faults += PRODUCERS // 2
            report.jobs += 1
            job = NewJob("k", dedupe_key="x", dedupe_until=run.rng.choice(["start", "finish"]),
                         on_conflict=run.rng.choice(["return", "replace"]))  # fmt: skip
            commits = run.rng.sample([True, False] * (PRODUCERS // 2), PRODUCERS)
            told = together(
                pool,
                [
                    partial(_produce, client, job, conn, commit=commit)
                    for conn, commit in zip(connections, commits, strict=True)
                ],
            )
            stored = {row[0] for row in rows(client, "select id from pgqueue.job")}
            report.lost += not stored
            report.double_acked += max(len(stored) - 1, 0)
            report.lost += sum(
                job_id not in stored for job_id, commit in zip(told, commits, strict=True) if commit
            )
            client.cancel(list(stored))
            run.tell(number + 1, rounds)
    for conn in connections:
        conn.close()
    return report


def _produce(client: Client, job: NewJob, conn: psycopg.Connection, *, commit: bool) -> int:
    """The id that the producer was told."""
    statement = client.statements.enqueue(job)
    result = client.driver.run(statement, conn)
    if commit:
        conn.commit()
    else:
        conn.rollback()
    return result.id


def wedged(run: Run) -> Report:
    """Duplicates come in while their jobs run or back off, some in transactions that stay open."""
    rounds, dsn, report = run.count(2, 50), run.dsn(), Report()
    count = 100
    with Client(dsn) as client, psycopg.connect(dsn) as producer:
        for number in range(rounds):
            jobs = [
                NewJob("k", dedupe_key=f"{n}" if n % 2 else None, dedupe_until="start")
                for n in range(count)
            ]
            ids = set(client.enqueue_many(jobs).ids)
            claimed = client.claim(limit=count)
            failed = run.rng.sample(claimed, count // 2)
            keys = [str(n) for n in run.rng.sample(range(1, count, 2), count // 4)]
            for key in keys[::2]:
                ids.add(client.enqueue("k", dedupe_key=key, dedupe_until="start").id)
            for key in keys[1::2]:
                client.enqueue("k", dedupe_key=key, dedupe_until="start", conn=producer)
            report.faults += len(keys)
            client.fail(failed)  # the others let their leases run out
            travel(dsn, LONG)
            client.maintain()
            travel(dsn, LONG)
            client.maintain()
            producer.rollback()
            stuck = rows(
                client,
                "select id from pgqueue.job where lease_until is not null or position is null",
            )
            ended = {
                row[0]
                for row in rows(client, "select id from pgqueue.archive where state = 'skipped'")
            }
            waiting = {row[0] for row in rows(client, "select id from pgqueue.job")}
            report.jobs += len(ids)
            report.lost += len(ids - ended - waiting) + len(stuck)
            report.double_acked += len(ended & waiting)
            client.cancel(sorted(waiting))
            rows(client, "delete from pgqueue.archive returning id")
            run.tell(number + 1, rounds)
    return report
