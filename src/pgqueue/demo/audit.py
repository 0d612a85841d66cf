"""What happened, as the database tells it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import attrs

from pgqueue.client import Client
from pgqueue.statements import Statement

TOP = 5


@attrs.frozen
class Counts:
    """How far the work is."""

    succeeded: int
    dead: int
    retried: int
    """Jobs with more than one attempt."""

    @property
    def done(self) -> int:
        """Jobs that will not run again."""
        return self.succeeded + self.dead


@attrs.frozen
class Kill:
    """A worker's sudden end."""

    worker: str
    at: datetime
    """By the database's clock."""


@attrs.frozen
class Recovery:
    """What became of the jobs that the killed worker held."""

    jobs: int
    ready_seconds: float | None
    """From the kill until the last of them was ready again; None if there were none."""
    running_seconds: float | None
    """From the kill until the last of them ran again."""


@attrs.frozen
class Failure:
    """One sort of error that jobs died of."""

    error: str
    jobs: int
    examples: Sequence[Sequence[str]]
    """Some of the files, each with its message."""


@attrs.frozen(kw_only=True)
class Audit:
    """The account of one run."""

    enqueued: int
    succeeded: int
    dead: int
    lost: int
    """Enqueued, and neither succeeded nor dead."""
    twice: int
    """Finished more than once."""
    expired: int
    """Jobs that ran again because their worker was gone."""
    lines: int
    functions: int
    classes: int
    seconds: float
    """From the first claim to the last end."""
    recovery: Recovery | None
    largest: Sequence[tuple[int, str]]
    """Lines and file."""
    longest: Sequence[tuple[int, str, str]]
    """Lines, function and file."""
    failures: Sequence[Failure]

    @property
    def passed(self) -> bool:
        """Whether every job that was enqueued finished, once."""
        return not self.lost and not self.twice and self.enqueued == self.succeeded + self.dead

    @property
    def jobs_per_second(self) -> float:
        """Finished jobs by the time they took together."""
        return (self.succeeded + self.dead) / max(self.seconds, 0.001)


@attrs.frozen
class Auditor:
    """Asks the questions of an audit."""

    client: Client

    def _rows(self, query: str, *params: object) -> list[tuple[Any, ...]]:
        jobs = f"{self.client.statements.quoted}.all_jobs"
        return self.client.driver.run(Statement(query.replace("@jobs@", jobs), params, list))

    def counts(self) -> Counts:
        """How far the work is now."""
        (row,) = self._rows(_COUNTS)
        return Counts(*row)

    def held(self, worker: str) -> int:
        """How many jobs a worker holds now."""
        return int(self._rows(_HELD, f"{worker}:%")[0][0])

    def now(self) -> datetime:
        """The database's time."""
        moment: datetime = self._rows("select clock_timestamp()")[0][0]
        return moment

    def audit(self, ids: Sequence[int], kill: Kill | None) -> Audit:
        """The account of the jobs `ids`; `kill` is what befell one of their workers."""
        counts = self.counts()
        lines, functions, classes, seconds = self._rows(_SUMS)[0]
        return Audit(
            enqueued=len(ids),
            succeeded=counts.succeeded,
            dead=counts.dead,
            lost=self._rows(_LOST, list(ids))[0][0],
            twice=self._rows(_TWICE)[0][0],
            expired=self._rows(_EXPIRED)[0][0],
            lines=lines,
            functions=functions,
            classes=classes,
            seconds=seconds,
            recovery=None if kill is None else self._recovery(kill),
            largest=self._rows(_LARGEST, TOP),
            longest=self._rows(_LONGEST, TOP),
            failures=[Failure(*row) for row in self._rows(_FAILURES, TOP)],
        )

    def _recovery(self, kill: Kill) -> Recovery:
        (row,) = self._rows(_RECOVERY, kill.at, kill.at, f"{kill.worker}:%")
        return Recovery(*row)


_COUNTS = """
    select count(*) filter (where state = 'succeeded'), count(*) filter (where state = 'dead'),
        count(*) filter (where attempt > 1)
    from @jobs@"""
_HELD = "select count(*) from @jobs@ where state = 'claimed' and worker like %s"
_LOST = """
    select count(*) from unnest(%s::bigint[]) given (id)
    where not exists (
        select from @jobs@ j where j.id = given.id and j.state in ('succeeded', 'dead')
    )"""
_TWICE = "select count(*) - count(distinct id) from @jobs@"
_EXPIRED = 'select count(*) from @jobs@ where history @> \'[{"outcome": "expired"}]\''
_SUMS = """
    select coalesce(sum((result->>'lines')::bigint), 0)::bigint,
        coalesce(sum((result->>'functions')::bigint), 0)::bigint,
        coalesce(sum((result->>'classes')::bigint), 0)::bigint,
        coalesce(extract(epoch from max(finished_at) - min(claimed_at)), 0)::float8
    from @jobs@"""
# A job runs again when a later attempt starts. One that failed stands in the history, the last
# one in the row.
_RECOVERY = """
    select count(*), extract(epoch from max(h.ended) - %s)::float8,
        extract(epoch from max(coalesce(n.started, j.claimed_at)) - %s)::float8
    from @jobs@ j
    cross join jsonb_to_recordset(j.history) h (
        attempt int, outcome text, worker text, ended timestamptz
    )
    left join lateral (
        select min(started) as started
        from jsonb_to_recordset(j.history) later (attempt int, started timestamptz)
        where later.attempt > h.attempt
    ) n on true
    where h.outcome = 'expired' and h.worker like %s"""
_LARGEST = """
    select (result->>'lines')::int, ref from @jobs@
    where state = 'succeeded' order by 1 desc, 2 limit %s"""
_LONGEST = """
    select (result->'longest'->>'lines')::int, result->'longest'->>'name', ref from @jobs@
    where result->'longest'->>'lines' is not null order by 1 desc, 2 limit %s"""
_FAILURES = """
    select coalesce(history->-1->>'error_class', 'no error'), count(*)::int,
        (array_agg(array[ref, history->-1->>'error'] order by ref))[:%s]
    from @jobs@ where state = 'dead' group by 1 order by 2 desc, 1"""
