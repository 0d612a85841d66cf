"""Runs sync handlers, in threads.

Threads cannot be stopped: a handler that is timed out, cancelled or fenced goes on until it returns
(its `job.cancel_requested` is true meanwhile), and what it returns then is ignored.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from pgqueue.events import Outcome
from pgqueue.worker import runner
from pgqueue.worker.pool import Pool, TimedOut, Unit, stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pgqueue.handlers import Kind
    from pgqueue.models import Job
    from pgqueue.worker.runner import Ending

FINEST, COARSEST = 0.01, 0.5
"""Seconds between two looks for handlers whose time is up; a tenth of the shortest timeout, within
these."""


class ThreadPool(Pool):
    """Up to `size` threads that take jobs from the buffer, started when they are needed.

    `feed`, `take_back`, `stop` and `close` belong to the event loop. The lock makes one step of
    taking a unit and counting it, so that no unit is ever neither waiting nor running.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - those of Pool
        super().__init__(*args, **kwargs)
        self._buffer: deque[Unit] = deque()
        self._lock = threading.Lock()
        # One token for each unit in the buffer; more after units were taken back, which does no
        # harm.
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._running: dict[threading.Thread, tuple[Unit, float]] = {}
        self._context = contextvars.copy_context()
        self._loop = asyncio.get_running_loop()
        timeouts = [kind.timeout.total_seconds() for kind in self.kinds if kind.timeout]
        self._look_every = min(max(min(timeouts, default=0.0) / 10, FINEST), COARSEST)
        self._looking = not timeouts
        self._stopping = False
        self._closing = False

    def feed(self, jobs: Sequence[Job[Any]]) -> None:
        """See `Pool`."""
        units = self._units(jobs)
        with self._lock:
            self._buffer.extend(units)
            self.waiting += len(jobs)
        for _ in units:
            self._tokens.put(None)
        for _ in range(min(len(units), self.size - len(self._threads))):
            name = f"pgqueue-handler-{len(self._threads) + 1}"
            thread = threading.Thread(target=self._consume, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        if not self._looking:
            self._looking = True
            self._loop.call_later(self._look_every, self._look_for_timeouts)

    def take_back(self) -> list[Job[Any]]:
        """See `Pool`."""
        with self._lock:
            jobs = [job for unit in self._buffer for job in unit]
            self._buffer.clear()
            self.waiting = 0
        return jobs

    def stop(self, job: Job[Any], outcome: Outcome) -> None:
        """See `Pool`: the handler may look at `job.cancel_requested`."""
        if outcome is not Outcome.CANCELLED:  # which the handler may heed, and end as it sees fit
            self._report(stopped([job], outcome, 0.0))

    def stop_all(self) -> None:
        """See `Pool`: nothing more can be done than to let them look."""
        self._stopping = True

    def running_jobs(self) -> list[Job[Any]]:
        """See `Pool`."""
        with self._lock:
            return [job for unit, _ in self._running.values() for job in unit]

    def close(self) -> None:
        """See `Pool`: threads whose handlers go on end with the process."""
        self._closing = True
        for _ in self._threads:
            self._tokens.put(None)
        if running := self.running_jobs():
            self._report(stopped(running, Outcome.RELEASED, 0.0))

    def _consume(self) -> None:
        thread = threading.current_thread()
        while True:
            self._tokens.get()
            if self._closing:
                return
            unit = self._take(thread)
            if unit is not None:
                # Reported before it counts as finished, so that nobody closes the books in between.
                if endings := self._run(unit):
                    self._report(endings)
                with self._lock:
                    self.busy -= 1
                    self.finished += len(unit)
                    del self._running[thread]
                    low = self._is_low()
                if low:
                    self._call_loop(self.on_room)

    def _take(self, thread: threading.Thread) -> Unit | None:
        with self._lock:
            if not self._buffer:
                return None
            unit = self._buffer.popleft()
            self.waiting -= len(unit)
            self.busy += 1
            self._running[thread] = (unit, time.monotonic())
            low = self._is_low()
        if low:
            self._call_loop(self.on_room)
        return unit

    def _is_low(self) -> bool:
        if self._low is None or self.waiting > self._low:
            return False
        self._low = None
        return True

    def _run(self, unit: Unit) -> list[Ending]:
        wanted = self._wanted(unit)
        if not wanted:
            return []
        kind = self._by_name[wanted[0].kind]
        try:
            endings = self._context.copy().run(runner.run, self._handlers, kind, wanted)
        except BaseException as error:  # noqa: BLE001 - nothing may end this thread
            endings = runner.failed(wanted, error)
        if self._stopping:
            for ending in endings:
                if self._unwanted(ending.job) is Outcome.RELEASED:
                    # Told to stop because the worker ends: what it did may be half of the work.
                    ending.outcome = Outcome.RELEASED
        return endings

    def _look_for_timeouts(self) -> None:
        now = time.monotonic()
        with self._lock:
            running = list(self._running.values())
            self._looking = bool(running or self._buffer) and not self._closing
        for unit, started in running:
            kind: Kind[Any] = self._by_name[unit[0].kind]
            if kind.timeout is not None and now - started >= kind.timeout.total_seconds():
                # Reported again and again while the handler goes on; only the first one counts.
                self._report(stopped(unit, TimedOut(kind), now - started))
        if self._looking:
            self._loop.call_later(self._look_every, self._look_for_timeouts)

    def _call_loop(self, callback: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(callback)
