"""SIGKILL of workers in the middle of their work, again and again, while jobs keep coming.

Jobs are fed as they are done, so that a job that comes back finds a short queue: recovery is then
what the lease and the upkeep take, and not the wait behind a backlog.
"""

from __future__ import annotations

import time

from tests.faults.harness.app import work
from tests.faults.harness.database import holders, unfinished
from tests.faults.harness.ledger import Ledger, audit, expired
from tests.faults.harness.report import Report
from tests.faults.harness.run import Run
from tests.faults.harness.waiting import until
from tests.faults.harness.workers import WorkerProcess, Workers

from pgqueue import Client

CREW = 8
CONCURRENCY = 2
SLOTS = 2 * CONCURRENCY
"""Handlers that run at once in a worker: so many threads, and as many on the event loop."""
LEASE = 1.0
LONGEST_MS = 60
PACE = 0.5
"""Seconds between two kills: a worker lives for some four. Without a pause each would be killed
with its first jobs, and nobody would be left to do any."""


def run(run: Run) -> Report:
    """Kills busy workers one by one; each is replaced at once."""
    kills, jobs = run.count(8, 500), run.count(400, 20_000)
    dsn, ledger = run.dsn(), Ledger(run.folder)
    options = {"lease": LEASE, "concurrency": CONCURRENCY}
    with Client(dsn) as client, Workers(run.folder, dsn, ledger, options) as workers:
        for _ in range(CREW):
            workers.start()
        for kill in range(kills):
            next_at = time.monotonic() + PACE
            feed(run, client, ledger, jobs * (kill + 1) // kills - jobs * kill // kills)
            busy_worker(run, client, workers).kill()
            workers.start()
            run.tell(kill + 1, kills)
            time.sleep(max(next_at - time.monotonic(), 0))
        until(lambda: unfinished(client) == 0, "all jobs are done", 60)
        workers.end()
    report = audit(dsn, ledger)
    report.faults = kills
    report.notes.append(
        f"{len(expired(dsn))} claims expired, of which {len(ledger.unstarted(dsn))} were only "
        "prefetched: claimed, and no handler started"
    )
    report.promise("re-executed (kills x concurrency)", report.re_executed, kills * SLOTS)
    # Beside other tests on a busy machine, the figure says less of the queue than of them.
    report.promise("recovery p99, s", report.percentile(99), LEASE + run.count(10, 2))
    return report


def feed(run: Run, client: Client, ledger: Ledger, count: int) -> None:
    """Enqueues jobs of both sorts, short and not so short."""
    kinds = run.rng.choices(("work", "work.async"), k=count)
    jobs = [work(run.rng.randrange(LONGEST_MS), kind=kind) for kind in kinds]
    ledger.accepted(client.enqueue_many(jobs).ids)


def busy_worker(run: Run, client: Client, workers: Workers) -> WorkerProcess:
    """A worker that lives and holds a job, by chance; feeds one more job if all are idle."""

    def found() -> list[WorkerProcess]:
        held = holders(client)
        busy = [worker for worker in workers.living if worker.pid in held]
        if not busy and unfinished(client) == 0:
            feed(run, client, workers.ledger, 1)
        return busy

    return run.rng.choice(until(found, "a living worker holds a job"))
