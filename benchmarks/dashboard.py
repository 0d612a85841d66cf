"""How long the dashboard's pages take, with millions of jobs.

    python -m benchmarks.dashboard [--scale 0.1] [--rounds 15]

The jobs are those of `benchmarks.pages`: 5,000,000 finished ones and 1,000,000 that wait, on a
Postgres of its own. Each page is asked for as a browser does, without the network between.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time

import httpx
import psycopg
from benchmarks.pages.__main__ import FINISHED, WAITING, fill
from rich.console import Console
from rich.table import Table

from pgqueue import Client
from pgqueue.bench.server import throw_away
from pgqueue.dashboard import Dashboard, User

PAGES = (
    "/", "/?span=week", "/jobs", "/jobs?state=ready", "/jobs?state=dead", "/jobs?state=succeeded",
    "/jobs?state=succeeded&queue=q3&since=1d", "/jobs?state=dead&error_class=ValueError&since=1d",
    "/jobs/bulk?action=retry&state=dead", "/jobs/{job}", "/queues", "/queues/q2", "/schedules",
    "/workers", "/audit", "/doctor",
)  # fmt: skip


async def ask(dashboard: Dashboard, path: str, rounds: int) -> tuple[int, list[float]]:
    """The status and the milliseconds of each request."""
    times, status = [], 0
    transport = httpx.ASGITransport(dashboard)
    async with httpx.AsyncClient(transport=transport, base_url="http://bench", timeout=60) as asker:
        for _ in range(rounds):
            started = time.perf_counter()
            status = (await asker.get(path)).status_code
            times.append(1000 * (time.perf_counter() - started))
    return status, times


def main() -> None:
    """Parses the command line, measures, and shows what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the counts")
    parser.add_argument("--rounds", type=int, default=15, help="requests for each page")
    given = parser.parse_args()
    console = Console()
    with throw_away() as dsn, Client(dsn) as client:
        client.migrate()
        with psycopg.connect(dsn, autocommit=True) as conn:
            fill(conn, int(FINISHED * given.scale), int(WAITING * given.scale))
        job = client.claim("q2", limit=100)[0].id
        client.maintain()
        dashboard = Dashboard(client, auth=lambda _: User("bench", "operator"))
        table = Table("Page", "status", "first ms", "median ms", "longest ms")
        for page in PAGES:
            status, times = asyncio.run(ask(dashboard, page.format(job=job), given.rounds))
            cells = (times[0], statistics.median(times), max(times))
            table.add_row(page, str(status), *(f"{ms:,.1f}" for ms in cells))
    console.print(table)


if __name__ == "__main__":
    main()
