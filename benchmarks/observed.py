"""What observability costs a worker: drains with all of it on beside drains without, in one run.

    python benchmarks/observed.py [--dsn DSN] [--jobs 200000] [--rounds 12] [--json FILE]

On means: metrics on a port that is scraped every second, the watch with all its rules looking every
second (10 s is the default), and the log at the level that is the default. Each round drains the
same jobs in each way, in a process of its own, in an order by chance; a way's cost is the median of
its rounds' ratios to the round's plain drain. Beside the rate stands the process's own CPU time,
which is disturbed less by whatever else goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import platform
import random
import statistics
import threading
import time
import urllib.request
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from pgqueue import Client, Handlers, Job, Observer, Worker
from pgqueue.alerts import Watch
from pgqueue.bench.server import throw_away
from pgqueue.metrics import MetricsServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection


WAYS = ("plain", "metrics", "alerts", "all on", "all on, log at INFO")
SCRAPE_SECONDS = 1.0


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


def _drain(dsn: str, way: str, jobs: int, kinds: int, answer: Connection) -> None:
    """Drains the queue in this process; tells the seconds from its first job to the last."""
    handlers = Handlers()
    marks: list[tuple[float, float]] = []
    done = 0

    async def noop(_: Job[Any]) -> None:
        """Nothing, but to look at the clocks at the beginning and at the end."""
        nonlocal done
        done += 1
        if done in (1, jobs):
            marks.append((time.perf_counter(), time.process_time()))

    for number in range(kinds):
        handlers.register(f"noop-{number}")(noop)
    logging.basicConfig(filename="/dev/null")
    if "INFO" in way:
        logging.getLogger("pgqueue").setLevel(logging.INFO)
    observers: list[Observer] = []
    scraping: Any = nullcontext()
    if way == "metrics" or "all on" in way:
        server = MetricsServer(0, host="127.0.0.1")
        observers.append(server)
        scraping = _scraped(server.port)
    if way == "alerts" or "all on" in way:
        observers.append(Watch(dsn, senders=[lambda _: None], every=timedelta(seconds=1)))
    worker = Worker(dsn, handlers, observers=observers)
    with scraping:
        worker.run(until_idle=True)
    (began, used_before), (ended, used) = marks
    answer.send((ended - began, used - used_before))


def _round(client: Client, way: str, jobs: int, kinds: int) -> tuple[float, float]:
    """Seconds, and seconds of CPU, in a new process, for a full queue that is vacuumed before."""
    with psycopg.connect(client.dsn, autocommit=True) as conn:
        conn.execute("truncate pgqueue.job, pgqueue.archive")
        client.enqueue_many((f"noop-{number % kinds}", {"n": number}) for number in range(jobs))
        conn.execute("vacuum analyze pgqueue.job")
        conn.execute("checkpoint")
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_drain, args=(client.dsn, way, jobs, kinds, there)
    )
    process.start()
    times: tuple[float, float] = here.recv()
    process.join(60)
    left = sum(queue.ready + queue.claimed for queue in client.stats())
    if left:
        raise SystemExit(f"{left} jobs are left")
    return times


def _measure(
    dsn: str, ways: list[str], jobs: int, rounds: int, kinds: int
) -> dict[str, list[tuple[float, float]]]:
    times: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    with Client(dsn) as client:
        client.migrate()
        for _ in range(2):  # warms the server up
            _round(client, WAYS[0], jobs, kinds)
        for _ in range(rounds):
            for way in random.sample(ways, len(ways)):
                times[way].append(_round(client, way, jobs, kinds))
    return times


def _told(way: str, jobs: int, times: list[tuple[float, float]], plain: list[Any]) -> str:
    parts = [f"{way:22}{jobs / statistics.median(wall for wall, _ in times):10,.0f} jobs/s"]
    for index, what in ((0, "time"), (1, "CPU")):
        costs = sorted(a[index] / b[index] - 1 for a, b in zip(times, plain, strict=True))
        quartiles = statistics.quantiles(costs, n=4)
        parts.append(
            f"{100 * quartiles[1]:+6.1f} % {what} ({100 * quartiles[0]:+.1f} to "
            f"{100 * quartiles[2]:+.1f})"
        )
    return "  ".join([*parts, f"{1e6 * statistics.median(c for _, c in times) / jobs:6.2f} us CPU"])


def main() -> None:
    """Parses the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dsn", help="an empty database; default: a throw-away embedded server")
    parser.add_argument("--jobs", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--kinds", type=int, default=3, help="that the jobs are of (default 3)")
    parser.add_argument("--ways", nargs="+", default=list(WAYS[:-1]), choices=WAYS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    given = parser.parse_args()
    ways = list(dict.fromkeys([WAYS[0], *given.ways]))
    with throw_away() if given.dsn is None else nullcontext(given.dsn) as dsn:
        times = _measure(dsn, ways, given.jobs, given.rounds, given.kinds)
    print(f"Python {platform.python_version()}, psycopg {psycopg.__version__}; no-op async jobs of "
          f"{given.kinds} kinds, {given.jobs:,} a drain, {given.rounds} rounds; medians, and the "
          "middle half of the rounds")  # fmt: skip
    for way, found in times.items():
        print(_told(way, given.jobs, found, times[WAYS[0]]))
    if given.json is not None:
        given.json.write_text(json.dumps(times))


if __name__ == "__main__":
    main()
