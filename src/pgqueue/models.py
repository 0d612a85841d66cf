"""The values that pgqueue takes and gives. All frozen."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Awaitable
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol

import attrs

from pgqueue.errors import ConfigurationError
from pgqueue.masking import LOOKED_THROUGH, masked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pgqueue.jsontext import Json
    from pgqueue.retry import RetryPolicy

if sys.version_info >= (3, 13):
    from typing import TypeVar
else:
    from typing_extensions import TypeVar  # of psycopg's own requirements, before 3.13

P = TypeVar("P", default=Any)
"""A payload's type; `Job` alone means any."""

DEFAULT_QUEUE = "default"
DEFAULT_PRIORITY = 5
"""Of 0 (runs first) to 9."""
DEFAULT_LEASE = timedelta(seconds=30)
DEFAULT_UPKEEP = 5_000
"""Jobs that one round of upkeep promotes at most."""

_LONGEST_MESSAGE = 1_000
_LONGEST_TRACEBACK = 4_000
"""Characters; the SQL function _history keeps as much."""

DedupeUntil = Literal["start", "finish"]
OnConflict = Literal["return", "replace", "raise"]


class JobState(str, Enum):
    """Where a job is in its life."""

    SCHEDULED = "scheduled"
    """Waits for its run_at, or for the backoff after a failed attempt."""
    READY = "ready"
    """Waits to be claimed."""
    CLAIMED = "claimed"
    """Runs, under a lease."""
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    """Its attempts are used up; it can be retried."""
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    """Finished without doing anything, on purpose."""

    @property
    def finished(self) -> bool:
        """Whether the job will not run again by itself."""
        return self in _FINISHED

    def __str__(self) -> str:
        return self.value


_FINISHED = {JobState.SUCCEEDED, JobState.DEAD, JobState.CANCELLED, JobState.SKIPPED}


def _payload(value: Json) -> Json:
    return {} if value is None else value


class JobControl(Protocol):
    """What stands behind a claimed job: the client or worker that claimed it."""

    def ack_in(self, job: Job[Any], conn: Any, result: Json) -> Awaitable[None] | None:  # noqa: ANN401
        """Ack `job` on `conn`, in its transaction."""

    def is_cancelled(self, job: Job[Any]) -> bool:
        """Whether the job should stop."""


@attrs.frozen(eq=False, slots=False)  # with slots, to make one takes twice as long
class Job(Generic[P]):
    """A claimed job: ours until `lease_until`, by the database's clock.

    Two jobs are equal if they are the same claim of the same job.
    """

    id: int
    token: int
    """The fencing number of this claim: what is done with an older one is refused."""
    queue: str
    kind: str
    payload: P
    priority: int
    attempt: int
    """This attempt's number, from 1."""
    max_attempts: int
    run_at: datetime
    enqueued_at: datetime
    claimed_at: datetime
    lease_until: datetime
    position: int
    dedupe_key: str | None
    tags: list[str] | None
    metadata: Mapping[str, Any] | None
    ref: str | None
    _control: JobControl | None = attrs.field(default=None, repr=False)

    def ack(self, *, conn: Any, result: Json = None) -> Any:  # noqa: ANN401
        """End this job well as part of the transaction of `conn`.

        The handler's own writes on `conn` and the ack are then committed together or not at all:
        the effects happen exactly once. `conn` is what `Client.enqueue` takes; with an async
        connection await the returned value. A worker leaves a job alone that was acked so.

        Raises:
            LeaseLost: another worker may have the job; let the transaction roll back.
        """
        if self._control is None:
            raise ConfigurationError(
                "this job was not claimed by a client or worker; use client.ack"
            )
        return self._control.ack_in(self, conn, result)

    @property
    def cancel_requested(self) -> bool:
        """Whether to stop: cancellation was asked for, the time is up, or the lease is lost.

        A worker learns of it with its heartbeat, a third of a lease apart. Long sync handlers look
        here now and then; async ones are cancelled.
        """
        return self._control is not None and self._control.is_cancelled(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Job):
            return NotImplemented
        return self.id == other.id and self.token == other.token

    def __hash__(self) -> int:
        return hash((self.id, self.token))


@attrs.frozen(kw_only=True)
class NewJob:
    """A job to be: what `enqueue` takes, as a value for `enqueue_many`."""

    kind: str = attrs.field(kw_only=False)
    payload: Json = attrs.field(default=None, converter=_payload, kw_only=False)
    queue: str = DEFAULT_QUEUE
    priority: int = DEFAULT_PRIORITY
    run_at: datetime | None = None
    delay: timedelta | None = None
    max_attempts: int | None = None
    retry: RetryPolicy | None = None
    dedupe_key: str | None = None
    dedupe_until: DedupeUntil = "finish"
    on_conflict: OnConflict = "return"
    tags: Sequence[str] | None = None
    metadata: Mapping[str, Json] | None = None
    ref: str | None = None


@attrs.frozen
class EnqueueResult:
    """What became of an enqueue."""

    id: int
    """The job's id, or that of the job which holds the dedupe key."""
    duplicate: bool
    """True if the dedupe key was taken, so that no job was added."""


@attrs.frozen
class EnqueueManyResult:
    """What became of a bulk enqueue."""

    ids: Sequence[int] = attrs.field(repr=False)
    """In the order of the jobs given: as in `EnqueueResult.id`."""
    duplicates: int
    """How many of them were not added, because their dedupe key was taken."""

    @property
    def enqueued(self) -> int:
        """How many jobs were added."""
        return len(self.ids) - self.duplicates


@attrs.frozen(kw_only=True)
class Attempt:
    """One attempt in a job's history that did not end well."""

    attempt: int
    outcome: str
    """failed, expired (lease), snoozed, skipped, cancelled or superseded (by its key's holder)."""
    started: datetime | None = None
    ended: datetime | None = None
    worker: str | None = None
    error_class: str | None = None
    error: str | None = None
    traceback: str | None = None


def error_entry(
    error: BaseException | str, redact: Callable[[str], str] = masked
) -> dict[str, str]:
    """What the history keeps of an error: class, message and the traceback's end, all bounded.

    Each text goes through `redact`, before its end is cut off. Never fails itself, whatever the
    error is.
    """
    if isinstance(error, str):
        return {"message": redact(error[:LOOKED_THROUGH])[:_LONGEST_MESSAGE]}
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - somebody's __str__
        message = "<its __str__ failed>"
    trace = "".join(traceback.format_exception(error))
    return {
        "class": type(error).__qualname__,
        "message": redact(message[:LOOKED_THROUGH])[:_LONGEST_MESSAGE],
        "traceback": redact(trace[-LOOKED_THROUGH:])[-_LONGEST_TRACEBACK:],
    }


@attrs.frozen(kw_only=True)
class JobSummary:
    """A job as lists show it: without payload, result and history."""

    id: int
    state: JobState
    queue: str
    kind: str
    priority: int
    attempt: int
    max_attempts: int
    run_at: datetime
    enqueued_at: datetime
    claimed_at: datetime | None
    lease_until: datetime | None
    finished_at: datetime | None
    worker: str | None
    cancel_requested: bool
    dedupe_key: str | None
    tags: Sequence[str] | None
    metadata: Mapping[str, Any] | None
    ref: str | None
    tenant: str | None
    """To whom it belongs: what `pgqueue.tenant` said in the session that enqueued it."""


@attrs.frozen(kw_only=True)
class JobDetail(JobSummary):
    """All that is stored of a job."""

    payload: Any
    result: Any
    """What its handler returned; None until it succeeded."""
    history: Sequence[Attempt]
    """Earlier attempts, oldest first; the last 20 are kept."""


@attrs.frozen
class QueueStats:
    """Counts of one queue."""

    queue: str
    ready: int
    scheduled: int
    claimed: int
    dead: int
    oldest_wait: timedelta | None
    """How long the oldest ready job has been waiting; None if none is."""
    paused_until: datetime | None
    """None: not paused. The greatest datetime: until it is resumed."""


@attrs.frozen
class Maintenance:
    """What one round of maintenance did."""

    promoted: int
    """Scheduled jobs that became ready."""
    reaped: int
    """Claims that were ended because their lease ran out."""
    next_run_at: datetime | None
    """When the next scheduled job is due."""
