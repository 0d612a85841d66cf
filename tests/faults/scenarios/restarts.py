"""Postgres stops at once (SIGQUIT, no checkpoint) and starts again, while jobs come and go.

A claim does not wait for the disk, so a crash may undo it. Then the job is ready again while its
holder still runs it, and is refused: that is no second valid lease, and counted apart.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.faults.harness.database import rows, unfinished
from tests.faults.harness.ledger import Ledger, audit
from tests.faults.harness.producers import Producers
from tests.faults.harness.report import Report
from tests.faults.harness.run import Run
from tests.faults.harness.waiting import until
from tests.faults.harness.workers import FaultMissed, Workers

from pgqueue import Client, DatabaseUnavailable, embedded

PER_SECOND = 300
CREW = 3
LEASE = 1.0
BETWEEN = 100
"""Jobs that are done between two restarts."""
DURABLE = {"fsync": "on", "full_page_writes": "on"}
QUICK = {"fsync": "off"}
"""As safe as that while the machine itself does not fail."""


def run(run: Run) -> Report:
    """Restarts the server again and again, each time only when the work goes on."""
    restarts = run.count(2, 50)
    ledger = Ledger(run.folder)
    how = DURABLE if run.full else QUICK
    settings = {"lease": LEASE, "concurrency": 4}
    with (
        run.server(how) as server,
        Client(server.dsn) as client,
        Workers(run.folder, server.dsn, ledger, settings) as workers,
    ):
        for _ in range(CREW):
            workers.start()
        began = time.monotonic()
        with Producers(client, ledger, run.rng, PER_SECOND) as producers:
            for number in range(restarts):
                _until_done(client, producers, BETWEEN)
                _crash(server.data)
                embedded.start(server.data, settings=how)
                run.tell(number + 1, restarts)
            _until_done(client, producers, BETWEEN)
            seconds, accepted = time.monotonic() - began, producers.accepted
        until(lambda: unfinished(client) == 0, "all jobs are done", 60)
        codes = workers.end()
        report = audit(server.dsn, ledger)
    report.faults = restarts
    report.promise("workers that did not end in order", sum(map(bool, codes)), 0)
    undone = len(ledger.read().undone())
    report.overlapping -= undone
    report.notes += [
        f"{accepted / seconds:.0f} jobs/s accepted over all, {producers.failed} enqueues failed",
        f"{undone} claims were undone by a crash, and made again; the holders were refused",
    ]
    return report


def _until_done(client: Client, producers: Producers, count: int) -> None:
    def done() -> int:
        producers.check()
        try:
            return int(rows(client, "select count(*) from pgqueue.archive")[0][0])
        except DatabaseUnavailable:
            return -count

    before = until(lambda: max(done(), 0) + 1, "the server answers")
    until(lambda: done() >= before + count, "work goes on")


def _crash(data: Path) -> None:
    """Ends the server as it is."""
    server = embedded.status(data)
    if server is None:
        raise FaultMissed("the server is gone already")
    os.kill(server.pid, signal.SIGQUIT)
    at = time.monotonic()
    until(lambda: embedded.status(data) is None, "the server is gone")
    if at + 10 < time.monotonic():
        raise FaultMissed("the server did not end at once")
