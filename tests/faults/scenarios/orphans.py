"""Jobs whose holder is gone, where something hides that.

The next worker has the same name, as a restarted container does. Ten thousand claims that are valid
stand before the orphans, so that a reaper which reads page by page sees nothing but those. And the
dead process was one of several under a supervisor, which goes on and forks another.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from tests.faults.harness.app import work
from tests.faults.harness.database import holders, rows
from tests.faults.harness.ledger import Ledger, audit, expired
from tests.faults.harness.report import Report
from tests.faults.harness.run import Run
from tests.faults.harness.waiting import until
from tests.faults.harness.workers import WorkerProcess, Workers

from pgqueue import Client, Job

HELD = 10_000
NAME = "same"
LEASE = 1.0
CONCURRENCY = 4
PROCESSES = 2
JOBS = 60
LONG_MS = 100
BEGUN_MS = 30


def run(run: Run) -> Report:
    """Kills the only worker, and one of several processes; their orphans must be found."""
    # A supervisor waits ever longer before it replaces processes that die young.
    kills, deaths = run.count(1, 20), run.count(1, 5)
    faults = kills + deaths
    dsn, ledger = run.dsn(), Ledger(run.folder)
    options = {"lease": LEASE, "concurrency": CONCURRENCY, "name": NAME}
    with Client(dsn) as client:
        held = _hold(client, ledger)
        with Workers(run.folder, dsn, ledger, options) as workers:
            worker = workers.start()
            for number in range(kills):
                worker = _kill_and_restart(client, workers, worker)
                run.tell(number + 1, faults)
            worker.terminate()
            worker.wait()
            supervisor = workers.start(processes=PROCESSES)
            for number in range(deaths):
                _kill_a_child(run, client, supervisor)
                run.tell(kills + number + 1, faults)
            workers.end()
        _let_go(client, ledger, held)
    report = audit(dsn, ledger)
    report.faults = faults
    ids = {job.id for job in held}
    report.promise("valid claims reaped", sum(claim.job in ids for claim in expired(dsn)), 0)
    orphaned = {claim.pid for claim in expired(dsn)}
    report.promise("deaths that left no orphan", faults - len(orphaned), 0)
    report.promise("recovery p99, s", report.percentile(99), LEASE + run.count(10, 2))
    return report


def _hold(client: Client, ledger: Ledger) -> Sequence[Job[Any]]:
    """Claims that are first in the lane, and valid to the end."""
    ledger.accepted(client.enqueue_many([("held", None)] * HELD).ids)
    held = client.claim(kinds=["held"], limit=HELD, lease=timedelta(hours=1))
    for job in held:
        ledger.started(job)
    return held


def _let_go(client: Client, ledger: Ledger, held: Sequence[Job[Any]]) -> None:
    for job in held:
        ledger.finished(job)
    client.ack(held)
    for job in held:
        ledger.acked(job.id, job.token)


def _kill_and_restart(client: Client, workers: Workers, worker: WorkerProcess) -> WorkerProcess:
    """Ends the only worker in the middle of its jobs; the next one has to do them all."""
    until(lambda: _busy(client, workers.ledger, [worker.pid]), "the worker runs jobs")
    worker.kill()
    following = workers.start()
    until(lambda: _work_left(client) == 0, "the next worker of this name has done them all")
    return following


def _kill_a_child(run: Run, client: Client, supervisor: WorkerProcess) -> None:
    """Ends one of the processes; the supervisor has to see, and the others to do its jobs."""
    until(lambda: len(supervisor.children) == PROCESSES, "all processes are there", 60)
    ledger = supervisor.ledger
    busy = until(lambda: _busy(client, ledger, supervisor.children), "one of them runs jobs")
    child = run.rng.choice(busy)
    os.kill(child, signal.SIGKILL)
    until(lambda: child not in supervisor.children, "the supervisor has seen the death")
    ledger.gone(child)
    until(lambda: _work_left(client) == 0, "all jobs are done")


def _busy(client: Client, ledger: Ledger, pids: Sequence[int]) -> list[int]:
    """Those that have begun with what they claimed; while there is nothing to do, feeds jobs."""
    if _work_left(client) == 0:
        ledger.accepted(client.enqueue_many([work(LONG_MS)] * JOBS).ids)
    return sorted(holders(client, BEGUN_MS) & set(pids))


def _work_left(client: Client) -> int:
    return int(rows(client, "select count(*) from pgqueue.job where kind = 'work'")[0][0])
