"""The rules: what counts as wrong. Each looks at what the database says, and finds alarms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import ClassVar

import attrs

from pgqueue.alerts.notices import Alarm
from pgqueue.errors import ConfigurationError
from pgqueue.vitals import AttemptCounts, Vitals
from pgqueue.words import quantity, span

MINUTE = timedelta(minutes=1)
LONGEST_WINDOW = timedelta(hours=1)
"""For so long it is kept how attempts ended."""


@attrs.frozen
class Seen:
    """What rules look at."""

    vitals: Vitals
    attempts: Callable[[timedelta], Mapping[str, AttemptCounts]]
    """How the attempts of each kind ended within the last so long, in all workers that watch."""


def _positive(_: object, attribute: attrs.Attribute[timedelta], value: object) -> None:
    if not isinstance(value, timedelta) or value <= timedelta(0):
        raise ConfigurationError(f"{attribute.name} is {value!r}; pass a timedelta of more than 0")


def _window(_: object, attribute: attrs.Attribute[timedelta], value: object) -> None:
    if not isinstance(value, timedelta) or not timedelta(0) < value <= LONGEST_WINDOW:
        raise ConfigurationError(
            f"{attribute.name} is {value!r}; pass a timedelta of up to {LONGEST_WINDOW}"
        )


def _count(_: object, attribute: attrs.Attribute[int], value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{attribute.name} is {value!r}; pass a whole number, 1 or more")


def _share(_: object, attribute: attrs.Attribute[float], value: object) -> None:
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ConfigurationError(f"{attribute.name} is {value!r}; pass a number from 0 to 1")


@attrs.frozen(kw_only=True)
class Rule(ABC):
    """The base of rules; make your own by `look`, with a `name` that no other has."""

    name: ClassVar[str]
    cool_down: timedelta = attrs.field(default=60 * MINUTE, validator=_positive)
    """While it goes on, or comes and goes, people are told no more often."""
    quiet: timedelta = attrs.field(default=2 * MINUTE, validator=_positive)
    """It is over once it was not found for so long."""

    @abstractmethod
    def look(self, seen: Seen) -> Iterator[Alarm]:
        """What is wrong now."""


@attrs.frozen(kw_only=True)
class RepeatedFailures(Rule):
    """Many attempts of a kind fail, and a large share of them."""

    name: ClassVar[str] = "repeated_failures"
    least: int = attrs.field(default=10, validator=_count)
    """Failed attempts."""
    share: float = attrs.field(default=0.5, validator=_share)
    """Of the attempts that ended."""
    within: timedelta = attrs.field(default=5 * MINUTE, validator=_window)

    def look(self, seen: Seen) -> Iterator[Alarm]:
        """See `Rule`; one for each kind."""
        for kind, counts in seen.attempts(self.within).items():
            if counts.failed >= self.least and counts.failed >= self.share * counts.ended:
                yield Alarm(
                    kind,
                    f"{counts.failed:,} of {quantity(counts.ended, 'attempt')} of kind {kind} "
                    f"failed within {span(self.within)}",
                    counts.failed,
                )


@attrs.frozen(kw_only=True)
class DeadJobs(Rule):
    """Jobs of a kind have used up their attempts."""

    name: ClassVar[str] = "dead_jobs"
    least: int = attrs.field(default=1, validator=_count)
    within: timedelta = attrs.field(default=5 * MINUTE, validator=_window)

    def look(self, seen: Seen) -> Iterator[Alarm]:
        """See `Rule`; one for each kind."""
        for kind, counts in seen.attempts(self.within).items():
            if counts.dead >= self.least:
                jobs = quantity(counts.dead, "job")
                text = f"{jobs} of kind {kind} died within {span(self.within)}"
                yield Alarm(kind, text, counts.dead)


@attrs.frozen(kw_only=True)
class QueueLatency(Rule):
    """The oldest ready job of a queue has waited for too long."""

    name: ClassVar[str] = "queue_latency"
    limit: timedelta = attrs.field(default=5 * MINUTE, validator=_positive)
    limits: Mapping[str, timedelta] = attrs.field(factory=dict)
    """Limits of single queues, by their names."""

    def look(self, seen: Seen) -> Iterator[Alarm]:
        """See `Rule`; one for each queue. Paused queues may wait."""
        for queue, wait in seen.vitals.of("oldest_wait").items():
            limit = self.limits.get(queue, self.limit)
            if wait > limit.total_seconds():
                waited = span(timedelta(seconds=wait))
                text = f"the oldest ready job of queue {queue} has waited for {waited}"
                yield Alarm(queue, f"{text}, over {span(limit)}", wait)


@attrs.frozen(kw_only=True)
class NoWorkers(Rule):
    """Jobs wait in a queue, and no worker is seen there."""

    name: ClassVar[str] = "no_workers"
    limit: timedelta = attrs.field(default=MINUTE, validator=_positive)
    """For how long the oldest has waited."""
    queues: Sequence[str] = ()
    """Those that always have to have a worker, whether jobs wait or not. For this workers have to
    register; where they do not, a busy one may not be seen."""

    def look(self, seen: Seen) -> Iterator[Alarm]:
        """See `Rule`; one for each queue."""
        workers, waits = seen.vitals.of("workers"), seen.vitals.of("oldest_wait")
        late = {q: wait for q, wait in waits.items() if wait > self.limit.total_seconds()}
        registered = seen.vitals.one("workers_registered") > 0
        for queue in sorted({*late, *(self.queues if registered else ())}):
            if not workers.get(queue):
                wait = waits.get(queue, 0.0)
                told = f"; jobs have waited for {span(timedelta(seconds=wait))}" if wait else ""
                yield Alarm(queue, f"no worker is seen on queue {queue}{told}", wait)


@attrs.frozen(kw_only=True)
class HorizonPinned(Rule):
    """An old snapshot keeps dead rows from being removed."""

    name: ClassVar[str] = "horizon_pinned"
    limit: timedelta = attrs.field(default=60 * MINUTE, validator=_positive)

    def look(self, seen: Seen) -> Iterator[Alarm]:
        """See `Rule`; one."""
        age = seen.vitals.one("horizon_age")
        if age > self.limit.total_seconds():
            text = f"a snapshot of {span(timedelta(seconds=age))} keeps dead rows from removal"
            yield Alarm("", f"{text}; `pgqueue doctor` says whose", age)


@attrs.frozen(kw_only=True)
class ScheduleOverdue(Rule):
    """A schedule's slot was not fired in time."""

    name: ClassVar[str] = "schedule_overdue"
    limit: timedelta = attrs.field(default=2 * MINUTE, validator=_positive)

    def look(self, seen: Seen) -> Iterator[Alarm]:
        """See `Rule`; one."""
        lag = seen.vitals.one("schedule_lag")
        if lag > self.limit.total_seconds():
            late = span(timedelta(seconds=lag))
            text = f"a schedule has been due for {late} and did not fire; is any worker running?"
            yield Alarm("", text, lag)


@attrs.frozen(kw_only=True)
class UpkeepOverdue(Rule):
    """Scheduled jobs that are due are not made ready."""

    name: ClassVar[str] = "upkeep_overdue"
    limit: timedelta = attrs.field(default=2 * MINUTE, validator=_positive)

    def look(self, seen: Seen) -> Iterator[Alarm]:
        """See `Rule`; one."""
        lag = seen.vitals.one("upkeep_lag")
        if lag > self.limit.total_seconds():
            late = span(timedelta(seconds=lag))
            text = f"a job has been due for {late} and was not made ready; is any worker running?"
            yield Alarm("", text, lag)


DEFAULT_RULES: Sequence[Rule] = (
    RepeatedFailures(),
    DeadJobs(),
    QueueLatency(),
    NoWorkers(),
    HorizonPinned(),
    ScheduleOverdue(),
    UpkeepOverdue(),
)
"""All of them, with their defaults."""
