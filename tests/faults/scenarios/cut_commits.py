"""The server has done it, and the connection ends before anybody is told.

Whoever repeats what was cut ends up with what was asked for once: an enqueue by its dedupe key, an
ack by itself. A claim that nobody heard of runs out, and the job runs again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial

import attrs
import psycopg
from tests.faults.harness.database import rows
from tests.faults.harness.ledger import Ledger, audit
from tests.faults.harness.proxy import Fault, Kind, Proxy, statement
from tests.faults.harness.report import Report
from tests.faults.harness.run import Run
from tests.faults.harness.waiting import until
from tests.faults.harness.workers import FaultMissed

from pgqueue import Client, Constant, DatabaseUnavailable, EnqueueResult, Job, LeaseLost

LONGEST_KEEP = 60
"""Bytes of an answer that get through before the cut."""
IN_TRANSACTION = 5
"""One enqueue in so many is in a transaction of the caller's, whose COMMIT is cut."""
LOST_FIRST = 4
"""One in so many is cut before it gets through, too."""
SHORT = timedelta(seconds=0.3)
LONG = timedelta(seconds=120)
RETRY = Constant(timedelta(milliseconds=10))


def run(run: Run) -> Report:
    """As many enqueues, claims and acks, each of them cut."""
    each = run.count(20, 1_000)
    with Proxy(run_dsn := run.dsn(), run.folder) as proxy:
        with Client(run_dsn) as direct, Client(proxy.dsn) as client:
            cuts = _Cuts(run, proxy, client, direct, Ledger(run.folder), each)
            cuts.enqueue()
            cuts.claim()
            cuts.ack()
        hits = proxy.hits[Kind.CUT_REPLY]
    if hits != 3 * each:
        raise FaultMissed(f"{hits} of {3 * each} answers were cut")
    report = audit(run_dsn, cuts.ledger)
    report.faults = hits
    report.promises += cuts.report.promises
    report.notes.append(f"{proxy.hits[Kind.RESET]} more were cut before they got through")
    return report


@attrs.define
class _Cuts:
    run: Run
    proxy: Proxy
    client: Client
    direct: Client
    ledger: Ledger
    each: int
    report: Report = attrs.field(factory=Report, init=False)
    _done: int = attrs.field(default=0, init=False)

    def enqueue(self) -> None:
        """Producers repeat until they are told; each key is stored once."""
        duplicates = 0
        for number in range(self.each):
            key = f"key-{number}"
            if number % IN_TRANSACTION == 0:
                self._cut(b"commit", partial(self._enqueue_in_transaction, key))
            else:
                self._cut(statement("enqueue"), partial(self._enqueue, key))
            result = self._enqueue(key)
            self.ledger.accepted([result.id])
            duplicates += result.duplicate
        ((stored,),) = rows(self.direct, "select count(*) from pgqueue.job")
        self.report.promise("enqueues not told that they are stored", self.each - duplicates, 0)
        self.report.promise("jobs stored twice", stored - self.each, 0)

    def _enqueue(self, key: str) -> EnqueueResult:
        return self.client.enqueue("a", dedupe_key=key, on_conflict="return", retry=RETRY)

    def _enqueue_in_transaction(self, key: str) -> None:
        with psycopg.connect(self.proxy.dsn) as conn:
            self.client.enqueue("a", dedupe_key=key, retry=RETRY, conn=conn)

    def claim(self) -> None:
        """Nobody knows of these claims: their jobs come back, with the attempt counted."""
        for _ in range(self.each):
            self._cut(statement("claim"), partial(self.client.claim, lease=SHORT))
        claimed = "select count(*) from pgqueue.job where attempt > 0"
        self.report.promise("claims undone", self.each - rows(self.direct, claimed)[0][0], 0)

    def ack(self) -> None:
        """An ack that is repeated says the same; another claim's says that it is too late."""
        acked = refused = 0
        for job in self._claimed_again():
            self.ledger.started(job)
            self.ledger.finished(job)
            self._cut(statement("ack"), partial(self.client.ack, job))
            self.client.ack(job)
            acked += 1
            self.ledger.acked(job.id, job.token)
            try:
                self.client.ack(attrs.evolve(job, token=job.token + 1))
            except LeaseLost:
                refused += 1
        self.report.promise("repeated acks that were refused", self.each - acked, 0)
        self.report.promise("acks by another token that were not", self.each - refused, 0)

    def _claimed_again(self) -> list[Job[object]]:
        found: dict[int, Job[object]] = {}

        def all_back() -> bool:
            self.direct.maintain()
            found.update((job.id, job) for job in self.direct.claim(limit=1_000, lease=LONG))
            return len(found) == self.each

        until(all_back, "all jobs come back")
        wrong = [job for job in found.values() if job.attempt != 2]
        self.report.promise("jobs not in their second attempt", len(wrong), 0)
        return list(found.values())

    def _cut(self, match: bytes, call: Callable[[], object]) -> None:
        """Calls with the answer cut; now and then, before that, what is said gets cut, too."""
        lose = True
        while lose:
            lose = self.run.rng.randrange(LOST_FIRST) == 0
            keep = 0 if lose else self.run.rng.choice((0, self.run.rng.randrange(LONGEST_KEEP)))
            kind = Kind.RESET if lose else Kind.CUT_REPLY
            fault = self.proxy.add(Fault(kind, match, keep))
            try:
                call()
            except (DatabaseUnavailable, psycopg.OperationalError):
                pass
            else:
                raise FaultMissed(f"nothing was cut at {match!r}")
            if not fault.hit.is_set():
                raise FaultMissed(f"something else went wrong at {match!r}")
        self._done += 1
        self.run.tell(self._done, 3 * self.each)
