"""Observers: what they are told, and that they can do no harm."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pgqueue import Client, ConfigurationError, Handlers, Job, Observer, Outcome, Worker
from pgqueue.events import Ended, Use

from .helpers import drain


class Notes(Observer):
    """Writes everything down."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.jobs: list[int] = []
        self.outcomes: Counter[str] = Counter()
        self.use: Use | None = None
        self.worker = ""

    def started(self, worker: str, use: Callable[[], Use]) -> None:
        """Looks how busy it is, too."""
        self.calls.append("started")
        self.worker, self.use = worker, use()

    def stopped(self) -> None:
        """The last."""
        self.calls.append("stopped")

    def claimed(self, jobs: Sequence[Job[Any]], seconds: float) -> None:
        """Of all claims, those without jobs, too."""
        assert seconds >= 0
        self.jobs += [job.id for job in jobs]

    def ended(self, outcome: Outcome, endings: Sequence[Ended]) -> None:
        """In batches."""
        self.outcomes[str(outcome)] += len(endings)
        assert all(ending.duration >= 0 for ending in endings)


def test_observer_hears_of_all_that_a_worker_does(client: Client, handlers: Handlers) -> None:
    """From its start to its end: each claim, and each ending once, by outcome."""
    notes = Notes()

    @handlers.register("a")
    def handler(job: Job[Any]) -> None:
        if job.payload % 3 == 0:
            raise ValueError

    ids = [client.enqueue("a", n, max_attempts=1).id for n in range(9)]
    drain(client, handlers, observers=[notes], concurrency=2)
    assert (notes.calls[0], notes.calls[-1]) == ("started", "stopped")
    assert sorted(notes.jobs) == ids
    assert notes.outcomes == {"succeeded": 6, "dead": 3}
    assert notes.worker.endswith(f":{os.getpid()}")
    assert notes.use is not None
    (pool,) = notes.use.pools
    assert (pool.pool, pool.size, pool.busy, notes.use.held) == ("sync", 2, 0, 0)


def test_observer_that_fails_does_no_harm(
    client: Client, handlers: Handlers, caplog: pytest.LogCaptureFixture
) -> None:
    """The others hear all the same; the log has one error, and no payload."""

    class Bad(Notes):
        def ended(self, _: Outcome, endings: Sequence[Ended]) -> None:
            raise RuntimeError(endings[0].job.payload)

        def claimed(self, *_: Any) -> None:
            raise RuntimeError

    good = Notes()
    handlers.register("a")(lambda _: None)
    client.enqueue_many([("a", "canary-77")] * 5)
    assert drain(client, handlers, observers=[Bad(), good]) == 0
    assert good.outcomes == {"succeeded": 5}
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert "observer" in record.getMessage()
    assert "canary-77" not in caplog.text


def test_what_is_no_observer_is_refused(client: Client, handlers: Handlers) -> None:
    """At once, with what to pass."""
    handlers.register("a")(lambda _: None)
    with pytest.raises(ConfigurationError, match=r"pgqueue\.Observer"):
        Worker(client, handlers, observers=[print])  # type: ignore[list-item]
