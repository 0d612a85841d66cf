"""Operations of several statements: each a generator, so that one text serves both drivers.

A `Transaction` is one of steps that happen together. What is made of several transactions yields
them, and is sent what each one gave.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs
import psycopg

from pgqueue.errors import FilterTooBroad
from pgqueue.operations import search
from pgqueue.operations.conditions import checked_filter
from pgqueue.operations.models import Count, Page
from pgqueue.operations.search import FINISHED, Place, Search

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from pgqueue.operations.models import JobFilter
    from pgqueue.operations.statements import OperationStatements
    from pgqueue.readers import Row
    from pgqueue.statements import Steps

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Dialogue = Generator["Transaction[Any]", Any, T]
"""Several transactions, one after the other."""


@attrs.frozen
class Transaction(Generic[T_co]):
    """Steps in one transaction, that can be begun anew."""

    begin: Callable[[], Steps[T_co]]
    deadline: timedelta | None = None

    def steps(self) -> Steps[T_co]:
        """See `pgqueue.statements.Operation`."""
        return self.begin()

    def restart(self) -> bool:
        """See `pgqueue.statements.Operation`."""
        return True

    def meant(self, error: psycopg.errors.QueryCanceled) -> Exception:
        """What the end of a statement means: that it took too long, unless somebody ended it."""
        if self.deadline is None or "statement timeout" not in str(error):
            return error
        return FilterTooBroad(self.deadline)


class _Watch:
    """What is left of a deadline."""

    def __init__(self, deadline: timedelta) -> None:
        self._deadline = deadline
        self._until = time.monotonic() + deadline.total_seconds()

    def milliseconds(self) -> int:
        """How many are left.

        Raises:
            FilterTooBroad: none.
        """
        left = int(1000 * (self._until - time.monotonic()))
        if left <= 0:
            raise FilterTooBroad(self._deadline)
        return left


class Reading:
    """Searches and counts, bounded in time."""

    def __init__(self, statements: OperationStatements, deadline: timedelta) -> None:
        self._statements = statements
        self._deadline = deadline

    def page(self, wanted: JobFilter, after: str | None, limit: int) -> Transaction[Page]:
        """One page."""
        checked_filter(wanted)
        start = None if after is None else search.place(after)
        found = Search(self._statements.quoted, wanted)
        return self._bounded(lambda watch: self._page(found, start, limit, watch))

    def count(self, wanted: JobFilter, at_most: int) -> Transaction[Count]:
        """How many fit, up to a limit."""
        checked_filter(wanted)
        found = Search(self._statements.quoted, wanted)
        return self._bounded(lambda watch: self._count(found, at_most, watch))

    def some(
        self, found: Search, after: Place | None, limit: int
    ) -> Steps[tuple[list[Row], Place | None]]:
        """Rows, for what is done to them in the same transaction: see `_rows`."""
        return self._within(lambda watch: self._rows(found, after, limit, watch))

    def _bounded(self, reading: Callable[[_Watch], Steps[T]]) -> Transaction[T]:
        return Transaction(lambda: self._within(reading), self._deadline)

    def _within(self, reading: Callable[[_Watch], Steps[T]]) -> Steps[T]:
        watch = _Watch(self._deadline)
        before = yield self._statements.set_for_reading(watch.milliseconds())
        result = yield from reading(watch)
        yield self._statements.set_back(before)
        return result

    def _page(self, found: Search, after: Place | None, limit: int, watch: _Watch) -> Steps[Page]:
        rows, last = yield from self._rows(found, after, limit, watch)
        return Page(search.summaries(rows), None if last is None else last.text())

    def _rows(
        self, found: Search, after: Place | None, limit: int, watch: _Watch
    ) -> Steps[tuple[list[Row], Place | None]]:
        """Up to `limit` rows, and after which place there are more, if there are."""
        rows: list[tuple[str, Row]] = []
        for start in search.parts(found.wanted, after):
            for span in (yield from self._spans(found, start)):
                yield self._statements.limit_to(watch.milliseconds())
                new = yield found.rows(start, limit + 1 - len(rows), span)
                rows += [(start.part, row) for row in new]
                if len(rows) > limit:
                    part, row = rows[limit - 1]
                    return [row for _, row in rows[:limit]], Place(part, search.key(row))
        return [row for _, row in rows], None

    def _spans(
        self, found: Search, start: Place
    ) -> Steps[Sequence[tuple[datetime | None, datetime | None]]]:
        if start.part != FINISHED or found.by_index:
            return [(None, None)]
        bounds = yield found.bounds()
        return list(found.windows(bounds, start))

    def _count(self, found: Search, at_most: int, watch: _Watch) -> Steps[Count]:
        number = 0
        for start in search.parts(found.wanted, None):
            yield self._statements.limit_to(watch.milliseconds())
            number += yield found.count(start.part, at_most + 1 - number)
            if number > at_most:
                return Count(at_most, more=True)
        return Count(number, more=False)
