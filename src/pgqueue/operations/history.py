"""Figures of minutes, and of longer spans that are made of them."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import attrs

from pgqueue.arguments import checked_span

if TYPE_CHECKING:
    from pgqueue.readers import Row

MINUTE = timedelta(minutes=1)
PER_DOUBLING = 4
"""Buckets; the SQL function _bucket has the same."""
FIRST = -13
"""The first bucket ends at 2 to this power, in seconds: an eighth of a millisecond."""
ERROR = 2 ** (1 / (2 * PER_DOUBLING)) - 1
"""How far a quantile may be from the truth, as a part of it: 0.0905."""
_EPOCH = datetime(2000, 1, 1, tzinfo=timezone.utc)


@attrs.frozen
class Histogram:
    """How many of some durations were about how long; two of them can be added.

    Buckets grow by a factor of 2^(1/4), from 1/8,192 s (which holds all that is shorter) to 12 days
    (all that is longer). A quantile is the middle of its bucket, so it is at most 9.1 % off.
    """

    counts: tuple[int, ...] = attrs.field(default=(), converter=tuple)

    @property
    def total(self) -> int:
        """How many durations."""
        return sum(self.counts)

    def __add__(self, other: Histogram) -> Histogram:
        short, long = sorted((self.counts, other.counts), key=len)
        padded = short + (0,) * (len(long) - len(short))
        return Histogram(tuple(map(operator.add, padded, long)))

    def quantile(self, share: float) -> timedelta | None:
        """That which a `share` of them, from 0 to 1, do not exceed; None: there are none."""
        rank = max(1, math.ceil(share * self.total))
        passed = 0
        for place, count in enumerate(self.counts, 1):
            passed += count
            if passed >= rank:
                return timedelta(seconds=2 ** ((place - 0.5) / PER_DOUBLING + FIRST))
        return None

    @property
    def p50(self) -> timedelta | None:
        """The median."""
        return self.quantile(0.5)

    @property
    def p99(self) -> timedelta | None:
        """What 99 of 100 do not exceed."""
        return self.quantile(0.99)


def _greater(one: timedelta | None, two: timedelta | None) -> timedelta | None:
    return max((each for each in (one, two) if each is not None), default=None)


@attrs.frozen(kw_only=True)
class Minute:
    """What happened to the jobs of a queue within a minute, or a longer span."""

    queue: str
    start: datetime
    enqueued: int = 0
    started: int = 0
    """Jobs that were claimed, one claimed several times within the minute counted once."""
    succeeded: int = 0
    failed: int = 0
    """Attempts that failed, or whose leases ran out, and whose jobs are to run again."""
    dead: int = 0
    cancelled: int = 0
    skipped: int = 0
    wait: Histogram = Histogram()
    """Of the jobs that ended: from when they were ready until their last attempt started."""
    run: Histogram = Histogram()
    """Of the jobs that ended: how long their last attempt took."""
    ready: int | None = None
    """As it was shortly after the end of the minute, as the next three; None: nobody counted."""
    scheduled: int | None = None
    claimed: int | None = None
    oldest_wait: timedelta | None = None
    """For how long the job that had been ready the longest waited."""

    @property
    def finished(self) -> int:
        """Jobs that ended, well or badly."""
        return self.succeeded + self.dead + self.cancelled + self.skipped

    def __add__(self, other: Minute) -> Minute:
        """Both together; of what is a sample, the later one's, or the greater wait."""
        counted = ("enqueued", "started", "succeeded", "failed", "dead", "cancelled", "skipped")
        first, last = sorted((self, other), key=lambda each: each.start)
        sampled = last if last.ready is not None else first
        return attrs.evolve(
            first,
            wait=self.wait + other.wait,
            run=self.run + other.run,
            ready=sampled.ready,
            scheduled=sampled.scheduled,
            claimed=sampled.claimed,
            oldest_wait=_greater(self.oldest_wait, other.oldest_wait),
            **{name: getattr(self, name) + getattr(other, name) for name in counted},
        )


def minute(row: Row) -> Minute:
    """A row of the table."""
    queue, start, enqueued, started, succeeded, failed, dead, cancelled, skipped, *rest = row
    waits, runs, ready, scheduled, claimed, oldest_wait = rest
    return Minute(
        queue=queue, start=start, enqueued=enqueued, started=started, succeeded=succeeded,
        failed=failed, dead=dead, cancelled=cancelled, skipped=skipped, wait=Histogram(waits),
        run=Histogram(runs), ready=ready, scheduled=scheduled, claimed=claimed,
        oldest_wait=oldest_wait,
    )  # fmt: skip


def summed(minutes: Iterable[Minute], every: timedelta) -> list[Minute]:
    """Minutes of one queue each, put together by spans of `every`, in their order."""
    span = max(checked_span(every, "every", zero=False), MINUTE)
    found: dict[tuple[datetime, str], Minute] = {}
    for each in minutes:
        start = each.start - (each.start - _EPOCH) % span
        place = start, each.queue
        known = found.get(place)
        found[place] = attrs.evolve(each if known is None else known + each, start=start)
    return list(found.values())


def total(minutes: Sequence[Minute]) -> Minute | None:
    """All of them together, whatever their queues; None where there are none.

    Depths are those of the last minute that each queue has, added up.
    """
    by_queue: dict[str, Minute] = {}
    for each in minutes:
        known = by_queue.get(each.queue)
        by_queue[each.queue] = each if known is None else known + each
    if not by_queue:
        return None
    first, *others = by_queue.values()
    whole = first
    for each in others:
        whole = attrs.evolve(
            whole + each,
            ready=_sum(whole.ready, each.ready),
            scheduled=_sum(whole.scheduled, each.scheduled),
            claimed=_sum(whole.claimed, each.claimed),
        )
    return attrs.evolve(whole, queue="*")


def _sum(one: int | None, two: int | None) -> int | None:
    return None if one is None and two is None else (one or 0) + (two or 0)
