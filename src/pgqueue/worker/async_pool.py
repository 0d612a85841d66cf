"""Runs async handlers, in tasks on the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import logging
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

logger = logging.getLogger("pgqueue.worker")

YIELD_AFTER = 0.004
"""Seconds for which handlers that never wait may keep the event loop."""


class AsyncPool(Pool):
    """Up to `size` tasks that take jobs from the buffer, started when they are needed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - those of Pool
        super().__init__(*args, **kwargs)
        self._buffer: deque[Unit] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: dict[asyncio.Task[Any], Unit] = {}
        self._causes: dict[asyncio.Task[Any], Outcome | TimedOut] = {}
        self._context = contextvars.copy_context()
        self._yielded_at = 0.0
        self._closing = False

    def feed(self, jobs: Sequence[Job[Any]]) -> None:
        """See `Pool`."""
        units = self._units(jobs)
        self._buffer.extend(units)
        self.waiting += len(jobs)
        for _ in units:
            if not self._wake_one():
                break
        for _ in range(min(len(self._buffer), self.size - len(self._tasks))):
            self._start_one()

    def take_back(self) -> list[Job[Any]]:
        """See `Pool`."""
        jobs = [job for unit in self._buffer for job in unit]
        self._buffer.clear()
        self.waiting = 0
        return jobs

    def stop(self, job: Job[Any], outcome: Outcome) -> None:
        """See `Pool`: cancels the task. One job of a batch cannot be stopped alone."""
        for task, unit in self._running.items():
            if unit == [job]:
                self._cancel(task, outcome)

    def stop_all(self) -> None:
        """See `Pool`."""
        for task in self._running:
            self._cancel(task, Outcome.RELEASED)

    def running_jobs(self) -> list[Job[Any]]:
        """See `Pool`."""
        return [job for unit in self._running.values() for job in unit]

    def close(self) -> None:
        """See `Pool`."""
        self._closing = True
        for unit in self._running.values():
            self._report(stopped(unit, Outcome.RELEASED, 0.0))
        for task in self._tasks:
            task.cancel()

    def _cancel(self, task: asyncio.Task[Any], cause: Outcome | TimedOut) -> None:
        # Shutdown comes last, and asks once more a handler that ignored an earlier request.
        if task not in self._causes or cause is Outcome.RELEASED:
            self._causes.setdefault(task, cause)
            task.cancel()

    def _time_out(self, task: asyncio.Task[Any], kind: Kind[Any]) -> None:
        self._cancel(task, TimedOut(kind))

    def _start_one(self) -> None:
        # A task takes a copy of the context, so each starts from the one that the pool was made in.
        task = self._context.run(asyncio.get_running_loop().create_task, self._consume())
        self._tasks.add(task)
        task.add_done_callback(self._gone)

    def _gone(self, task: asyncio.Task[None]) -> None:
        """A consumer has ended: its place must not stay empty."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error(
                "a consumer of async handlers died; another takes over: %s",
                self._handlers.trace(error),
            )
        if self._buffer and not self._closing:
            self._start_one()
        self._tell_if_low()

    def _wake_one(self) -> bool:
        while self._idle:
            future = self._idle.popleft()
            if not future.done():
                future.set_result(None)
                return True
        return False

    async def _consume(self) -> None:
        """Runs one unit after the other, until it was cancelled or a handler left its mark."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - we are in one
        while not self._closing:
            if not self._buffer:
                self._tell_if_low()
                future = loop.create_future()
                self._idle.append(future)
                await future
                continue
            unit = self._buffer.popleft()
            self.waiting -= len(unit)
            if self._low is not None:
                self._tell_if_low()
            unit = self._wanted(unit)
            if unit and not await self._run(task, unit):
                return
            if time.monotonic() - self._yielded_at > YIELD_AFTER:
                await asyncio.sleep(0)
                self._yielded_at = time.monotonic()

    def _tell_if_low(self) -> None:
        if self._low is not None and self.waiting <= self._low:
            self._low = None
            self.on_room()

    async def _run(self, task: asyncio.Task[Any], unit: Unit) -> bool:
        """Runs one unit; false if this task should not run another."""
        kind = self._by_name[unit[0].kind]
        self.busy += 1
        self._running[task] = unit
        timer = None
        if kind.timeout is not None:
            seconds = kind.timeout.total_seconds()
            timer = task.get_loop().call_later(seconds, self._time_out, task, kind)
        started = time.perf_counter()
        try:
            endings = await runner.arun(self._handlers, kind, unit)
        except asyncio.CancelledError as error:
            endings = self._cancelled(task, unit, error, time.perf_counter() - started)
        finally:
            if timer is not None:
                timer.cancel()
            self.busy -= 1
            del self._running[task]
            cause = self._causes.pop(task, None) if self._causes else None
        if cause is not None and cause is not Outcome.CANCELLED:
            # What a handler returned after it was told to stop may be half of the work. (One whose
            # job was cancelled ends as it sees fit.)
            endings = stopped(unit, cause, time.perf_counter() - started)
        self.finished += len(unit)
        self._report(endings)
        # Cancelled, it may be so again at its next step; and what a handler left in the
        # context would be seen by the next one.
        return cause is None and not _is_cancelling(task) and self._is_clean()

    def _cancelled(
        self, task: asyncio.Task[Any], unit: Unit, error: BaseException, seconds: float
    ) -> list[Ending]:
        cause = self._causes.get(task)
        if cause is not None:
            return stopped(unit, cause, seconds)
        if self._closing:
            return stopped(unit, Outcome.RELEASED, seconds)
        # Not by us: the handler awaited something that was cancelled, or cancelled itself.
        endings = runner.failed(unit, error)
        for ending in endings:
            ending.duration = seconds
        return endings

    def _is_clean(self) -> bool:
        try:
            return contextvars.copy_context() == self._context
        except Exception:  # noqa: BLE001 - some value's __eq__
            return False


def _cannot_tell(_: asyncio.Task[Any]) -> int:
    return 0


# How many cancellations of a task are open, as far as this Python can tell (3.10 cannot).
_is_cancelling: Callable[[asyncio.Task[Any]], int] = getattr(
    asyncio.Task, "cancelling", _cannot_tell
)
