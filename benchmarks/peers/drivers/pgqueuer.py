"""PgQueuer on asyncpg and uvloop, with its performance guide's autovacuum and a larger batch."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from importlib.metadata import version

import asyncpg
import uvloop
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
from pgqueuer import PgQueuer, types
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.queries import Queries

BATCH = 250
"""Jobs per dequeue, and per flush of the log of finished ones."""
CHUNK = 10_000
payload = json.dumps(PAYLOAD).encode()


class Pgqueuer:
    """The driver."""

    def __init__(self, dsn: str, _: str) -> None:
        self._dsn = dsn

    def info(self) -> Info:
        """Versions, settings and SQL."""
        return {
            "versions": {name: version(name) for name in ("pgqueuer", "asyncpg", "uvloop")},
            "settings": {
                "handlers": "async",
                "driver": "asyncpg, one connection, uvloop",
                "batch_size": str(BATCH),
                "durability": "durable (default)",
                "autovacuum": "as `pgq autovac` sets it",
                "finished jobs": "deleted, and logged",
            },
            "unfinished": "select count(*) from pgqueuer",
            "finished": "select count(*) from pgqueuer_log where status = 'successful'",
            "table": "pgqueuer",
            "claim": r"FOR UPDATE.*SKIP LOCKED",
        }

    def setup(self) -> None:
        """`pgq install` and `pgq autovac`."""

        async def work() -> None:
            queries = await self._connect()
            await queries.install()
            await queries.optimize_autovacuum()

        uvloop.run(work())

    def enqueue(self, count: int) -> float:
        """`enqueue` with lists, which inserts from arrays."""

        async def work() -> float:
            queries = await self._connect()
            started = time.perf_counter()
            for done in range(0, count, CHUNK):
                size = min(CHUNK, count - done)
                await queries.enqueue(["noop"] * size, [payload] * size, [0] * size)
            return time.perf_counter() - started

        return float(uvloop.run(work()))

    def single(self, count: int) -> float:
        """`enqueue`, each its own transaction."""

        async def work() -> float:
            queries = await self._connect()
            started = time.perf_counter()
            for _ in range(count):
                await queries.enqueue("noop", payload)
            return time.perf_counter() - started

        return float(uvloop.run(work()))

    def drain(self, begin: Callable[[], None]) -> Drained:
        """`run` in its drain mode."""
        count = Count()

        async def noop(_: object) -> None:
            count.add()

        async def work() -> None:
            queue = PgQueuer((await self._connect()).driver)
            queue.entrypoint("noop")(noop)
            begin()
            await queue.run(batch_size=BATCH, mode=types.QueueExecutionMode.drain)

        uvloop.run(work())
        return count.drained()

    def serve(self, ready: Callable[[], None]) -> list[float]:
        """`run`, woken by LISTEN."""
        latencies: list[float] = []

        async def ping(job: object) -> None:
            sent: dict[str, float] = json.loads(getattr(job, "payload", b"{}"))
            latencies.append(time.monotonic() - sent["sent_at"])

        async def work() -> None:
            queue = PgQueuer((await self._connect()).driver)
            queue.entrypoint("ping")(ping)
            running = asyncio.create_task(queue.run(batch_size=BATCH))
            ready()
            await asyncio.to_thread(stopped)
            queue.shutdown.set()
            await running

        uvloop.run(work())
        return latencies

    def send(self, rate: float, seconds: float) -> tuple[int, float]:
        """`enqueue` on a pool, as its guide advises for producers."""

        async def work() -> tuple[int, float]:
            async with asyncpg.create_pool(
                self._dsn, min_size=MOST_AT_ONCE, max_size=MOST_AT_ONCE
            ) as pool:
                queries = Queries(AsyncpgPoolDriver(pool))
                return await at_rate(
                    lambda sent: queries.enqueue("ping", json.dumps(sent).encode()), rate, seconds
                )

        sent, took = uvloop.run(work())
        return sent, took

    async def _connect(self) -> Queries:
        return Queries(AsyncpgDriver(await asyncpg.connect(self._dsn)))


if __name__ == "__main__":
    main(Pgqueuer)
