"""Threads that enqueue at a steady rate, whatever becomes of their connections."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

import attrs

from pgqueue import Client, Constant, DatabaseUnavailable

if TYPE_CHECKING:
    from typing_extensions import Self

RETRY = Constant(timedelta(milliseconds=100))
MANY = 1_000
"""Attempts, as in the app."""
LONG, LONG_SHARE = 50, 0.02
"""So much longer are a few of the jobs: their leases are renewed meanwhile."""
SOON = 0.02
"""Seconds before an enqueue that failed is tried again."""


class Accepting(Protocol):
    """A ledger, for one."""

    def accepted(self, ids: Iterable[int]) -> None:
        """The enqueue of these jobs has returned."""


@attrs.define(eq=False)
class Producers:
    """Makes jobs at a steady rate. An enqueue that failed may be stored all the same."""

    client: Client
    ledger: Accepting
    rng: random.Random
    per_second: float
    threads: int = 3
    longest_ms: int = 10
    longest: float = 0.0
    """Seconds that one call took at most, whatever came of it."""
    _told: Counter[str] = attrs.field(factory=Counter, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)
    _over: threading.Event = attrs.field(factory=threading.Event, init=False)
    _running: list[threading.Thread] = attrs.field(factory=list, init=False)
    _errors: list[BaseException] = attrs.field(factory=list, init=False)

    def __enter__(self) -> Self:
        for _ in range(self.threads):
            seed = self.rng.random()
            self._running.append(threading.Thread(target=self._run, args=[seed], daemon=True))
        for thread in self._running:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def accepted(self) -> int:
        """Enqueues that have returned."""
        self.check()
        return self._told["accepted"]

    @property
    def failed(self) -> int:
        """Enqueues that have raised `DatabaseUnavailable`."""
        return self._told["failed"]

    def check(self) -> None:
        """Raises what ended a thread, if anything did."""
        if self._errors:
            raise self._errors[0]

    def stop(self) -> None:
        """Ends the threads, after the enqueue under way."""
        self._over.set()
        for thread in self._running:
            thread.join(60)
            assert not thread.is_alive(), "an enqueue does not return"
        self.check()

    def _run(self, seed: float) -> None:
        rng = random.Random(seed)  # noqa: S311 - replayable
        try:
            self._produce(rng)
        except BaseException as error:  # noqa: BLE001 - told by `check`
            self._errors.append(error)

    def _produce(self, rng: random.Random) -> None:
        pause = self.threads / self.per_second
        due = time.monotonic()
        while not self._over.is_set():
            kind = rng.choice(("work", "work.async"))
            ms = rng.randrange(self.longest_ms + 1)
            payload = {"ms": LONG * ms if rng.random() < LONG_SHARE else ms}
            began = time.monotonic()
            try:
                job = self.client.enqueue(kind, payload, retry=RETRY, max_attempts=MANY)
                self.ledger.accepted([job.id])
                told = "accepted"
            except DatabaseUnavailable:
                told = "failed"
            now = time.monotonic()
            with self._lock:
                self._told[told] += 1
                self.longest = max(self.longest, now - began)
            # What an outage held up is not made up for all at once.
            due = max(due + pause, now - 0.2)
            self._over.wait(SOON if told == "failed" else max(due - now, 0))
