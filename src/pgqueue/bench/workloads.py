"""pgqueue's side of each measure. Most run in processes of their own, and take plain values."""

from __future__ import annotations

import json
import multiprocessing
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pgqueue.bench.bare import PAYLOAD
from pgqueue.client import Client
from pgqueue.handlers import Handlers
from pgqueue.worker import Worker

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from pgqueue.models import Job

QUEUE = "bench"
_payload = json.loads(PAYLOAD)
handlers = Handlers()
sync_handlers = Handlers()
latency_handlers = Handlers()


@handlers.register("noop", queue=QUEUE)
async def _noop(job: Job[object]) -> None:
    """Nothing, on the event loop."""


@sync_handlers.register("noop", queue=QUEUE)
def _noop_in_thread(job: Job[object]) -> None:
    """Nothing, in a thread."""


@latency_handlers.register("ping", queue=QUEUE)
async def _ping(job: Job[Any]) -> float:
    """The seconds since the job was sent, by this machine's clock."""
    sent_at: float = job.payload["sent_at"]
    return time.time() - sent_at


def fill(client: Client, count: int) -> float:
    """Seconds to enqueue `count` jobs in bulk."""
    started = time.perf_counter()
    client.enqueue_many((("noop", _payload) for _ in range(count)), queue=QUEUE)
    return time.perf_counter() - started


def enqueue_one_by_one(client: Client, count: int) -> float:
    """Seconds for `count` enqueues, each its own transaction."""
    started = time.perf_counter()
    for _ in range(count):
        client.enqueue("noop", _payload, queue=QUEUE)
    return time.perf_counter() - started


def claim_and_ack(dsn: str, schema: str, batch: int, ready: Connection | None) -> None:
    """Drains the queue by claim and ack; sends when it started and ended, and how many it did."""
    with Client(dsn, schema=schema, pool_size=1) as client:
        client.claim("nothing")
        if ready is not None:
            ready.send("ready")
            ready.recv()
        done = 0
        started = time.time()
        while jobs := client.claim(QUEUE, limit=batch):
            client.ack(jobs)
            done += len(jobs)
        if ready is not None:
            ready.send((started, time.time(), done))


def claim_and_ack_with(dsn: str, schema: str, batch: int, clients: int) -> tuple[int, float]:
    """The same in several processes: the jobs of all, the seconds from first start to last end."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for _ in range(clients):
        ours, theirs = context.Pipe()
        process = context.Process(
            target=claim_and_ack, args=(dsn, schema, batch, theirs), daemon=True
        )
        process.start()
        theirs.close()  # so that a child that dies is noticed
        pipes.append(ours)
        processes.append(process)
    for pipe in pipes:
        pipe.recv()
    for pipe in pipes:
        pipe.send("go")
    results = [pipe.recv() for pipe in pipes]
    for process in processes:
        process.join()
    started = min(result[0] for result in results)
    ended = max(result[1] for result in results)
    return sum(result[2] for result in results), ended - started


def _work(dsn: str, schema: str, sync: bool, ready: Connection) -> None:  # noqa: FBT001 - a process's target
    chosen = sync_handlers if sync else handlers
    worker = Worker(dsn, chosen, schema=schema, queues=QUEUE, concurrency=100)
    ready.send("ready")
    ready.recv()
    started = time.time()
    worker.run(until_idle=True)
    ready.send((started, time.time()))


def drain(dsn: str, schema: str, processes: int, *, sync: bool = False) -> float:
    """Seconds in which worker processes drain the queue, from the first start to the last end."""
    context = multiprocessing.get_context("spawn")
    pipes, children = [], []
    for _ in range(processes):
        ours, theirs = context.Pipe()
        child = context.Process(target=_work, args=(dsn, schema, sync, theirs), daemon=True)
        child.start()
        theirs.close()
        pipes.append(ours)
        children.append(child)
    for pipe in pipes:
        pipe.recv()
    for pipe in pipes:
        pipe.send("go")
    times: list[tuple[float, float]] = [pipe.recv() for pipe in pipes]
    for child in children:
        child.join()
    return max(end for _, end in times) - min(start for start, _ in times)


def _serve(dsn: str, schema: str) -> None:
    Worker(dsn, latency_handlers, schema=schema, queues=QUEUE, concurrency=20).run()


def latencies(client: Client, count: int, per_second: float) -> list[float]:
    """Seconds from just before enqueue to the handler's start, at an even rate."""
    child = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(client.dsn, client.schema), daemon=True
    )
    child.start()
    try:
        first = client.enqueue("ping", {"sent_at": time.time()}, queue=QUEUE)
        client.wait(first.id, timeout=timedelta(seconds=30))
        ids = []
        begin = time.perf_counter()
        for number in range(count):
            pause = begin + number / per_second - time.perf_counter()
            if pause > 0:
                time.sleep(pause)
            ids.append(client.enqueue("ping", {"sent_at": time.time()}, queue=QUEUE).id)
        return [client.wait(job_id, timeout=timedelta(seconds=30)).result for job_id in ids]
    finally:
        child.terminate()
        child.join(30)
