"""Single enqueues by eight clients at once, beside bare INSERTs by the same processes.

The processes live through all rounds and take the ways in turn, so what they and the machine cost
is the same for each. The floor is an INSERT of the same row in its own transaction, by psycopg in
autocommit mode, with the payload turned into JSON, into a table of the same columns and indexes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

import attrs
import psycopg
from benchmarks.growth.parts import PAYLOAD, QUEUE, SPAWN

from pgqueue import Client, Handlers, Job, Worker
from pgqueue.bench.bare import Bare

CLIENTS = 8
SCHEMA = "pgqueue"
BARE = "bare INSERT"
CLIENT = "Client.enqueue"
SQL = "enqueue() by SQL"
WAYS = (BARE, CLIENT, SQL)
BUSY_WORKERS = 2
BUSY_CONCURRENCY = 20
BUSY_PAUSE = 0.02
"""Seconds that a handler of a busy worker waits: 1,000 jobs/s each, so that all its handlers are
taken and the cores are left to those that enqueue."""
WARM_SECONDS = 0.3
"""Not counted: an emptied table makes every session plan its statements anew."""
DEADLINE = 60.0


@attrs.frozen
class Rates:
    """Enqueues per second by eight clients, each way, in each round."""

    scene: str
    """Who else is there."""
    rounds: dict[str, list[float]]

    def median(self, way: str) -> float:
        """The median of the rounds."""
        return statistics.median(self.rounds[way])

    def ratio(self, way: str) -> float:
        """The median of each round's ratio to the floor: neighbours on the machine come and go."""
        pairs = zip(self.rounds[way], self.rounds[BARE], strict=True)
        return statistics.median(rate / floor for rate, floor in pairs)


def by_clients(dsn: str, seconds: float, rounds: int = 9) -> list[Rates]:
    """Each scene, with the ways in turn for `seconds` in each of the rounds."""
    bare = Bare(dsn, SCHEMA)
    bare.create()
    try:
        with _producers(dsn, bare.insert) as pipes, psycopg.connect(dsn, autocommit=True) as conn:
            return list(_scenes(dsn, conn, pipes, seconds, rounds))
    finally:
        bare.close()


def _scenes(
    dsn: str,
    conn: psycopg.Connection[Any],
    pipes: list[Connection],
    seconds: float,
    rounds: int,
) -> Iterator[Rates]:
    def take(scene: str, before: Callable[[], None]) -> Rates:
        found: dict[str, list[float]] = {way: [] for way in WAYS}
        for number in range(rounds):
            # Not always the same one after the same: a way finds what the last one left.
            for way in (*WAYS[number % 3 :], *WAYS[: number % 3]):
                before()
                found[way].append(_rate(pipes, way, seconds))
        return Rates(scene, found)

    def empty() -> None:
        conn.execute("truncate pgqueue.job, pgqueue.archive, pgqueue.bare_job")

    def asleep() -> None:
        _wait_until(conn, "select count(*) = 0 from pgqueue.job")
        _wait_until(
            conn, "select count(*) = 1 from pgqueue.sleeper where until > clock_timestamp()"
        )
        conn.execute("truncate pgqueue.bare_job")

    def busy() -> None:
        # Enough for the window and its warm-up, whatever is enqueued besides.
        with Client(dsn) as client:
            jobs = int(2 * (seconds + 1) * BUSY_WORKERS * BUSY_CONCURRENCY / BUSY_PAUSE)
            waiting = client.stats()[0].ready if client.stats() else 0
            client.enqueue_many((("slow", PAYLOAD) for _ in range(jobs - waiting)), queue=QUEUE)
        _wait_until(conn, "select count(*) >= 40 from pgqueue.job where lease_until is not null")
        _wait_until(
            conn, "select count(*) = 0 from pgqueue.sleeper where until > clock_timestamp()"
        )

    yield take("no worker", empty)
    empty()
    with _workers(dsn, 1, 0.0):
        yield take("a worker, idle at first", asleep)
    empty()
    # What a worker leaves behind that was killed in its sleep: it would be rung for 30 s.
    conn.execute("select pgqueue.sleep(array[%s], 'dead', '1 year')", (QUEUE,))
    yield take("a worker that died asleep", empty)
    conn.execute("delete from pgqueue.sleeper")
    empty()
    with _workers(dsn, BUSY_WORKERS, BUSY_PAUSE):
        yield take(f"{BUSY_WORKERS} busy workers", busy)


def _wait_until(conn: psycopg.Connection[Any], query: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while conn.execute(query.encode()).fetchone() != (True,):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the measurement is void, still not so: {query}")
        time.sleep(0.02)


# Those that enqueue


def _rate(pipes: list[Connection], way: str, seconds: float) -> float:
    begin = time.monotonic() + 0.1 + WARM_SECONDS
    for pipe in pipes:
        pipe.send((way, begin, begin + seconds))
    counts: list[int] = [pipe.recv() for pipe in pipes]
    return sum(counts) / seconds


@contextlib.contextmanager
def _producers(dsn: str, insert: str) -> Iterator[list[Connection]]:
    with _children(_produce, [(dsn, insert)] * CLIENTS) as pipes:
        yield pipes


def _produce(dsn: str, insert: str, pipe: Connection) -> None:
    # As many parameters as the INSERT has, and the same code around them.
    call = f"select id from {SCHEMA}.enqueue(queue => %s, kind => %s, payload => %s::jsonb)"
    with Client(dsn, pool_size=1) as client, psycopg.connect(dsn, autocommit=True) as conn:

        def run(sql: str) -> None:
            conn.execute(sql.encode(), (QUEUE, "noop", json.dumps(PAYLOAD))).fetchone()

        ways: dict[str, Callable[[], object]] = {
            BARE: lambda: run(insert),
            CLIENT: lambda: client.enqueue("noop", PAYLOAD, queue=QUEUE),
            SQL: lambda: run(call),
        }
        client.stats()
        pipe.send("ready")
        while (order := pipe.recv()) is not None:
            way, begin, end = order
            pipe.send(_repeat(ways[way], begin, end))


def _repeat(act: Callable[[], object], begin: float, end: float) -> int:
    """How often it was done; a moment of CLOCK_MONOTONIC is the same in all processes."""
    time.sleep(max(0.0, begin - WARM_SECONDS - time.monotonic()))
    while time.monotonic() < begin:
        act()
    count = 0
    while time.monotonic() < end:
        act()
        count += 1
    return count


# Those that work


@contextlib.contextmanager
def _workers(dsn: str, count: int, pause: float) -> Iterator[None]:
    with _children(_work, [(dsn, pause)] * count):
        yield


def _work(dsn: str, pause: float, pipe: Connection) -> None:
    handlers = Handlers()

    async def handle(_: Job) -> None:
        if pause:
            await asyncio.sleep(pause)

    for kind in ("noop", "slow"):
        handlers.register(kind, queue=QUEUE)(handle)
    concurrency = BUSY_CONCURRENCY if pause else 100
    worker = Worker(dsn, handlers, concurrency=concurrency, shutdown_timeout=timedelta(seconds=5))

    async def main() -> None:
        running = asyncio.create_task(worker.run_async())
        pipe.send("ready")
        await asyncio.to_thread(pipe.recv)
        worker.stop()
        await running

    asyncio.run(main())


@contextlib.contextmanager
def _children(
    target: Callable[..., None], arguments: list[tuple[Any, ...]]
) -> Iterator[list[Connection]]:
    """Processes that say that they are ready, and end when they are sent None."""
    pipes, children = [], []
    try:
        for given in arguments:
            ours, theirs = SPAWN.Pipe()
            child = SPAWN.Process(target=target, args=(*given, theirs), daemon=True)
            child.start()
            theirs.close()  # so that a child that dies is noticed
            pipes.append(ours)
            children.append(child)
        for pipe in pipes:
            pipe.recv()
        yield pipes
    finally:
        for pipe in pipes:
            with contextlib.suppress(OSError):
                pipe.send(None)
        for child in children:
            child.join(15)
            child.kill()
