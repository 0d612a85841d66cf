"""Procrastinate on its psycopg connector, twenty jobs at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import procrastinate
from benchmarks.peers.drivers.protocol import (
    MOST_AT_ONCE,
    PAYLOAD,
    Count,
    Drained,
    Info,
    at_rate,
    main,
    stopped,
)

CONCURRENCY = 20
CONNECTIONS = CONCURRENCY + 5
"""In the worker's pool: one for each job, and some for listening, fetching and heartbeats."""
CHUNK = 5_000
UNFINISHED = "select count(*) from procrastinate_jobs where status in ('todo', 'doing')"


class Procrastinate:
    """The driver."""

    def __init__(self, dsn: str, _: str) -> None:
        self._dsn = dsn

    def info(self) -> Info:
        """Versions, settings and SQL."""
        return {
            "versions": {name: version(name) for name in ("procrastinate", "psycopg")},
            "settings": {
                "handlers": "async",
                "concurrency": str(CONCURRENCY),
                "pool": f"up to {CONNECTIONS} connections",
                "finished jobs": "kept for ever (default)",
            },
            "unfinished": UNFINISHED,
            "finished": "select count(*) from procrastinate_jobs where status = 'succeeded'",
            "table": "procrastinate_jobs",
            "claim": r"procrastinate_fetch_job",
        }

    def setup(self) -> None:
        """`apply_schema`."""

        async def work() -> None:
            async with self._app(1).open_async() as app:
                await app.schema_manager.apply_schema_async()

        asyncio.run(work())

    def enqueue(self, count: int) -> float:
        """`batch_defer`."""

        async def work() -> float:
            async with self._app(1).open_async() as app:
                task = app.configure_task("noop", queue="bench", allow_unknown=True)
                await app.check_connection_async()
                started = time.perf_counter()
                for done in range(0, count, CHUNK):
                    size = min(CHUNK, count - done)
                    await task.batch_defer_async(*[dict[str, Any](PAYLOAD)] * size)
                return time.perf_counter() - started

        return asyncio.run(work())

    def single(self, count: int) -> float:
        """`defer`, each its own transaction."""

        async def work() -> float:
            async with self._app(1).open_async() as app:
                task = app.configure_task("noop", queue="bench", allow_unknown=True)
                await app.check_connection_async()
                started = time.perf_counter()
                for _ in range(count):
                    await task.defer_async(**PAYLOAD)
                return time.perf_counter() - started

        return asyncio.run(work())

    def drain(self, begin: Callable[[], None]) -> Drained:
        """A worker that does not wait for more."""
        count = Count()

        async def noop(**_: object) -> None:
            count.add()

        async def work() -> None:
            async with self._app(CONNECTIONS).open_async() as app:
                app.task(name="noop", queue="bench")(noop)
                await app.check_connection_async()
                begin()
                await app.run_worker_async(
                    concurrency=CONCURRENCY, wait=False, install_signal_handlers=False
                )

        asyncio.run(work())
        return count.drained()

    def serve(self, ready: Callable[[], None]) -> list[float]:
        """A worker, woken by LISTEN."""
        latencies: list[float] = []

        async def ping(sent_at: float) -> None:
            latencies.append(time.monotonic() - sent_at)

        async def work() -> None:
            async with self._app(CONNECTIONS).open_async() as app:
                app.task(name="ping", queue="bench")(ping)
                running = asyncio.create_task(
                    app.run_worker_async(concurrency=CONCURRENCY, install_signal_handlers=False)
                )
                ready()
                await asyncio.to_thread(stopped)
                running.cancel()
                await asyncio.wait([running])

        asyncio.run(work())
        return latencies

    def send(self, rate: float, seconds: float) -> tuple[int, float]:
        """`defer` on a pool."""

        async def work() -> tuple[int, float]:
            async with self._app(MOST_AT_ONCE).open_async() as app:
                task = app.configure_task("ping", queue="bench", allow_unknown=True)
                await app.check_connection_async()
                return await at_rate(lambda sent: task.defer_async(**sent), rate, seconds)

        return asyncio.run(work())

    def _app(self, connections: int) -> procrastinate.App:
        return procrastinate.App(
            connector=procrastinate.PsycopgConnector(
                conninfo=self._dsn, min_size=min(2, connections), max_size=connections
            )
        )


if __name__ == "__main__":
    main(Procrastinate)
