"""What a worker tells those who observe it."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager
    from datetime import timedelta

    from pgqueue.jsontext import Json
    from pgqueue.models import Job, NewJob


class Outcome(str, Enum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """It will be tried again."""
    DEAD = "dead"
    """It failed, and was the last attempt."""
    SKIPPED = "skipped"
    SNOOZED = "snoozed"
    CANCELLED = "cancelled"
    RELEASED = "released"
    """Given back when the worker stopped; not counted."""
    LOST = "lost"
    """The lease was lost while it ran: what the handler did may happen again elsewhere."""

    def __str__(self) -> str:
        return self.value


@attrs.frozen
class AttemptEnded:
    """One attempt is over, and the database knows."""

    job: Job[Any]
    outcome: Outcome
    duration: timedelta
    """From the handler's start to its end; zero if it was never started."""
    error: BaseException | None = None
    """What the handler raised, if it did."""


class Ended(Protocol):
    """One attempt that is over, as an `Observer` gets it; its outcome is that of the batch."""

    @property
    def job(self) -> Job[Any]:
        """The job, with its payload as it is stored."""

    @property
    def duration(self) -> float:
        """Seconds from the handler's start to its end; zero if it was never started."""

    @property
    def error(self) -> BaseException | None:
        """What the handler raised, if it did."""


@attrs.frozen(kw_only=True)
class PoolUse:
    """How busy one of a worker's pools is."""

    pool: str
    """async or sync."""
    size: int
    """Handlers that may run at once."""
    busy: int
    """Handlers that run."""
    waiting: int
    """Jobs that are claimed and wait for their turn."""


@attrs.frozen(kw_only=True)
class Use:
    """How busy a worker process is."""

    pools: Sequence[PoolUse]
    held: int
    """Jobs that are claimed and not yet ended."""
    unreported: int
    """Endings that the database does not know of yet."""


class Enqueuing(Protocol):
    """An enqueue that a hook is around, or a bulk of them."""

    def done(self, job_id: int | None, count: int, duplicates: int) -> None:
        """It went through: the id of a single job, how many there were, how many were not added."""


class EnqueueHook(Protocol):
    """What stands around each enqueue of a client, as `client.enqueue_hook`: tracing is such.

    It may add to the jobs, to their metadata say. What it raises passes, and nothing is enqueued.
    """

    def one(self, job: NewJob) -> AbstractContextManager[tuple[NewJob, Enqueuing]]:
        """A context around one enqueue; gives the job to store."""

    def many(
        self, jobs: Iterable[NewJob | tuple[str, Json]], queue: str
    ) -> AbstractContextManager[tuple[Iterable[NewJob | tuple[str, Json]], Enqueuing]]:
        """The same around a bulk; `queue` is that of pairs."""


class Observer:
    """Watches a worker from within its processes. Override what you want to hear of.

    Pass it as `Worker(..., observers=[...])`; metrics and alerts are such. Each process has a copy
    of its own, made by the fork, and calls `started` in it. What happens by the thousand is told in
    batches. Methods are called on the worker's event loop unless they say otherwise, so they must
    be quick. An error of theirs is logged, at most once a minute, and does no other harm.
    """

    def started(self, worker: str, use: Callable[[], Use]) -> None:
        """This process begins to work. `use` tells how busy it is, at any time, in any thread."""

    def stopped(self) -> None:
        """This process's work is over; the last that is told."""

    def claimed(self, jobs: Sequence[Job[Any]], seconds: float) -> None:
        """A claim was answered, within `seconds`, with these jobs, or with none."""

    def ended(self, outcome: Outcome, endings: Sequence[Ended]) -> None:
        """Attempts are over, all with one outcome, and the database knows."""

    def reconnected(self, purpose: str) -> None:
        """The connection for `purpose` was made anew. In any thread."""

    def connection_failed(self, purpose: str) -> None:
        """The connection for `purpose` broke, or cannot be made. In any thread."""

    def beat_missed(self) -> None:
        """Leases could not be renewed this time; tried again soon. In the heartbeat's thread."""
