"""100 MB where a few kilobytes belong."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.faults.harness.database import unfinished
from tests.faults.harness.report import Report
from tests.faults.harness.run import Run
from tests.faults.harness.workers import ROOT
from tests.faults.huge import SIZE

from pgqueue import Client

WAYS = ("enqueue", "enqueue_many", "COPY", "with a key", "metadata", "result", "handler")
FAST_WAYS = ("enqueue", "COPY", "handler")


def run(run: Run) -> Report:
    """Each way in refuses it before anything is sent, and the process keeps no copy of it."""
    dsn, report = run.dsn(), Report()
    ways = WAYS if run.full else FAST_WAYS
    slowest = most = 0.0
    for number, way in enumerate(ways):
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults.huge", dsn, way],
            cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=60,
        )  # fmt: skip
        seconds, grown = json.loads(done.stdout)
        report.faults += 3
        # The handler's process also starts workers and ends them.
        slowest, most = max(slowest, seconds if way != "handler" else 0), max(most, grown / SIZE)
        run.tell(number + 1, len(ways))
    with Client(dsn) as client:
        report.lost = unfinished(client)
    report.promise("seconds of CPU to refuse it, at most", slowest, 1)
    # To be measured it is written as JSON: two copies for a moment, three in a worker. Each process
    # is refused three times, and that adds nothing.
    report.promise("memory beyond the value itself, times its size", most, 3.5)
    return report
