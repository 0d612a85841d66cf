"""What the two pools have in common: async handlers run in one, sync ones in the other.

A pool holds claimed jobs in a buffer, runs up to `size` handlers at once, and says when it runs
low. A consumer takes the next unit from the buffer itself: no task, future or queue is made per
job.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeAlias

from pgqueue.events import Outcome
from pgqueue.worker.runner import Ending

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pgqueue.handlers import Handlers, Kind
    from pgqueue.models import Job

Unit: TypeAlias = "list[Job[Any]]"
"""What one call of a handler takes: one job, or a batch of one kind."""


class TimedOut(TimeoutError):
    """The attempt took longer than the kind's timeout."""

    def __init__(self, kind: Kind[Any]) -> None:
        super().__init__(f"the attempt took longer than the timeout of {kind.name}, {kind.timeout}")


class Pool(ABC):
    """The base of both pools."""

    def __init__(
        self,
        handlers: Handlers,
        kinds: Sequence[Kind[Any]],
        size: int,
        report: Callable[[list[Ending]], None],
        unwanted: Callable[[Job[Any]], Outcome | None],
    ) -> None:
        """`report` takes endings; `unwanted` tells how a job that should not go on is to end."""
        self.kinds = kinds
        self.size = size
        """Units that run at once."""
        self.waiting = 0
        """Jobs in the buffer."""
        self.busy = 0
        """Units that run."""
        self.finished = 0
        """Jobs ended since the start."""
        self.on_room: Callable[[], None] = _nothing
        """Called on the event loop, once after each `call_when_low`."""
        self._handlers = handlers
        self._by_name = {kind.name: kind for kind in kinds}
        self._report = report
        self._unwanted = unwanted
        self._low: int | None = None

    def call_when_low(self, waiting: int) -> None:
        """Asks for one call of `on_room` once no more than `waiting` jobs wait for their turn."""
        self._low = waiting

    @abstractmethod
    def feed(self, jobs: Sequence[Job[Any]]) -> None:
        """Adds claimed jobs to the buffer."""

    @abstractmethod
    def take_back(self) -> list[Job[Any]]:
        """Empties the buffer: jobs that have not been started."""

    @abstractmethod
    def stop(self, job: Job[Any], outcome: Outcome) -> None:
        """Asks the handler of a running job to stop, if it can be asked."""

    @abstractmethod
    def stop_all(self) -> None:
        """Asks all running handlers to stop, since the worker ends; their jobs are released."""

    @abstractmethod
    def running_jobs(self) -> list[Job[Any]]:
        """The jobs that run now."""

    @abstractmethod
    def close(self) -> None:
        """Ends the consumers. What still runs is released, and left to itself."""

    def _units(self, jobs: Sequence[Job[Any]]) -> list[Unit]:
        """Jobs as calls: those of batch kinds grouped, up to the kind's batch size."""
        made: list[Unit] = []
        open_units: dict[str, Unit] = {}
        for job in jobs:
            batch = self._by_name[job.kind].batch
            if batch is None:
                made.append([job])
                continue
            unit = open_units.get(job.kind)
            if unit is None or len(unit) >= batch:
                unit = open_units[job.kind] = []
                made.append(unit)
            unit.append(job)
        return made

    def _wanted(self, unit: Unit) -> Unit:
        """Those of `unit` that are still to be run; the others were lost or cancelled meanwhile."""
        if len(unit) == 1 and self._unwanted(unit[0]) is None:
            return unit
        stopped = [(job, outcome) for job in unit if (outcome := self._unwanted(job)) is not None]
        if not stopped:
            return unit
        self._report([Ending(job, outcome) for job, outcome in stopped])
        gone = {job for job, _ in stopped}
        return [job for job in unit if job not in gone]


def stopped(unit: Unit, cause: Outcome | TimedOut, seconds: float) -> list[Ending]:
    """The endings of jobs whose handler was stopped after `seconds`."""
    if isinstance(cause, TimedOut):
        return [Ending(job, Outcome.FAILED, error=cause, duration=seconds) for job in unit]
    return [Ending(job, cause, duration=seconds) for job in unit]


def _nothing() -> None:
    """Nobody waits for room yet."""
