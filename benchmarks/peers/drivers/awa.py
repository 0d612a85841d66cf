"""Awa: its Rust core under its Python bindings, on queue storage, filled by its direct COPY."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from urllib.parse import quote

import psycopg
from awa import AsyncClient
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
from psycopg.conninfo import conninfo_to_dict

QUEUE = "bench"
WORKERS = 256
CONNECTIONS = 20
SHARDS = 4
CHUNK = 10_000
QUIET_SECONDS = 0.3
"""It has no end of its own. Without a handler for so long, the database is asked whether all is
done; not before, since the question would be part of what is measured."""
COMPLETED = """
    select (select coalesce(sum(completed_count), 0) from awa.receipt_completion_batches)
        + (select coalesce(sum(pruned_completed_count), 0) from awa.queue_terminal_rollups)
"""
"""Not from the view awa.jobs: of ten thousand jobs without fresh statistics it takes minutes."""
ADDED = """
    select (select count(*) from awa.ready_entries)
        + (select coalesce(sum(pruned_completed_count), 0) from awa.queue_terminal_rollups)
"""
"""Of a queue without failed and scheduled jobs. What is completed is truncated in both at once."""
UNFINISHED = f"select ({ADDED}) - ({COMPLETED}) + (select count(*) from awa.deferred_jobs)"
RING_SECONDS = 15.0
"""Its ring of tables comes round once in 16 s. Of a longer drain the log would have to be read with
the numbers of files that are gone."""


class Awa:
    """The driver."""

    def __init__(self, dsn: str, _: str) -> None:
        self._dsn = dsn

    def info(self) -> Info:
        """Versions, settings and SQL."""
        return {
            "versions": {"awa-pg": version("awa-pg")},
            "settings": {
                "handlers": "async",
                "storage": "queue storage, receipts",
                "max_workers": str(WORKERS),
                "deadline_duration_ms": "0 (the cheaper of its two kinds of claim)",
                "enqueue_shards": f"{SHARDS}, as its deployment guide advises",
                "max_connections": str(CONNECTIONS),
                "finished jobs": "truncated after a second or so, and counted",
            },
            "unfinished": UNFINISHED,
            "finished": COMPLETED,
            # Nothing is updated or deleted when a job is finished: a receipt is added.
            "table": "awa.receipt_completion_batches",
            "claim": r"claim_ready_runtime",
        }

    def setup(self) -> None:
        """`migrate`, queue storage instead of the tables of its versions before 0.6, and shards.

        A shard is made by the first job in it, and two that come at once fail; so each gets one.
        """

        async def work() -> None:
            client = self._client(2)
            await client.migrate()
            await client.install_queue_storage(schema="awa")
            await client.close()

        asyncio.run(work())
        with psycopg.connect(self._dsn) as conn:
            conn.execute(
                "insert into awa.queue_meta (queue, enqueue_shards) values (%s, %s) "
                "on conflict (queue) do update set enqueue_shards = excluded.enqueue_shards",
                (QUEUE, SHARDS),
            )

        async def fill() -> None:
            client = await self._connected(1)
            for number in range(16 * SHARDS):
                key = str(number)
                await client.insert(PAYLOAD, kind="noop", queue=QUEUE, ordering_key=key)

        asyncio.run(fill())
        self.drain(lambda: None)

    def enqueue(self, count: int) -> float:
        """`enqueue_many_copy`, straight into queue storage."""

        async def work() -> float:
            client = await self._connected(1)
            started = time.perf_counter()
            for done in range(0, count, CHUNK):
                jobs = [PAYLOAD] * min(CHUNK, count - done)
                await client.enqueue_many_copy(jobs, kind="noop", queue=QUEUE)
            return time.perf_counter() - started

        return asyncio.run(work())

    def single(self, count: int) -> float:
        """`insert`, each its own transaction."""

        async def work() -> float:
            client = await self._connected(1)
            started = time.perf_counter()
            for _ in range(count):
                await client.insert(PAYLOAD, kind="noop", queue=QUEUE)
            return time.perf_counter() - started

        return asyncio.run(work())

    def drain(self, begin: Callable[[], None]) -> Drained:
        """`start`, and `shutdown` once nothing is left."""
        count = Count()

        async def noop(_: object) -> None:
            count.add()

        async def work() -> None:
            client = self._worker("noop", noop)
            added = self._ask(ADDED)
            begin()
            await _start(client)
            seen = -1
            while seen != count.done or await asyncio.to_thread(self._ask, COMPLETED) < added:
                seen = count.done
                await asyncio.sleep(QUIET_SECONDS)
            await client.shutdown()

        asyncio.run(work())
        if count.done and time.time() - count.first > RING_SECONDS:
            raise SystemExit("the drain took too long to be measured; use fewer jobs")
        return count.drained()

    def serve(self, ready: Callable[[], None]) -> list[float]:
        """A worker woken by LISTEN."""
        latencies: list[float] = []

        async def ping(job: object) -> None:
            sent: dict[str, float] = getattr(job, "args", {})
            latencies.append(time.monotonic() - sent["sent_at"])

        async def work() -> None:
            client = self._worker("ping", ping)
            await _start(client)
            ready()
            await asyncio.to_thread(stopped)
            await client.shutdown()

        asyncio.run(work())
        return latencies

    def send(self, rate: float, seconds: float) -> tuple[int, float]:
        """`insert`."""

        async def work() -> tuple[int, float]:
            client = await self._connected(MOST_AT_ONCE)
            return await at_rate(
                lambda sent: client.insert(sent, kind="ping", queue=QUEUE), rate, seconds
            )

        return asyncio.run(work())

    def _client(self, connections: int) -> AsyncClient:
        """A client: it wants a URL with a host, and takes the socket's folder beside it."""
        given = conninfo_to_dict(self._dsn)
        folder = quote(str(given["host"]), safe="")
        place = f"{given['user']}@localhost:{given['port']}/{given['dbname']}"
        return AsyncClient(f"postgresql://{place}?host={folder}", max_connections=connections)

    async def _connected(self, connections: int) -> AsyncClient:
        client = self._client(connections)
        await client.health_check()
        return client

    def _worker(self, kind: str, handler: Callable[[object], Awaitable[None]]) -> AsyncClient:
        client = self._client(CONNECTIONS)
        client.task(dict, kind=kind, queue=QUEUE)(handler)
        return client

    def _ask(self, query: str) -> int:
        with psycopg.connect(self._dsn, autocommit=True) as conn:
            row = conn.execute(query.encode()).fetchone()
        return int(row[0]) if row else 0


async def _start(client: AsyncClient) -> None:
    await client.start([{"name": QUEUE, "max_workers": WORKERS, "deadline_duration_ms": 0}])


if __name__ == "__main__":
    main(Awa)
