"""The jobs of a round, a mix as an app might have it, and the worker that runs them."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

from pgqueue import Client, Constant, Handlers, Job, NewJob, Snooze, Worker
from pgqueue.statements import Statements

QUEUE = "mix"
PAYLOAD: dict[str, Any] = {"to": "somebody@example.org", "subject": "welcome", "n": 1}
PRIORITIES = (1, 1, 2, 4, 8, 40, 20, 12, 8, 4)
"""The weights of 0 to 9."""
SCHEDULED, FAILING, SNOOZED, KEYED = 0.10, 0.05, 0.03, 0.10
"""Shares of the jobs. A job with a key is any other one besides."""
DELAY = (1.0, 3.0)
"""Seconds until a scheduled job is due, from and to: in the round, after the first drain."""
SHORT = timedelta(seconds=0.3)
"""The backoff of a fail, and a snooze."""


def jobs(count: int, seed: int) -> Iterator[NewJob]:
    """A round's. The same keys come back in each, since customers do."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    for number in range(count):
        share = chance.random()
        kind, delay, retry = "noop", None, None
        if share < SCHEDULED:
            delay = timedelta(seconds=chance.uniform(*DELAY))
        elif share < SCHEDULED + FAILING:
            kind, retry = "flaky", Constant(SHORT)
        elif share < SCHEDULED + FAILING + SNOOZED:
            kind = "sleepy"
        keyed = chance.random() < KEYED
        yield NewJob(
            kind,
            PAYLOAD,
            queue=QUEUE,
            priority=chance.choices(range(10), PRIORITIES)[0],
            delay=delay,
            retry=retry,
            dedupe_key=f"customer-{number}" if keyed else None,
            dedupe_until="start" if number % 2 else "finish",
        )


class Ran:
    """What the long-lived worker's handlers count."""

    def __init__(self) -> None:
        self.done = 0
        self._snoozed: set[int] = set()

    def handlers(self) -> Handlers:
        """One for each kind of the mix; all do nothing, some of them not at first."""
        handlers = Handlers()

        @handlers.register("noop", queue=QUEUE)
        async def noop(_: Job) -> None:
            self.done += 1

        @handlers.register("flaky", queue=QUEUE)
        async def flaky(job: Job) -> None:
            if job.attempt == 1:
                raise RuntimeError("not at first")
            self.done += 1

        @handlers.register("sleepy", queue=QUEUE)
        async def sleepy(job: Job) -> Snooze | None:
            if job.id not in self._snoozed:
                self._snoozed.add(job.id)
                return Snooze(SHORT)
            self.done += 1
            return None

        return handlers


def work(dsn: str, pipe: Connection) -> None:
    """A worker that stays. Told how many jobs are to be done in all, it answers when they are."""
    logging.getLogger("pgqueue.worker").setLevel(logging.ERROR)  # a line for each fail
    ran = Ran()
    worker = Worker(dsn, ran.handlers(), concurrency=100)

    def watch() -> None:
        pipe.send("ready")
        while (target := pipe.recv()) is not None:
            while ran.done < target:
                time.sleep(0.01)
            pipe.send(ran.done)
        worker.stop()

    threading.Thread(target=watch, daemon=True).start()
    worker.run()


def pick_up(dsn: str, pipe: Connection) -> None:
    """A worker that starts late: seconds from its first claim to the start of its first job."""
    sent: list[float] = []
    handlers = Handlers()
    claim = Statements.claim

    def noted(self: Statements, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        sent.append(time.monotonic())
        return claim(self, *args, **options)

    @handlers.register("late", queue=QUEUE)
    async def late(_: Job) -> None:
        pipe.send(time.monotonic() - sent[0])
        worker.stop()

    Statements.claim = noted  # type: ignore[method-assign]
    worker = Worker(dsn, handlers)
    worker.run()


def install(dsn: str) -> None:
    """The schema."""
    with Client(dsn) as client:
        client.migrate()
