"""The measures, each on an empty database."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import attrs
import psycopg

from pgqueue import Client, Handlers, Job, NewJob, Worker

LEAST = 10_000
DEPTHS = (100_000, 1_000_000, 5_000_000)
PAYLOAD: dict[str, Any] = {"to": "somebody@example.org", "subject": "welcome", "n": 1}
QUEUE = "bench"
CLAIM = 100
REPEATS = 60
SINGLES = 300
SPAWN = multiprocessing.get_context("spawn")
Step = Callable[[str], list[Any]]


@attrs.frozen
class Depth:
    """What a job costs where so many are ready."""

    ready: int
    claim_us: float
    """Claim and ack of one of a hundred, median."""
    enqueue_us: float
    """Enqueue of one, median."""


def by_depth(dsn: str, depths: Sequence[int]) -> Iterator[Depth]:
    """Fills the queue up to each depth, and measures there."""
    with Client(dsn) as client:
        ready = 0
        for depth in depths:
            client.enqueue_many(pairs(depth - ready), queue=QUEUE)
            vacuum(dsn)
            claim_us = claim_and_ack(client)
            enqueue_us = statistics.median(_microseconds(client) for _ in range(SINGLES))
            ready = client.stats()[0].ready
            yield Depth(depth, claim_us, enqueue_us)


def _microseconds(client: Client) -> float:
    started = time.perf_counter()
    client.enqueue("noop", PAYLOAD, queue=QUEUE)
    return 1e6 * (time.perf_counter() - started)


def pairs(count: int) -> Iterator[tuple[str, Any]]:
    """So many jobs."""
    return (("noop", PAYLOAD) for _ in range(count))


def vacuum(dsn: str) -> None:
    """Leaves the table as autovacuum would, at a time of our choice."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("vacuum (analyze) pgqueue.job")


def claim_and_ack(client: Client, kinds: Sequence[str] | None = None) -> float:
    """Microseconds per job, the median of claims of a hundred."""
    took = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        client.ack(client.claim(QUEUE, limit=CLAIM, kinds=kinds))
        took.append(1e6 * (time.perf_counter() - started) / CLAIM)
    return statistics.median(took)


def promotion(dsn: str, count: int) -> tuple[float, float, float]:
    """Jobs due at once: seconds until all are ready, in the longest round, in the longest claim."""
    with Client(dsn) as client:
        delay = timedelta(seconds=2 + count / 50_000)
        client.enqueue("noop", queue=QUEUE)
        started = time.monotonic()
        client.enqueue_many(NewJob("noop", PAYLOAD, queue="due", delay=delay) for _ in range(count))
        vacuum(dsn)
        time.sleep(max(0.0, started + delay.total_seconds() + 1 - time.monotonic()))
        waits: list[float] = []
        over = threading.Event()
        thread = threading.Thread(target=_claim_until, args=(client, waits, over))
        thread.start()
        started, longest, promoted = time.monotonic(), 0.0, 0
        while promoted < count:
            before = time.monotonic()
            promoted += client.maintain().promoted
            longest = max(longest, time.monotonic() - before)
        seconds = time.monotonic() - started
        over.set()
        thread.join()
        return seconds, longest, max(waits)


def _claim_until(client: Client, waits: list[float], over: threading.Event) -> None:
    while not over.is_set():
        started = time.monotonic()
        client.ack(client.claim("due", limit=10))
        waits.append(time.monotonic() - started)


def by_breadth(dsn: str, queues: int) -> tuple[float, float, float]:
    """Claim and ack alone, among so many other queues, and of a thousand kinds."""
    ready = 3 * REPEATS * CLAIM
    with Client(dsn) as client:
        client.enqueue_many(pairs(ready), queue=QUEUE)
        vacuum(dsn)
        alone = claim_and_ack(client)
        kinds = claim_and_ack(client, ["noop", *(f"kind-{number}" for number in range(999))])
        client.enqueue_many(NewJob("noop", queue=f"customer-{number}") for number in range(queues))
        vacuum(dsn)
        client.maintain()
        return alone, claim_and_ack(client), kinds


# Processes


def memory(dsn: str, count: int) -> tuple[float, float, float]:
    """Megabytes of a worker after a tenth of the jobs, and at the end; and of their producer."""
    peak = _in_child(_produce, dsn, count)
    ours, theirs = SPAWN.Pipe()
    child = SPAWN.Process(target=_work, args=(dsn, theirs), daemon=True)
    child.start()
    early = late = 0.0
    with psycopg.connect(dsn, autocommit=True) as conn:
        while (left := _left(conn)) > 0:
            late = _rss(child.pid)
            early = early or (late if left < 0.9 * count else 0.0)
            time.sleep(0.05)  # between two looks from outside: the worker is not to be disturbed
    ours.send("stop")
    child.join(30)
    return early, late, float(peak)


def _left(conn: psycopg.Connection[Any]) -> int:
    row = conn.execute("select count(*) from pgqueue.job").fetchone()
    return int(row[0]) if row else 0


def _rss(pid: int | None) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _in_child(target: Callable[..., None], *args: Any) -> Any:  # noqa: ANN401
    ours, theirs = SPAWN.Pipe()
    child = SPAWN.Process(target=target, args=(*args, theirs), daemon=True)
    child.start()
    answer = ours.recv()
    child.join(30)
    return answer


def _produce(dsn: str, count: int, pipe: Connection) -> None:
    with Client(dsn) as client:
        client.enqueue_many(pairs(count), queue=QUEUE)
    # Not ru_maxrss, which begins with that of the process that started this one.
    status = Path("/proc/self/status").read_text()
    pipe.send(int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6)


async def _noop(_: Job) -> None:
    pass


def _handlers() -> Handlers:
    handlers = Handlers()
    handlers.register("noop", queue=QUEUE)(_noop)
    return handlers


def _work(dsn: str, pipe: Connection) -> None:
    worker = Worker(dsn, _handlers(), queues=QUEUE, concurrency=100)

    def stop() -> None:
        pipe.recv()
        worker.stop()

    threading.Thread(target=stop, daemon=True).start()
    worker.run()


def idle(dsn: str, seconds: float) -> tuple[float, float]:
    """Statements per second, and the share of a core, of a worker with nothing to do."""
    ours, theirs = SPAWN.Pipe()
    child = SPAWN.Process(target=_work, args=(dsn, theirs), daemon=True)
    child.start()
    time.sleep(3)  # it has asked for the doorbell by then
    with psycopg.connect(dsn, autocommit=True) as conn:
        before, cpu = _statements(conn), _cpu(child.pid)
        time.sleep(seconds)
        count, cpu = _statements(conn) - before, _cpu(child.pid) - cpu
    ours.send("stop")
    child.join(30)
    return count / seconds, cpu / seconds


def _cpu(pid: int | None) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def herd(dsn: str, workers: int, jobs: int) -> tuple[float, float]:
    """Claims made for each job that wakes idle workers, and the slowest pick-up in seconds."""
    ours, theirs = SPAWN.Pipe()
    child = SPAWN.Process(target=_many_workers, args=(dsn, workers, theirs), daemon=True)
    child.start()
    ours.recv()
    pause = 0.3
    with Client(dsn) as client, psycopg.connect(dsn, autocommit=True) as conn:
        while _asleep(conn) < workers:
            time.sleep(0.1)
        # Over before the first one asks to be rung again, and looks for jobs.
        time.sleep(1)
        before = _statements(conn, "%.claim(%")
        ids = []
        for _ in range(jobs):
            ids.append(client.enqueue("noop", queue=QUEUE).id)
            time.sleep(pause)
        claims = _statements(conn, "%.claim(%") - before
        waits = [client.get(job).claimed_at for job in ids]
        enqueued = [client.get(job).enqueued_at for job in ids]
    ours.send("stop")
    child.join(60)
    late = max((w - e).total_seconds() for w, e in zip(waits, enqueued, strict=True) if w)
    return claims / jobs, late


def _asleep(conn: psycopg.Connection[Any]) -> int:
    row = conn.execute("select count(*) from pgqueue.sleeper").fetchone()
    return int(row[0]) if row else 0


def _statements(conn: psycopg.Connection[Any], like: str = "%") -> int:
    """How many there were so far of those that match, but for our own."""
    row = conn.execute(
        "select coalesce(sum(calls), 0) from pg_stat_statements "
        "where query like %s and query not like '%%pg_stat_statements%%'",
        (like,),
    ).fetchone()
    return int(row[0]) if row else 0


def _many_workers(dsn: str, count: int, pipe: Connection) -> None:
    async def main() -> None:
        workers = [
            # Polls would be most of what is counted.
            Worker(dsn, _handlers(), queues=QUEUE, concurrency=2, poll_interval=timedelta(hours=1))
            for _ in range(count)
        ]
        running = [asyncio.create_task(worker.run_async()) for worker in workers]
        pipe.send("ready")
        await asyncio.to_thread(pipe.recv)
        for worker in workers:
            worker.stop()
        await asyncio.wait(running, timeout=30)

    asyncio.run(main())
