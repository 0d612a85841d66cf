"""Jobs that kill, fill or wedge the worker that runs them: each runs so often and no more.

With its attempts used up it is dead. A worker that was killed is started again, as a process
supervisor would. Each sort of poison that kills has a queue and workers of its own: there nothing
else can use up its attempts, as one poison job does to another that waits in the same process.
Beside it run jobs that must all succeed.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import attrs
from tests.faults.harness.app import RETRY, work
from tests.faults.harness.database import rows
from tests.faults.harness.ledger import Ledger, audit
from tests.faults.harness.report import Report
from tests.faults.harness.run import Run
from tests.faults.harness.waiting import until
from tests.faults.harness.workers import Workers

from pgqueue import Client, Handlers, Job, NewJob

MAX_ATTEMPTS = 3
TIMEOUT = timedelta(milliseconds=200)
EXIT = 3
LEASE = 1.0
CREW = 2
NEIGHBOURS = 10

POISON: Mapping[str, Sequence[str]] = {
    "exit": ["exit"],
    "segv": ["segv"],
    "tame": ["memory", "recursion", "loop"],
}
"""By queue: the last one's kinds leave the process alive."""
DEATHS = {"exit": EXIT, "segv": -signal.SIGSEGV}
"""The exit codes of what kills."""


def register(handlers: Handlers) -> None:
    """The handlers, for the app."""

    @handlers.register("exit")
    def leave(_: Job[Any]) -> None:
        os._exit(EXIT)

    @handlers.register("segv")
    def read_nowhere(_: Job[Any]) -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        ctypes.string_at(0)

    @handlers.register("memory")
    def ask_for_too_much(_: Job[Any]) -> None:
        bytearray(sys.maxsize)

    @handlers.register("recursion")
    def recurse(job: Job[Any]) -> None:
        recurse(job)

    @handlers.register("loop", timeout=TIMEOUT)
    def loop(_: Job[Any]) -> None:
        while True:
            pass


@attrs.define
class Queue:
    """One queue with its workers."""

    name: str
    client: Client
    workers: Workers
    poison: list[int] = attrs.field(factory=list)
    deaths: int = 0

    def feed(self, run: Run) -> None:
        """One job of each poison among its neighbours."""
        poison = [
            NewJob(kind, queue=self.name, retry=RETRY, max_attempts=MAX_ATTEMPTS)
            for kind in POISON[self.name]
        ]
        jobs = [work(20, queue=self.name)] * NEIGHBOURS + poison
        run.rng.shuffle(jobs)
        ids = self.client.enqueue_many(jobs).ids
        self.workers.ledger.accepted(ids)
        self.poison += [job_id for job_id, job in zip(ids, jobs, strict=True) if job in poison]

    def tend(self) -> None:
        """Starts workers in the place of those that died, of nothing but their poison."""
        for worker in self.workers.fallen:
            if worker.bury() != DEATHS.get(self.name):
                raise AssertionError(f"a worker of {self.name} ended:\n{worker.told()}")
            self.deaths += 1
        while len(self.workers.living) < CREW:
            self.workers.start(queue=self.name)

    def done(self) -> bool:
        """Whether all its jobs are over."""
        self.tend()
        return not rows(self.client, "select from pgqueue.job where queue = %s", self.name)


def run(run: Run) -> Report:
    """Feeds every sort of poison, round by round."""
    rounds = run.count(1, 10)
    dsn, ledger = run.dsn(), Ledger(run.folder)
    poison: dict[int, str] = {}
    deaths = 0
    with Client(dsn) as client:
        for number in range(rounds):
            for queue in _one_round(run, client, ledger):
                poison |= dict.fromkeys(queue.poison, queue.name)
                deaths += queue.deaths
            run.tell(number + 1, rounds)
    report = audit(dsn, ledger, ends=dict.fromkeys(poison, "dead"))
    runs = {job: len(ledger.read().starts[job]) for job in poison}
    report.faults = sum(runs.values())
    deadly = sum(runs[job] for job, queue in poison.items() if queue in DEATHS)
    # On a busy machine a lease may run out between the claim and the start.
    unstarted = Counter(claim.job for claim in ledger.unstarted(dsn))
    short = [job for job in poison if runs[job] + unstarted[job] < MAX_ATTEMPTS]
    report.promise("most runs of a poison job", max(runs.values()), MAX_ATTEMPTS)
    report.promise("poison jobs with fewer attempts", len(short), 0)
    report.promise("runs of deadly ones that killed no worker", deadly - deaths, 0)
    report.notes.append(
        f"{len(runs)} poison jobs ran {report.faults} times and killed {deaths} workers"
    )
    report.notes.append(
        "a timeout ends the attempt of an endless sync handler, not its thread: that keeps its "
        "place in the worker until the process ends, and the neighbours have what is left"
    )
    return report


def _one_round(run: Run, client: Client, ledger: Ledger) -> list[Queue]:
    """New workers each time: threads that loop for ever end only with their process."""
    options = {"also": __name__, "lease": LEASE, "prefetch": 0, "concurrency": 4}
    with ExitStack() as stack:
        queues = []
        for name in POISON:
            folder = run.folder / name
            folder.mkdir(exist_ok=True)
            workers = stack.enter_context(Workers(folder, client.dsn, ledger, options))
            queues.append(Queue(name, client, workers))
            queues[-1].feed(run)
        until(lambda: _all_done(queues), "all jobs are over", 60)
    return queues


def _all_done(queues: Sequence[Queue]) -> bool:
    # Each of them is asked: asking is what starts workers anew.
    return sum(queue.done() for queue in queues) == len(queues)
