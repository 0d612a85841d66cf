"""A worker process as applications have them, whose every attempt stands in the ledger.

    PGQUEUE_DSN=... python -m tests.faults.harness.app FOLDER [--lease 1] [--also MODULE] ...

It runs what `work` makes: the kind `work` sleeps in a thread, `work.async` on the event loop. A
module given with `--also` adds handlers of its own: its `register(handlers)` is called.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from pgqueue import AttemptEnded, Constant, Handlers, Job, NewJob, Outcome, Worker

from .ledger import Ledger

RETRY = Constant(timedelta(milliseconds=100))
"""Hardly a backoff, so that recovery is the lease and what the queue adds to it."""
MANY = 1_000
"""Attempts: a job that is hit again and again must not die of it."""


def audited(ledger: Ledger) -> Handlers:
    """Handlers whose attempts are written to the ledger, however many are registered later."""
    handlers = Handlers()

    @handlers.middleware
    @contextmanager
    def write(job: Job[Any]) -> Iterator[None]:
        ledger.started(job)
        yield
        ledger.finished(job)

    @handlers.on_end
    def told(event: AttemptEnded) -> None:
        if event.outcome is Outcome.SUCCEEDED:
            ledger.acked(event.job.id, event.job.token)
        elif event.outcome is Outcome.LOST:
            ledger.refused(event.job.id, event.job.token)
        else:
            ledger.ended(event.job.id, event.job.token)

    return handlers


def work(ms: int = 0, *, kind: str = "work", queue: str = "default") -> NewJob:
    """A job that takes `ms` milliseconds. The policy for its attempts is stored with it."""
    return NewJob(kind, {"ms": ms}, queue=queue, retry=RETRY, max_attempts=MANY)


def add_work(handlers: Handlers) -> None:
    """The kinds that every scenario has."""

    @handlers.register("work")
    def sleep(job: Job[Any]) -> None:
        time.sleep(job.payload.get("ms", 0) / 1000)

    @handlers.register("work.async")
    async def sleep_async(job: Job[Any]) -> None:
        await asyncio.sleep(job.payload.get("ms", 0) / 1000)


def main() -> int:
    """Runs a worker until it is told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--also", action="append", default=[], metavar="MODULE")
    parser.add_argument("--queue", default="default")
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--prefetch", type=int)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--lease", type=float, default=1.0, help="seconds")
    parser.add_argument("--shutdown-timeout", type=float, default=5.0, help="seconds")
    parser.add_argument("--reply-timeout", type=float, default=60.0, help="seconds")
    parser.add_argument("--name")
    given = parser.parse_args()
    handlers = audited(Ledger(given.folder))
    add_work(handlers)
    for module in given.also:
        importlib.import_module(module).register(handlers)
    worker = Worker(
        None,
        handlers,
        queues=given.queue,
        concurrency=given.concurrency,
        prefetch=given.prefetch,
        processes=given.processes,
        lease=timedelta(seconds=given.lease),
        poll_interval=timedelta(seconds=0.2),
        shutdown_timeout=timedelta(seconds=given.shutdown_timeout),
        reply_timeout=timedelta(seconds=given.reply_timeout),
        name=given.name,
    )
    return worker.run()


if __name__ == "__main__":
    raise SystemExit(main())
