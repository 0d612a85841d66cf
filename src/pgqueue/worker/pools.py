"""Where handlers run: async ones in tasks on the event loop, sync ones in threads.

A pool holds claimed jobs in a buffer, runs up to `size` of them at once, and says for how many more there is
room. A consumer takes the next job from the buffer itself: no task, future or queue is made per job.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from pgqueue.events import Outcome
from pgqueue.worker import runner
from pgqueue.worker.runner import Ending

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pgqueue.handlers import Handlers, Kind
    from pgqueue.models import Job

Unit: TypeAlias = "list[Job[Any]]"
"""What one call of a handler takes: one job, or a batch of one kind."""

YIELD_AFTER = 0.004
"""Seconds for which handlers that never wait may keep the event loop."""


class TimedOut(TimeoutError):
    """The attempt took longer than the kind's timeout."""


class Pool(Protocol):
    """What the claim loop needs of either pool."""

    kinds: list[Kind[Any]]
    size: int
    """Units that run at once."""
    waiting: int
    """Jobs in the buffer."""
    running: int
    """Jobs that run."""
    finished: int
    """Jobs ended since the start."""
    on_room: Callable[[], None]
    """Called on the event loop when the buffer runs low."""

    def feed(self, jobs: Sequence[Job[Any]]) -> None:
        """Adds claimed jobs to the buffer."""

    def take_back(self) -> list[Job[Any]]:
        """Empties the buffer: jobs that have not been started."""

    def stop(self, job: Job[Any], outcome: Outcome) -> None:
        """Asks the handler of a running job to stop; it ends with `outcome`."""

    def running_jobs(self) -> list[Job[Any]]:
        """The jobs that run now."""

    async def close(self) -> None:
        """Ends the consumers once they are idle."""


def units(kinds: dict[str, Kind[Any]], jobs: Sequence[Job[Any]]) -> list[Unit]:
    """Jobs as calls: those of batch kinds grouped, up to the kind's batch size."""
    made: list[Unit] = []
    open_units: dict[str, Unit] = {}
    for job in jobs:
        batch = kinds[job.kind].batch
        if batch is None:
            made.append([job])
            continue
        unit = open_units.get(job.kind)
        if unit is None or len(unit) >= batch:
            unit = open_units[job.kind] = []
            made.append(unit)
        unit.append(job)
    return made


class AsyncPool:
    """Runs async handlers: `size` tasks that take jobs from the buffer, started when they are needed."""

    def __init__(
        self,
        handlers: Handlers,
        kinds: list[Kind[Any]],
        size: int,
        report: Callable[[list[Ending]], None],
        unwanted: Callable[[Job[Any]], bool],
    ) -> None:
        """`unwanted` tells of a job whose turn has come whether it was lost or cancelled while it waited."""
        self.kinds = kinds
        self.size = size
        self.waiting = 0
        self.running = 0
        self.finished = 0
        self.on_room: Callable[[], None] = _nothing
        self._handlers = handlers
        self._by_name = {kind.name: kind for kind in kinds}
        self._report = report
        self._unwanted = unwanted
        self._buffer: deque[Unit] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._current: dict[int, tuple[asyncio.Task[None], Unit]] = {}
        self._causes: dict[asyncio.Task[Any], Outcome | TimedOut] = {}
        self._yielded_at = 0.0

    def feed(self, jobs: Sequence[Job[Any]]) -> None:
        """See `Pool`."""
        made = units(self._by_name, jobs)
        self._buffer.extend(made)
        self.waiting += len(jobs)
        for _ in made:
            if not self._wake_one():
                break
        for _ in range(min(len(self._buffer), self.size - len(self._tasks))):
            task = asyncio.get_running_loop().create_task(self._consume())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def take_back(self) -> list[Job[Any]]:
        """See `Pool`."""
        jobs = [job for unit in self._buffer for job in unit]
        self._buffer.clear()
        self.waiting = 0
        return jobs

    def stop(self, job: Job[Any], outcome: Outcome) -> None:
        """See `Pool`: cancels the task."""
        current = self._current.get(job.id)
        if current is None or current[0] in self._causes:
            return
        # One job of a batch cannot be stopped alone.
        if len(current[1]) == 1 or outcome is Outcome.RELEASED:
            self._causes[current[0]] = outcome
            current[0].cancel()

    def running_jobs(self) -> list[Job[Any]]:
        """See `Pool`."""
        return [job for _, unit in list(self._current.values()) for job in unit]

    async def close(self) -> None:
        """See `Pool`."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _wake_one(self) -> bool:
        while self._idle:
            future = self._idle.popleft()
            if not future.done():
                future.set_result(None)
                return True
        return False

    async def _consume(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._buffer:
                future = loop.create_future()
                self._idle.append(future)
                await future
                continue
            unit = self._buffer.popleft()
            self.waiting -= len(unit)
            if self.waiting == 0 or self.waiting == self.size:
                self.on_room()
            unit = [job for job in unit if not self._unwanted(job)]
            if unit:
                await self._run(unit)
            if time.monotonic() - self._yielded_at > YIELD_AFTER:
                await asyncio.sleep(0)
                self._yielded_at = time.monotonic()

    async def _run(self, unit: Unit) -> None:
        kind = self._by_name[unit[0].kind]
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - we are in one
        self.running += len(unit)
        self._current[unit[0].id] = (task, unit)
        timer = None
        if kind.timeout is not None:
            seconds = kind.timeout.total_seconds()
            timer = asyncio.get_running_loop().call_later(seconds, self._time_out, task, seconds)
        started = time.perf_counter()
        try:
            endings = await runner.arun(self._handlers, kind, unit)
        except asyncio.CancelledError:
            cause = self._causes.pop(task, None)
            if cause is None:
                raise
            endings = _stopped(unit, cause, time.perf_counter() - started)
            if hasattr(task, "uncancel"):
                task.uncancel()
        finally:
            if timer is not None:
                timer.cancel()
            self._causes.pop(task, None)
            self.running -= len(unit)
            self._current.pop(unit[0].id, None)
        self.finished += len(unit)
        self._report(endings)

    def _time_out(self, task: asyncio.Task[Any], seconds: float) -> None:
        if task not in self._causes:
            self._causes[task] = TimedOut(f"the attempt took longer than its timeout of {seconds:g} s")
            task.cancel()


class ThreadPool:
    """Runs sync handlers: up to `size` threads that take jobs from the buffer, started when they are needed.

    Threads cannot be stopped: a handler that is timed out, cancelled or fenced goes on until it returns (its
    `job.cancel_requested` is true meanwhile), and what it returns then is ignored.
    """

    def __init__(
        self,
        handlers: Handlers,
        kinds: list[Kind[Any]],
        size: int,
        report: Callable[[list[Ending]], None],
        unwanted: Callable[[Job[Any]], bool],
    ) -> None:
        """`report` and `unwanted` are called in the pool's threads."""
        self.kinds = kinds
        self.size = size
        self.on_room: Callable[[], None] = _nothing
        self._handlers = handlers
        self._by_name = {kind.name: kind for kind in kinds}
        self._report = report
        self._unwanted = unwanted
        self._buffer: queue.SimpleQueue[Unit | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._current: dict[threading.Thread, Unit] = {}
        self._loop = asyncio.get_running_loop()
        self._fed = 0
        self._lock = threading.Lock()
        self._taken = 0
        self._finished = 0

    @property
    def waiting(self) -> int:
        """See `Pool`."""
        return self._fed - self._taken

    @property
    def running(self) -> int:
        """See `Pool`."""
        return self._taken - self._finished

    @property
    def finished(self) -> int:
        """See `Pool`."""
        return self._finished

    def feed(self, jobs: Sequence[Job[Any]]) -> None:
        """See `Pool`."""
        with self._lock:
            self._fed += len(jobs)
        for unit in units(self._by_name, jobs):
            self._buffer.put(unit)
        for _ in range(min(len(jobs), self.size - len(self._threads))):
            name = f"pgqueue-handler-{len(self._threads) + 1}"
            thread = threading.Thread(target=self._consume, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def take_back(self) -> list[Job[Any]]:
        """See `Pool`."""
        jobs = []
        with contextlib.suppress(queue.Empty):
            while True:
                unit = self._buffer.get_nowait()
                if unit is not None:
                    jobs.extend(unit)
        with self._lock:
            self._fed -= len(jobs)
        return jobs

    def stop(self, job: Job[Any], outcome: Outcome) -> None:
        """See `Pool`: the handler cannot be stopped, but the attempt is over for us."""
        if outcome is not Outcome.CANCELLED:
            # A cancelled handler may still heed the request and end as it sees fit.
            self._report([Ending(job, outcome)])

    def running_jobs(self) -> list[Job[Any]]:
        """See `Pool`."""
        return [job for unit in list(self._current.values()) for job in unit]

    async def close(self) -> None:
        """See `Pool`; threads whose handlers go on are left behind (they are daemons)."""
        for _ in self._threads:
            self._buffer.put(None)

    def _consume(self) -> None:
        thread = threading.current_thread()
        while (unit := self._buffer.get()) is not None:
            kind = self._by_name[unit[0].kind]
            with self._lock:
                self._taken += len(unit)
                low = self._fed - self._taken in (0, self.size)
            if low:
                self._call_loop(self.on_room)
            wanted = [job for job in unit if not self._unwanted(job)]
            if wanted:
                self._current[thread] = wanted
                timer = _Timer(self, wanted, kind) if kind.timeout is not None else None
                endings = runner.run(self._handlers, kind, wanted)
                if timer is not None:
                    timer.cancel()
                self._current.pop(thread, None)
                self._report(endings)
            with self._lock:
                self._finished += len(unit)

    def _call_loop(self, callback: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(callback)

    def time_out(self, unit: Unit, seconds: float) -> None:
        """Ends the attempts of `unit` while their handler goes on."""
        error = TimedOut(f"the attempt took longer than its timeout of {seconds:g} s")
        self._report(_stopped(unit, error, seconds))


class _Timer:
    """A timer on the event loop for a handler in a thread."""

    def __init__(self, pool: ThreadPool, unit: Unit, kind: Kind[Any]) -> None:
        assert kind.timeout is not None  # noqa: S101 - the caller looked
        self._seconds = kind.timeout.total_seconds()
        self._pool = pool
        self._unit = unit
        self._done = False
        self._handle: asyncio.TimerHandle | None = None
        pool._call_loop(self._start)  # noqa: SLF001 - its own timer

    def _start(self) -> None:
        if not self._done:
            self._handle = asyncio.get_running_loop().call_later(self._seconds, self._expire)

    def _expire(self) -> None:
        if not self._done:
            self._pool.time_out(self._unit, self._seconds)

    def cancel(self) -> None:
        """Forgets the timer; from the handler's thread."""
        self._done = True
        if self._handle is not None:
            self._pool._call_loop(self._handle.cancel)  # noqa: SLF001


def _stopped(unit: Unit, cause: Outcome | TimedOut, duration: float) -> list[Ending]:
    if isinstance(cause, TimedOut):
        return [Ending(job, Outcome.FAILED, error=cause, duration=duration) for job in unit]
    return [Ending(job, cause, duration=duration) for job in unit]


def _nothing() -> None:
    """Nobody waits for room yet."""
