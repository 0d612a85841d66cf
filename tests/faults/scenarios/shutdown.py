"""SIGTERM at any moment of a worker's life, once or twice, with one process or several.

What was in hand is finished or given back at once: after its end no job waits for a lease, and an
attempt that was given back is not counted.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping

import attrs
from tests.faults.harness.database import rows, unfinished
from tests.faults.harness.ledger import Ledger, audit
from tests.faults.harness.report import Report
from tests.faults.harness.run import Run
from tests.faults.harness.waiting import until
from tests.faults.harness.workers import WorkerProcess, Workers

from pgqueue import Client, embedded

LEASE = 60.0
"""Seconds: a job that had to wait for it would be noticed."""
TIMEOUT = 10.0
LONGEST_MS = 300
BURNED = "select id, history::text from pgqueue.all_jobs where attempt > 1"


@attrs.define
class Play:
    """What a phase of the shutdown gets."""

    run: Run
    server: embedded.Server
    client: Client
    workers: Workers
    ledger: Ledger
    codes: Counter[str] = attrs.field(factory=Counter)

    def feed(self, count: int, longest: int = LONGEST_MS) -> None:
        """Enqueues jobs of both sorts."""
        kinds = self.run.rng.choices(("work", "work.async"), k=count)
        jobs = [(kind, {"ms": self.run.rng.randrange(longest)}) for kind in kinds]
        self.ledger.accepted(self.client.enqueue_many(jobs).ids)

    def claimed(self) -> int:
        """How many jobs are claimed."""
        query = "select count(*) from pgqueue.job where lease_until is not null"
        return int(rows(self.client, query)[0][0])

    def asleep(self) -> bool:
        """Whether a worker waits for the bell."""
        return bool(rows(self.client, "select from pgqueue.sleeper"))


def run(run: Run) -> Report:
    """Terms at the moments that the phases wait for, by turns; a fresh worker for each."""
    terms = run.count(8, 200)
    names = list(PHASES)
    with run.server() as server, Client(server.dsn) as client:
        ledger = Ledger(run.folder)
        options = {"lease": LEASE, "shutdown-timeout": TIMEOUT, "concurrency": 4}
        with Workers(run.folder, server.dsn, ledger, options) as workers:
            play = Play(run, server, client, workers, ledger)
            longest = 0.0
            stranded = wrong = 0
            for term in range(terms):
                name = names[term % len(names)]
                process, right = PHASES[name](play)
                began = time.monotonic()
                code = process.wait(3 * TIMEOUT)
                longest = max(longest, time.monotonic() - began)
                play.codes[f"{name}: {code}"] += 1
                wrong += code not in right
                stranded += play.claimed()
                run.tell(term + 1, terms)
            workers.start()
            until(lambda: unfinished(client) == 0, "all jobs are done", 60)
            workers.end()
            burned = rows(client, BURNED)
        report = audit(server.dsn, ledger)
    report.faults = terms
    report.promise("jobs left to their leases", stranded, 0)
    report.promise("attempts burned", len(burned), 0)
    report.promise("wrong exit codes", wrong, 0)
    report.promise("longest end, s", longest, TIMEOUT)
    codes = ", ".join(f"{name} ({count})" for name, count in sorted(play.codes.items()))
    report.notes.append(f"exit codes by phase: {codes}")
    report.notes += [f"burned: job {job}: {history}" for job, history in burned[:3]]
    return report


Started = tuple[WorkerProcess, tuple[int, ...]]
"""A worker that was told to end, and the exit codes that are right."""


def _starting(play: Play) -> Started:
    """Before Python runs, before the handlers are there, or with the first claim."""
    play.feed(4)
    process = play.workers.start()
    time.sleep(play.run.rng.uniform(0, 2.0))
    process.terminate()
    return process, (0, -signal.SIGTERM)


def _asleep(play: Play) -> Started:
    """While nothing is to be done."""
    process = _working(play)
    until(lambda: unfinished(play.client) == 0 and play.asleep(), "a worker sleeps")
    process.terminate()
    return process, (0,)


def _claiming(play: Play) -> Started:
    """While the claim's statement runs, as it does all the time for jobs that take no time."""
    process = _working(play)
    play.feed(3_000, 1)
    time.sleep(play.run.rng.uniform(0, 0.3))
    process.terminate()
    return process, (0,)


def _running(play: Play) -> Started:
    """While handlers run, in threads and on the event loop: they may finish."""
    process = _working(play)
    play.feed(30)
    until(play.claimed, "handlers run")
    time.sleep(play.run.rng.uniform(0, 0.3))
    process.terminate()
    return process, (0,)


def _twice(play: Play) -> Started:
    """Hurried: what runs is cancelled, and runs again from the start.

    The second one may come when all is done and the process about to exit: then it is killed.
    """
    process = _working(play)
    play.feed(30)
    until(play.claimed, "handlers run")
    process.terminate()
    time.sleep(play.run.rng.uniform(0, 0.2))
    if process.alive:
        process.terminate()
    return process, (0, 1, -signal.SIGTERM)


def _acking(play: Play) -> Started:
    """While acks wait for somebody's lock."""
    process = _working(play)
    with play.client.driver.connection() as conn, conn.transaction():
        conn.execute("lock table pgqueue.archive in exclusive mode")
        play.feed(20, 10)
        time.sleep(play.run.rng.uniform(0.1, 0.6))
        process.terminate()
        time.sleep(play.run.rng.uniform(0, 0.3))
    return process, (0,)


def _in_several_processes(play: Play) -> Started:
    """To the parent, which passes it on."""
    process = _working(play, processes=3)
    play.feed(60)
    until(play.claimed, "handlers run")
    time.sleep(play.run.rng.uniform(0, 0.3))
    process.terminate()
    return process, (0,)


def _reconnecting(play: Play) -> Started:
    """While the server is away; it is back before the worker has to be gone."""
    process = _working(play)
    play.feed(20)
    until(play.claimed, "handlers run")
    embedded.stop(play.server.data)
    time.sleep(play.run.rng.uniform(0, 0.5))
    process.terminate()
    embedded.start(play.server.data)
    return process, (0,)


def _working(play: Play, **options: object) -> WorkerProcess:
    """A worker that has ended a job."""
    process = play.workers.start(**options)
    job = play.client.enqueue("work", {}, priority=0).id
    play.ledger.accepted([job])
    until(lambda: play.client.get(job).state == "succeeded", "a worker works")
    return process


PHASES: Mapping[str, Callable[[Play], Started]] = {
    "starting": _starting,
    "asleep": _asleep,
    "claiming": _claiming,
    "running": _running,
    "twice": _twice,
    "acking": _acking,
    "processes": _in_several_processes,
    "reconnecting": _reconnecting,
}
