"""The values that the operations on schedules take and give. All frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Literal

import attrs

from pgqueue import models
from pgqueue.schedules import cron
from pgqueue.words import span

if TYPE_CHECKING:
    from pgqueue.jsontext import Json
    from pgqueue.retry import RetryPolicy

Overlap = Literal["queue", "skip", "replace"]
Change = Literal["added", "changed", "unchanged", "removed"]
RunOutcome = Literal["enqueued", "manual", "skipped", "missed", "failed"]


def _payload(value: Json) -> Json:
    return {} if value is None else value


@attrs.frozen(kw_only=True)
class Schedule:
    """A recurring enqueue: when, what, and what becomes of slots that cannot be as planned.

    Each due time is a *slot*, and each slot is fired once, by whichever worker looks first.
    """

    name: str = attrs.field(kw_only=False)
    """Up to 200 of letters, digits and `_ . : / @ -`; one schedule per name (and tenant)."""
    kind: str = attrs.field(kw_only=False)
    """Selects the handler."""
    payload: Json = attrs.field(default=None, converter=_payload, kw_only=False)
    cron: str | None = None
    """Minute, hour, day, month, weekday; seconds before them if there are six. Or `every`."""
    every: timedelta | None = None
    """From a second to 1,000 days, counted from `starts_at`, or from each opening of `window`."""
    timezone: str = "UTC"
    """Of `cron` and `window`: a name such as Europe/Berlin."""
    window: tuple[time, time] | None = None
    """Only from the first to just before the second, each day; it may span midnight."""
    starts_at: datetime | None = None
    """No slot before; None: as it is, which is now for a new schedule."""
    ends_at: datetime | None = None
    """No slot from then on; None: for ever."""
    jitter: timedelta = timedelta(0)
    """Jobs start up to so much later, each slot by its own chance."""
    catch_up: int = 1
    """How many slots that nobody fired in time are made up for, the latest ones; 0: see `grace`."""
    grace: timedelta = timedelta(minutes=10)
    """With `catch_up` 0, slots that are fired later than this are only recorded as missed."""
    overlap: Overlap = "queue"
    """While the job of an earlier slot is unfinished: enqueue all the same, skip the slot, or
    cancel that job."""
    enabled: bool | None = None
    """None: as it is, which is enabled for a new schedule; a deployment then does not undo what
    somebody switched off."""
    queue: str = models.DEFAULT_QUEUE
    priority: int = models.DEFAULT_PRIORITY
    retry: RetryPolicy | None = None
    max_attempts: int | None = None
    tags: Sequence[str] | None = None
    metadata: Mapping[str, Json] | None = None
    """The jobs' own gets `schedule` and `slot` besides."""
    ref: str | None = None

    def describe(self) -> str:
        """When it runs, in words.

        A cron expression is put into words with the extra `cron`; without it, it stands as it is.
        """
        words = f"every {span(self.every)}" if self.every else cron.describe(self.cron or "")
        if self.window is not None:
            words += f", between {self.window[0]:%H:%M} and {self.window[1]:%H:%M}"
        if self.every is None or self.window is not None:
            words += f" ({self.timezone})"
        return words


@attrs.frozen
class StoredRetry:
    """A retry policy as it is stored."""

    stored: Mapping[str, Json]

    def policy(self) -> dict[str, Json]:
        """See `RetryPolicy`."""
        return dict(self.stored)


@attrs.frozen(kw_only=True)
class ScheduleState:
    """A schedule that is stored, and where it stands."""

    schedule: Schedule
    """Its `starts_at` and `enabled` are never None."""
    id: int
    next_run_at: datetime | None
    """The next slot; None if it is not enabled, or over."""
    last_run_at: datetime | None
    """The last slot that was fired, or left out by a policy."""
    last_job_id: int | None
    declared_by: str | None
    """The application whose code declares it; None if it is data."""
    tenant: str | None

    @property
    def name(self) -> str:
        """The schedule's name."""
        return self.schedule.name

    @property
    def enabled(self) -> bool:
        """Whether it runs."""
        return bool(self.schedule.enabled)


@attrs.frozen(kw_only=True)
class ScheduleRun:
    """What became of one slot."""

    slot: datetime
    fired_at: datetime
    outcome: RunOutcome
    """enqueued; manual: by hand; skipped: an earlier job was unfinished; missed: too late; failed:
    could not be enqueued."""
    job_id: int | None
    error: str | None


@attrs.frozen
class ScheduleChange:
    """What became of a schedule that was put, or synchronised."""

    name: str
    outcome: Change
