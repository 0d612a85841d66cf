"""The values that the operations take and give. All frozen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import attrs

from pgqueue.arguments import shown
from pgqueue.errors import InvalidJob
from pgqueue.models import JobState, JobSummary

if TYPE_CHECKING:
    from pgqueue.jsontext import Json

Action = Literal["cancel", "retry", "delete"]
"""What can be done to all jobs of a filter."""


def _state(value: object) -> JobState:
    try:
        return JobState(value)
    except ValueError:
        listed = ", ".join(state.value for state in JobState)
        raise InvalidJob(f"state is {shown(value)}; pass one of {listed}") from None


def _states(value: object) -> tuple[JobState, ...] | None:
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Iterable):
        return (_state(value),)
    return tuple(dict.fromkeys(_state(each) for each in value))


@attrs.frozen(kw_only=True)
class JobFilter:
    """Which jobs: those that fit everything that is given. Empty, it fits all.

    What has no index of its own (kind, tag, worker, errors, payload) is looked for among the jobs
    that the rest leaves: give a state, and a time, where there are many.
    """

    state: JobState | str | Sequence[JobState | str] | None = attrs.field(
        default=None, converter=_states
    )
    """One state or several; None is any."""
    queue: str | None = None
    kind: str | None = None
    tag: str | None = None
    ref: str | None = None
    """What in the application the jobs are about. It has an index."""
    worker: str | None = None
    """Who claimed them last."""
    tenant: str | None = None
    error_class: str | None = None
    """The class of an error that an attempt ended with, such as ValueError."""
    error: str | None = None
    """Part of the message of such an error, in capitals or not."""
    payload: Json = None
    """What their payloads contain, as Postgres's `@>` has it: {"to": "ada@example.org"}."""
    enqueued_after: datetime | None = None
    enqueued_before: datetime | None = None
    """From the one to just before the other, aware datetimes."""
    finished_after: datetime | None = None
    finished_before: datetime | None = None
    """The same; only finished jobs fit these."""
    ids: Sequence[int] | None = None

    @property
    def states(self) -> tuple[JobState, ...]:
        """The states that fit, in the order of lists."""
        given: Any = self.state
        finished_only = self.finished_after is not None or self.finished_before is not None
        return tuple(
            state
            for state in JobState
            if (given is None or state in given) and (state.finished or not finished_only)
        )

    def as_dict(self) -> dict[str, Any]:
        """What is given, as JSON has it."""
        given = {
            field.name: getattr(self, field.name)
            for field in attrs.fields(JobFilter)
            if getattr(self, field.name) is not None
        }
        if "state" in given:
            given["state"] = [state.value for state in given["state"]]
        if "ids" in given:
            given["ids"] = list(given["ids"])
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in given.items()
        }


@attrs.frozen
class Page:
    """Some of the jobs that fit a filter."""

    jobs: Sequence[JobSummary]
    next: str | None
    """Pass it as `after` for the next page; None: there are no more."""


@attrs.frozen
class Count:
    """How many jobs fit a filter, counted up to a limit."""

    number: int
    more: bool
    """Whether there are more than `number`."""

    def __str__(self) -> str:
        return f"{self.number:,}{'+' if self.more else ''}"


@attrs.frozen(kw_only=True)
class BulkResult:
    """What became of an action on all jobs of a filter."""

    action: str
    matched: int
    """Jobs that it was tried on."""
    affected: int
    """Those that it was done to; the others had changed meanwhile, or their dedupe keys are held.
    """
    audit_id: int | None
    """Its entry in the audit log; None where nothing matched."""


@attrs.frozen(kw_only=True)
class Pause:
    """That nothing is claimed, and no schedule fires."""

    since: datetime
    until: datetime
    """The year 9999: until it is resumed."""
    reason: str | None


@attrs.frozen(kw_only=True)
class AuditEntry:
    """One action of an operator."""

    id: int
    at: datetime
    actor: str
    """Who: as the caller said, or else the database's role."""
    via: str
    """By what means: api, cli or dashboard."""
    action: str
    """cancel, retry, delete, redrive, purge, run_now, edit, claim, pause or resume."""
    job_ids: Sequence[int] | None
    """The jobs that were named,"""
    filter: Mapping[str, Any] | None
    """or the filter that chose them."""
    queue: str | None
    detail: Mapping[str, Any] | None
    """What else was said: a reason, a time, a priority."""
    affected: int
    """How many jobs it was done to."""
    tenant: str | None
