"""What became of jobs, minute by minute, as the upkeep stored it: charts, rates and quantiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import attrs
from markupsafe import Markup

from pgqueue.dashboard import charts
from pgqueue.operations import Histogram, Minute, total

if TYPE_CHECKING:
    from typing_extensions import Self

    from pgqueue.dashboard.visit import Visit

SPANS = {
    "hour": ("Hour", timedelta(hours=1), timedelta(minutes=1)),
    "day": ("Day", timedelta(days=1), timedelta(minutes=10)),
    "week": ("Week", timedelta(days=7), timedelta(hours=2)),
}
MINUTE = timedelta(minutes=1)
_LATELY = 10 * MINUTE
_SPARKS = 30


def span_of(text: str | None) -> str:
    """One of `SPANS`."""
    return text if text in SPANS else "hour"


@attrs.frozen
class Figures:
    """The minutes of some queues within a span."""

    span: str
    times: Sequence[datetime]
    minutes: Sequence[Minute]
    recent: Sequence[Minute]
    """The last ten, whatever the span."""

    @classmethod
    def read(cls, visit: Visit, span: str, queue: str | None = None) -> Self:
        """Reads them."""
        _, back, every = SPANS[span]
        # Whole spans, so that columns stay where they are when time goes on. The one that is not
        # over yet is left out: it would look like a fall.
        size = every.total_seconds()
        end = datetime.fromtimestamp(visit.now.timestamp() // size * size, visit.now.tzinfo)
        first = end - back
        operations = visit.desk.client.operations

        def look(conn: object) -> tuple[Sequence[Minute], Sequence[Minute]]:
            return (
                operations.history(queue, since=first, until=end, every=every, conn=conn),
                operations.history(queue, since=_LATELY + MINUTE, conn=conn),
            )

        found, recent = visit.read(look)
        return cls(span, [first + every * i for i in range(int(back / every))], found, recent)

    def _by_time(self) -> list[Minute | None]:
        found: dict[datetime, list[Minute]] = {}
        for each in self.minutes:
            found.setdefault(each.start, []).append(each)
        return [total(found[time]) if time in found else None for time in self.times]

    def _lately(self, queue: str | None = None) -> list[Minute]:
        return [each for each in self.recent if queue in (None, each.queue)]

    def rate(self, queue: str | None = None) -> float | None:
        """Jobs that ended in a minute, over the last ten; None where nothing happened."""
        lately = self._lately(queue)
        if not lately:
            return None
        # Of a queue that is newer, since its first minute.
        starts = [each.start for each in lately]
        minutes = max((max(starts) - min(starts)) / MINUTE + 1, 1)
        return sum(each.finished for each in lately) / minutes

    def wait(self, queue: str | None = None) -> Histogram:
        """How long jobs waited, lately."""
        return sum((each.wait for each in self._lately(queue)), Histogram())

    def run(self, queue: str | None = None) -> Histogram:
        """How long jobs ran, lately."""
        return sum((each.run for each in self._lately(queue)), Histogram())

    @property
    def known(self) -> bool:
        """Whether anything is stored."""
        return bool(self.minutes)

    def throughput(self) -> Markup:
        """Columns of how jobs and attempts ended."""
        minutes = self._by_time()
        names: tuple[tuple[str, str, Callable[[Minute], int]], ...] = (
            ("succeeded", "succeeded", lambda m: m.succeeded),
            ("failed attempts", "failed", lambda m: m.failed),
            ("dead", "dead", lambda m: m.dead),
            ("cancelled or skipped", "other", lambda m: m.cancelled + m.skipped),
        )
        series = [
            charts.Series(label, style, [take(each) if each else 0 for each in minutes])
            for label, style, take in names
        ]
        return charts.bars("Jobs and attempts that ended, by time", self.times, series)

    def latency(self) -> Markup:
        """Lines of how long jobs waited."""
        minutes = self._by_time()

        def quantiles(share: float) -> list[float | None]:
            found = [each.wait.quantile(share) if each else None for each in minutes]
            return [None if each is None else each.total_seconds() for each in found]

        series = [
            charts.Series("p50", "p50", quantiles(0.5)),
            charts.Series("p99", "p99", quantiles(0.99)),
        ]
        return charts.lines("How long jobs waited, by time", self.times, series, "s")

    def depth(self) -> Markup:
        """A line of how many jobs waited."""
        minutes = self._by_time()
        values = [None if each is None or each.ready is None else each.ready for each in minutes]
        series = [charts.Series("ready", "ready", values)]
        return charts.lines("Jobs that were ready, by time", self.times, series)

    def spark(self, queue: str) -> Markup:
        """A small line of a queue's jobs that ended."""
        by_time = {each.start: each.finished for each in self.minutes if each.queue == queue}
        values = [by_time.get(time, 0) for time in self.times[-_SPARKS:]]
        return charts.spark(f"Jobs of {queue} that ended", values)
