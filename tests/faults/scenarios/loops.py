"""Handlers that keep a worker from its work: they block its loop, hold the GIL, drain a pool."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import attrs
from tests.faults.harness.app import work
from tests.faults.harness.awkward import POOL
from tests.faults.harness.database import unfinished
from tests.faults.harness.ledger import Entry, Ledger, audit
from tests.faults.harness.report import Report
from tests.faults.harness.run import Run
from tests.faults.harness.waiting import until
from tests.faults.harness.workers import FaultMissed, Workers

from pgqueue import Client

if TYPE_CHECKING:
    from pgqueue.jsontext import Json

CREW = 3
LEASE = 0.5
BLOCK = 5 * LEASE
MOST_TRIES = 4
HOLD = 4 * LEASE
QUICK = 40
"""Jobs that are to be acked while the pool is drained."""
OPTIONS = {
    "lease": LEASE,
    "concurrency": POOL,
    "prefetch": 0,
    "also": "tests.faults.harness.awkward",
}


def run(run: Run) -> Report:
    """One sort of handler after the other, the same number of times."""
    each = run.count(1, 10)
    dsn, ledger = run.dsn(), Ledger(run.folder)
    with Client(dsn) as client, Workers(run.folder, dsn, ledger, OPTIONS) as workers:
        for _ in range(CREW):
            workers.start()
        loops = _Loops(run, client, ledger, each)
        loops.blocked()
        loops.held()
        loops.drained()
        codes = workers.end()
    report = audit(dsn, ledger)
    report.faults = loops.faults
    report.promises += loops.report.promises
    report.promise("workers that did not end in order", sum(map(bool, codes)), 0)
    return report


@attrs.define
class _Loops:
    run: Run
    client: Client
    ledger: Ledger
    each: int
    faults: int = attrs.field(default=0, init=False)
    report: Report = attrs.field(factory=Report, init=False)

    def blocked(self) -> None:
        """The event loop stands still for five leases; the heartbeat has a thread of its own."""
        jobs = [self._add("awkward.block", {"seconds": BLOCK}) for _ in range(self.each)]
        self._until_left(0)
        for job in jobs:
            (first,) = self._starts(job, 1)
            if self._end(first) - first.at < BLOCK:
                raise FaultMissed("the loop was not blocked for so long")
            self._hit()
        again = sum(bool(self._starts(job, 2)) for job in jobs)
        self.report.promise("jobs run again after a blocked loop", again, 0)

    def held(self) -> None:
        """No thread gets the GIL for four leases: the job runs elsewhere, and this end is late."""
        late = tries = 0
        done = self.faults + self.each
        while self.faults < done:
            tries += 1
            if tries > MOST_TRIES * self.each:
                raise FaultMissed("jobs do not run elsewhere while the GIL is held")
            job = self._add("awkward.hold", {"seconds": HOLD})
            (first,) = until(partial(self._starts, job, 1), "it runs")
            until(partial(self._end, first), "the first one ends")
            self._until_left(0)
            late += self._is_late_and_accepted(first)
        self.report.promise("late acks that were accepted", late, 0)

    def _is_late_and_accepted(self, first: Entry) -> bool:
        """Whether a second one had begun, and the first one's ack counted all the same."""
        second = self._starts(first.job, 2)
        if not second or self._end(first) < second[1].at:
            return False  # nobody else had begun: it was in time
        self._hit()
        return (first.job, first.token) in self.ledger.read().claims("acked")

    def drained(self) -> None:
        """Handlers hold every connection of a pool for leases; nobody else's ack waits for that."""
        again = 0
        for number in range(self.each):
            release = self.run.folder / f"release-{number}"
            payload: Json = {"release": str(release)}
            # So many that every worker runs as many as its pool has connections.
            jobs = [self._add("awkward.drain", payload) for _ in range(CREW * POOL)]
            for job in jobs:
                until(partial(self._starts, job, 1), "all hold a connection")
            over = time.monotonic() + 2 * LEASE
            self.ledger.accepted(self.client.enqueue_many([work(kind="work.async")] * QUICK).ids)
            self._until_left(len(jobs))
            time.sleep(max(over - time.monotonic(), 0))
            if unfinished(self.client) != len(jobs):
                raise FaultMissed("the connections were not held for so long")
            release.touch()
            self._until_left(0)
            again += sum(bool(self._starts(job, 2)) for job in jobs)
            self._hit()
        self.report.promise("jobs run again with a drained pool", again, 0)

    def _starts(self, job: int, least: int) -> list[Entry]:
        starts = self.ledger.read().starts.get(job, [])
        return starts[:least] if len(starts) >= least else []

    def _end(self, start: Entry) -> float:
        """When the handler of that start was through; 0 if it is not."""
        claim = ("finished", start.job, start.token)
        entries = self.ledger.read().entries
        return next((e.at for e in entries if (e.what, e.job, e.token) == claim), 0.0)

    def _add(self, kind: str, payload: Json) -> int:
        job = self.client.enqueue(kind, payload).id
        self.ledger.accepted([job])
        return job

    def _until_left(self, count: int) -> None:
        until(lambda: unfinished(self.client) == count, f"all but {count} jobs are done", 60)

    def _hit(self) -> None:
        self.faults += 1
        self.run.tell(self.faults, 3 * self.each)
