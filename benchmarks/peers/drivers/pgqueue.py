"""pgqueue itself.

Variants: keep (retention as installed), off (0), sync and batch handlers, uvloop.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import psycopg
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

import pgqueue

QUEUE = "bench"
CONCURRENCY = 100
BATCH = 500
count = Count()
latencies: list[float] = []


def noop(_: pgqueue.Job) -> None:
    """Nothing, in a thread."""
    count.add()


async def noop_async(_: pgqueue.Job) -> None:
    """Nothing, on the event loop."""
    count.add()


async def noop_batch(jobs: list[pgqueue.Job]) -> None:
    """Nothing, for many jobs at once."""
    count.add(len(jobs))


async def ping(job: pgqueue.Job[Any]) -> None:
    """Notes how long ago the job was sent."""
    latencies.append(time.monotonic() - job.payload["sent_at"])


class Pgqueue:
    """The driver."""

    def __init__(self, dsn: str, variant: str) -> None:
        self._dsn = dsn
        self._variant = variant

    def info(self) -> Info:
        """Versions, settings and SQL."""
        off = self._variant == "off"
        settings = {
            "handlers": {"sync": "sync", "batch": f"async, batch {BATCH}"}.get(
                self._variant, "async"
            ),
            "concurrency": str(CONCURRENCY),
            "event loop": "uvloop" if self._variant == "uvloop" else "asyncio's",
            "finished jobs": "deleted (retention 0)" if off else "kept for 14 days, then dropped",
        }
        return {
            "versions": {
                "pgqueue": version("pgqueue-jobs"),
                "psycopg": version("psycopg"),
            },
            "settings": settings,
            "unfinished": "select count(*) from pgqueue.job",
            "finished": None
            if off
            else "select count(*) from pgqueue.archive where state = 'succeeded'",
            "table": "pgqueue.job",
            "claim": r"pgqueue\W*\.\W*claim",
        }

    def setup(self) -> None:
        """Installs the schema, and sets retention."""
        with pgqueue.Client(self._dsn) as client:
            client.migrate()
        if self._variant == "off":
            with psycopg.connect(self._dsn) as conn:
                conn.execute("update pgqueue.setting set retention = '0'")

    def enqueue(self, count: int) -> float:
        """`enqueue_many`, which copies."""
        with pgqueue.Client(self._dsn, pool_size=1) as client:
            client.stats()
            started = time.perf_counter()
            client.enqueue_many((("noop", PAYLOAD) for _ in range(count)), queue=QUEUE)
            return time.perf_counter() - started

    def single(self, count: int) -> float:
        """`enqueue`, each its own transaction."""
        with pgqueue.Client(self._dsn, pool_size=1) as client:
            client.stats()
            started = time.perf_counter()
            for _ in range(count):
                client.enqueue("noop", PAYLOAD, queue=QUEUE)
            return time.perf_counter() - started

    def drain(self, begin: Callable[[], None]) -> Drained:
        """`Worker.run(until_idle=True)`; the worker connects after `begin`."""
        handlers = pgqueue.Handlers()
        if self._variant == "batch":
            handlers.register("noop", queue=QUEUE, batch=BATCH)(noop_batch)
        elif self._variant == "sync":
            handlers.register("noop", queue=QUEUE)(noop)
        else:
            handlers.register("noop", queue=QUEUE)(noop_async)
        worker = pgqueue.Worker(self._dsn, handlers, concurrency=CONCURRENCY)
        begin()
        worker.run(until_idle=True, loop_factory=self._loop_factory())
        return count.drained()

    def _loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop] | None:
        if self._variant != "uvloop":
            return None
        import uvloop  # noqa: PLC0415 - the extra `uvloop`

        return uvloop.new_event_loop

    def serve(self, ready: Callable[[], None]) -> list[float]:
        """A worker that sleeps until the doorbell rings."""
        handlers = pgqueue.Handlers()
        handlers.register("ping", queue=QUEUE)(ping)
        worker = pgqueue.Worker(self._dsn, handlers, concurrency=CONCURRENCY)

        def watch() -> None:
            ready()
            stopped()
            worker.stop()

        threading.Thread(target=watch, daemon=True).start()
        worker.run()
        return latencies

    def send(self, rate: float, seconds: float) -> tuple[int, float]:
        """`AsyncClient.enqueue`."""

        async def work() -> tuple[int, float]:
            async with pgqueue.AsyncClient(self._dsn, pool_size=MOST_AT_ONCE) as client:
                await client.stats()
                return await at_rate(
                    lambda payload: client.enqueue("ping", payload, queue=QUEUE), rate, seconds
                )

        return asyncio.run(work())


if __name__ == "__main__":
    main(Pgqueue)
