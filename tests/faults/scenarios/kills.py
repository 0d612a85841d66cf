"""SIGKILL of workers in the middle of their work, again and again, while jobs keep coming.

Jobs are fed as they are done, so that a job that comes back finds a short queue: recovery is then
what the lease and the upkeep take, and not the wait behind a backlog.
"""

from __future__ import annotations

from tests.faults.harness.database import expired, holders, unfinished
from tests.faults.harness.ledger import Ledger, audit
from tests.faults.harness.report import Report
from tests.faults.harness.run import Run
from tests.faults.harness.waiting import until
from tests.faults.harness.workers import WorkerProcess, Workers

from pgqueue import Client

CREW = 4
CONCURRENCY = 2
SLOTS = 2 * CONCURRENCY
"""Handlers that run at once in a worker: so many threads, and as many on the event loop."""
LEASE = 1.0
LONGEST_MS = 60


def run(run: Run) -> Report:
    """Kills busy workers one by one; each is replaced at once."""
    kills, jobs = run.count(8, 500), run.count(400, 20_000)
    dsn, ledger = run.dsn(), Ledger(run.folder)
    options = {"lease": LEASE, "concurrency": CONCURRENCY}
    with Client(dsn) as client, Workers(run.folder, dsn, ledger, options) as workers:
        for _ in range(CREW):
            workers.start()
        for kill in range(kills):
            feed(run, client, ledger, jobs * (kill + 1) // kills - jobs * kill // kills)
            busy_worker(run, client, workers).kill()
            workers.start()
            run.tell(kill + 1, kills)
        until(lambda: unfinished(client) == 0, "all jobs are done", 60)
        workers.end()
        claims = expired(client)
    report = audit(dsn, ledger)
    report.faults = kills
    report.notes.append(_unstarted(claims, ledger))
    report.promise("re-executed (kills x concurrency)", report.re_executed, kills * SLOTS)
    # Beside other tests on a busy machine, the figure says less of the queue than of them.
    report.promise("recovery p99, s", report.percentile(99), LEASE + run.count(8, 2))
    return report


def feed(run: Run, client: Client, ledger: Ledger, count: int) -> None:
    """Enqueues jobs of both sorts, short and not so short."""
    kinds = run.rng.choices(("work", "work.async"), k=count)
    jobs = [(kind, {"ms": run.rng.randrange(LONGEST_MS)}) for kind in kinds]
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


def _unstarted(claims: set[tuple[int, int]], ledger: Ledger) -> str:
    """How many of the claims that expired had been made ahead, and never began."""
    started = {
        (job, attempt.number) for job, starts in ledger.read().starts.items() for attempt in starts
    }
    ahead = len(claims - started)
    return (
        f"{len(claims)} claims expired, of which {ahead} were only prefetched: "
        "claimed, and no handler started"
    )
