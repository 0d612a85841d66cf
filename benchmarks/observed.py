"""What observability costs a worker, by switching it on and off within one drain.

    python benchmarks/observed.py [--dsn DSN] [--blocks 123] [--block 10000] [--json FILE]

On means: metrics, the watch's counts, and the log at the level that is the default; and all the
while a port is scraped every second and the watch looks every second (10 s is the default). A
worker drains no-op jobs, and with each block of them the observers are switched. A pair is a block
with them and the next one without: what else goes on in a machine disturbs both alike. The medians
of all pairs are told, of the time and of the process's own CPU time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import platform
import statistics
import threading
import time
import urllib.request
from collections.abc import Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from pgqueue import Client, Handlers, Job, Observer, Outcome, Worker
from pgqueue.alerts import Watch
from pgqueue.bench.server import throw_away
from pgqueue.metrics import MetricsServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pgqueue.events import Ended, Use

SCRAPE_SECONDS = 1.0
SKIPPED = 2
"""Blocks at the start that do not count: caches are cold, and buffers fill."""


class Switch(Observer):
    """Passes on what it is told while it is on."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.on = False
        self._observers = observers

    def started(self, worker: str, use: Callable[[], Use]) -> None:
        """Always."""
        for observer in self._observers:
            observer.started(worker, use)

    def stopped(self) -> None:
        """Always."""
        for observer in self._observers:
            observer.stopped()

    def claimed(self, jobs: Sequence[Job[Any]], seconds: float) -> None:
        """While it is on."""
        if self.on:
            for observer in self._observers:
                observer.claimed(jobs, seconds)

    def ended(self, outcome: Outcome, endings: Sequence[Ended]) -> None:
        """While it is on."""
        if self.on:
            for observer in self._observers:
                observer.ended(outcome, endings)


@contextmanager
def _scraped(port: int) -> Iterator[None]:
    """Scrapes meanwhile."""
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(SCRAPE_SECONDS):
            url = f"http://127.0.0.1:{port}/metrics"
            with suppress(OSError):  # the worker is about to end
                urllib.request.urlopen(url, timeout=0.5).read()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _drain(client: Client, blocks: int, block: int, kinds: int) -> list[tuple[float, float]]:
    """The times, and those of the CPU, at which blocks of jobs had been done."""
    jobs = blocks * block
    client.migrate()
    client.enqueue_many((f"noop-{number % kinds}", {"n": number}) for number in range(jobs))
    with psycopg.connect(client.dsn, autocommit=True) as conn:
        conn.execute("vacuum analyze pgqueue.job")
        conn.execute("checkpoint")
    server = MetricsServer(0, host="127.0.0.1")
    watch = Watch(client, senders=[lambda _: None], every=timedelta(seconds=1))
    switch = Switch([server, watch])
    marks: list[tuple[float, float]] = []
    done = 0

    async def noop(_: Job[Any]) -> None:
        nonlocal done
        if done % block == 0:
            marks.append((time.perf_counter(), time.process_time()))
            switch.on = not switch.on
        done += 1

    handlers = Handlers()
    for number in range(kinds):
        handlers.register(f"noop-{number}")(noop)
    logging.basicConfig(filename="/dev/null")
    with _scraped(server.port):
        Worker(client, handlers, observers=[switch]).run(until_idle=True)
    server.close()
    if done != jobs:
        raise SystemExit(f"{done} jobs were run instead of {jobs}")
    return marks


def _pairs(marks: list[tuple[float, float]], index: int) -> list[tuple[float, float]]:
    """Seconds of blocks with and without, side by side."""
    spans = [b[index] - a[index] for a, b in itertools.pairwise(marks)][SKIPPED:]
    return list(zip(spans[::2], spans[1::2], strict=False))


def main() -> None:
    """Parses the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dsn", help="an empty database; default: a throw-away embedded server")
    parser.add_argument("--blocks", type=int, default=123, help="an odd number (default 123)")
    parser.add_argument("--block", type=int, default=10_000, help="jobs (default 10,000)")
    parser.add_argument("--kinds", type=int, default=3, help="that the jobs are of (default 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the marks")
    given = parser.parse_args()
    with (
        throw_away() if given.dsn is None else nullcontext(given.dsn) as dsn,
        Client(dsn) as client,
    ):
        marks = _drain(client, given.blocks, given.block, given.kinds)
    print(f"Python {platform.python_version()}, psycopg {psycopg.__version__}; no-op async jobs of "
          f"{given.kinds} kinds, blocks of {given.block:,}")  # fmt: skip
    for index, what in ((0, "time"), (1, "CPU time")):
        pairs = _pairs(marks, index)
        low, middle, high = statistics.quantiles([a / b - 1 for a, b in pairs], n=4)
        least = statistics.median(b for _, b in pairs) / given.block
        # Noise only ever adds: of each sort, the quickest tenth has the least of it.
        quick = [statistics.quantiles(sort, n=10)[0] for sort in zip(*pairs, strict=True)]
        print(
            f"{what:9} {1e6 * least:6.2f} us a job without; with, {100 * middle:+.1f} % in the "
            f"median of {len(pairs)} pairs ({100 * low:+.1f} to {100 * high:+.1f} in half), "
            f"{100 * (quick[0] / quick[1] - 1):+.1f} % in the quickest tenth of either"
        )
    if given.json is not None:
        given.json.write_text(json.dumps(marks))


if __name__ == "__main__":
    main()
