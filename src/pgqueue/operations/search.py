"""Pages of jobs: which rows, in which order, and where the next page begins.

Jobs stand in the order in which an index has them, so that a page reads little more than its rows:
claimed ones, then ready ones, both as claims take them; scheduled ones, those due first; finished
ones, the latest first. The archive is read partition by partition: asked for all of them at once,
Postgres looks for the first row that fits in each, although those of the latest fill the page.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from pgqueue import readers
from pgqueue.arguments import checked_id, checked_name, shown, whole
from pgqueue.errors import InvalidJob
from pgqueue.models import JobState
from pgqueue.operations import conditions
from pgqueue.operations.conditions import Conditions
from pgqueue.statements import Statement

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pgqueue.operations.models import JobFilter
    from pgqueue.readers import Row

_JOB = (
    "id, '{state}', queue, kind, priority, attempt, max_attempts, run_at, enqueued_at, claimed_at, "
    "lease_until, null::timestamptz, worker, cancel_requested, dedupe_key, tags, metadata::text, "
    "ref, tenant"
)
_ARCHIVED = (
    "id, state, queue, kind, priority, attempt, max_attempts, run_at, enqueued_at, claimed_at, "
    "null::timestamptz, finished_at, worker, false, dedupe_key, tags, metadata::text, ref, tenant"
)
_COLUMNS = len(readers.SUMMARY.split(", "))
FINISHED = "finished"
_LANE = ("queue", "priority", "position")
_KEYS = {
    "claimed": _LANE,
    "ready": _LANE,
    "scheduled": ("run_at", "id"),
    FINISHED: ("finished_at", "id"),
}
_TYPES = {
    "queue": "text",
    "priority": "smallint",
    "position": "bigint",
    "run_at": "timestamptz",
    "id": "bigint",
    "finished_at": "timestamptz",
}


@attrs.frozen
class Place:
    """After which row a page begins: a part of the list, and the row's key in it."""

    part: str
    key: tuple[Any, ...] | None = None

    def text(self) -> str:
        """What a caller is given, to be passed back."""
        key = [str(each) if isinstance(each, datetime) else each for each in self.key or ()]
        return base64.urlsafe_b64encode(json.dumps([self.part, *key]).encode()).decode()


def place(text: object) -> Place:
    """The place that a text stands for.

    Raises:
        InvalidJob: it is not of a page.
    """
    try:
        part, *key = json.loads(base64.urlsafe_b64decode(str(text)))
        pairs = zip(_KEYS[part], key, strict=True)
        return Place(part, tuple(_KEY_READERS[_TYPES[name]](value) for name, value in pairs))
    except (ValueError, KeyError, TypeError):
        raise InvalidJob(f"after is {shown(text)}; pass the `next` of a page") from None


def _moment(value: str) -> datetime:
    return datetime.fromisoformat(value).astimezone(timezone.utc)


_KEY_READERS: dict[str, Callable[[Any], object]] = {
    "text": partial(checked_name, what="queue"),
    "smallint": partial(whole, what="priority", least=0, most=9),
    "bigint": checked_id,
    "timestamptz": _moment,
}


def parts(wanted: JobFilter, after: Place | None) -> list[Place]:
    """The parts of the list that may have jobs that fit, from `after` on."""
    states = wanted.states
    named = [s.value for s in (JobState.CLAIMED, JobState.READY, JobState.SCHEDULED) if s in states]
    if any(state.finished for state in states):
        named.append(FINISHED)
    if after is None:
        return [Place(part) for part in named]
    order = list(_KEYS)
    later = [p for p in named if order.index(p) >= order.index(after.part)]
    return [after if part == after.part else Place(part) for part in later]


class Search:
    """The statements of one search in one schema."""

    def __init__(
        self,
        quoted: str,
        wanted: JobFilter,
        *,
        more: Conditions = conditions.NOTHING,
        unasked: bool = False,
    ) -> None:
        """`more` is asked of unfinished jobs and finished ones alike.

        `unasked` leaves out those that were asked to stop already.
        """
        self.quoted = quoted
        self.wanted = wanted
        asked = Conditions(" and not cancel_requested" if unasked else "", ())
        self._unfinished = conditions.unfinished(wanted) + more + asked
        self._finished = conditions.finished(wanted) + more

    def bounds(self) -> Statement[list[datetime]]:
        """Where partitions of the archive begin, latest first."""
        s = self.quoted
        sql = (
            f"select distinct since from (select since from {s}._bounds('done') "
            f"union all select since from {s}._bounds('dead')) b order by since desc"
        )
        return Statement(sql, (), readers.first_column)

    @property
    def by_index(self) -> bool:
        """Whether an index leaves so few jobs that one look at the whole archive finds them."""
        return self.wanted.ids is not None or self.wanted.ref is not None

    def windows(
        self, bounds: Sequence[datetime], start: Place
    ) -> Iterator[tuple[datetime | None, datetime | None]]:
        """The spans of time between `bounds` that may have more jobs, latest first."""
        latest = min(
            (t for t in (start.key and start.key[0], self.wanted.finished_before) if t),
            default=None,
        )
        earliest = max(
            (t for t in (self.wanted.enqueued_after, self.wanted.finished_after) if t), default=None
        )
        until: datetime | None = None
        for since in (*bounds, None):
            if latest is None or since is None or since <= latest:
                yield since, until
            if earliest is not None and since is not None and since <= earliest:
                return
            until = since

    def rows(
        self, start: Place, limit: int, window: tuple[datetime | None, datetime | None]
    ) -> Statement[list[Row]]:
        """Up to `limit` rows of one part: the columns of a summary, then the key.

        Finished ones are of the `window`: from the one to just before the other.
        """
        return Statement(*self._rows(start, limit, window), list)

    def _rows(
        self, start: Place, limit: int, window: tuple[datetime | None, datetime | None]
    ) -> tuple[str, tuple[object, ...]]:
        s, names = self.quoted, _KEYS[start.part]
        keys = ", ".join(names)
        after = _after(start, names, ">")
        if start.part == "claimed":
            columns = _JOB.format(state="claimed")
            found = self._unfinished + after
            # Claimed jobs stand below their lanes' heads: not all that are ready need be read.
            sql = (
                f"select f.* from {self._lanes()} cross join lateral (select {columns}, {keys} "
                f"from {s}.job j where j.queue = l.lane_queue and j.priority = l.lane_priority "
                f"and position <= l.head and lease_until is not null{found.text} "
                f"order by {keys} limit %s) f ({_named(names)}) "
                "order by key_1, key_2, key_3 limit %s"
            )
            return sql, (*self._lane_params(), *found.params, limit, limit)
        if start.part == FINISHED:
            after = _after(start, names, "<")
            found = self._finished + self._states() + _within(window) + after
            sql = (
                f"select {_ARCHIVED}, {keys} from {s}.archive where true{found.text} "
                "order by finished_at desc, id desc limit %s"
            )
            return sql, (*found.params, limit)
        columns = _JOB.format(state=start.part)
        found = self._unfinished + after
        waits = "position is null" if start.part == "scheduled" else _READY
        sql = (
            f"select {columns}, {keys} from {s}.job where {waits}{found.text} "
            f"order by {keys} limit %s"
        )
        return sql, (*found.params, limit)

    def count(self, part: str, limit: int) -> Statement[int]:
        """How many jobs of one part fit, up to `limit`."""
        s = self.quoted
        if part == FINISHED:
            found = self._finished + self._states()
            source = f"{s}.archive where true{found.text}"
            params: tuple[object, ...] = found.params
        elif part == "claimed":
            found = self._unfinished
            source = (
                f"{self._lanes()} join {s}.job j on j.queue = l.lane_queue and j.priority = "
                "l.lane_priority and position <= l.head and position is not null "
                f"and lease_until is not null{found.text}"
            )
            params = (*self._lane_params(), *found.params)
        else:
            found = self._unfinished
            waits = "position is null" if part == "scheduled" else _READY
            source = f"{s}.job where {waits}{found.text}"
            params = found.params
        sql = f"select count(*) from (select from {source} limit %s) f"
        return Statement(sql, (*params, limit), readers.one)

    def _lanes(self) -> str:
        only = "" if self.wanted.queue is None else " where queue = %s"
        return (
            "(select queue as lane_queue, priority as lane_priority, max(head) as head "
            f"from {self.quoted}.lane{only} group by queue, priority) l"
        )

    def _lane_params(self) -> tuple[object, ...]:
        return () if self.wanted.queue is None else (self.wanted.queue,)

    def _states(self) -> Conditions:
        states = [state.value for state in self.wanted.states if state.finished]
        # One by one, as the partial index has them.
        return Conditions(f" and state in ({', '.join(['%s'] * len(states))})", tuple(states))


_READY = "position is not null and lease_until is null"


def _named(keys: Sequence[str]) -> str:
    columns = [f"c{n}" for n in range(_COLUMNS)]
    return ", ".join([*columns, *(f"key_{n + 1}" for n in range(len(keys)))])


def _after(start: Place, names: Sequence[str], sign: str) -> Conditions:
    if start.key is None:
        return conditions.NOTHING
    slots = ", ".join(f"%s::{_TYPES[name]}" for name in names)
    return Conditions(f" and ({', '.join(names)}) {sign} ({slots})", start.key)


def _within(window: tuple[datetime | None, datetime | None]) -> Conditions:
    found = conditions.NOTHING
    for bound, sign in zip(window, (">=", "<"), strict=True):
        if bound is not None:
            found += Conditions(f" and finished_at {sign} %s", (bound,))
    return found


def summaries(rows: Sequence[Row]) -> list[Any]:
    """The jobs of rows."""
    return readers.summaries([row[:_COLUMNS] for row in rows])


def key(row: Row) -> tuple[Any, ...]:
    """The key of a row: where a page that ends with it is followed by the next."""
    return row[_COLUMNS:]


def job_id(row: Row) -> int:
    """The id of a row's job."""
    found: int = row[0]
    return found
