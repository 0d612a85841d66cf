"""What `vitals()` says of a database, and how attempts ended of late, for metrics and alerts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import attrs

from pgqueue.arguments import span_text
from pgqueue.statements import Statement

if TYPE_CHECKING:
    from pgqueue.readers import Row


@attrs.frozen(kw_only=True)
class AttemptCounts:
    """How attempts of a kind ended within some time."""

    ended: int
    failed: int
    """The dead ones included."""
    dead: int


@attrs.frozen
class Vitals:
    """The values by name and label, as the SQL function documents them."""

    values: Mapping[str, Mapping[str, float]]

    def of(self, name: str) -> Mapping[str, float]:
        """The values of one name by their labels."""
        return self.values.get(name, {})

    def one(self, name: str) -> float:
        """The value of a name that has no labels; zero if there is none."""
        return self.of(name).get("", 0.0)


def vitals(quoted: str) -> Statement[Vitals]:
    """Asks for the vitals of a schema, its name in quotes."""
    return Statement(f"select name, label, value from {quoted}.vitals()", (), _vitals)


def _vitals(rows: Sequence[Row]) -> Vitals:
    values: dict[str, dict[str, float]] = {}
    for name, label, value in rows:
        values.setdefault(name, {})[label] = float(value)
    return Vitals(values)


def attempt_counts(quoted: str, span: timedelta) -> Statement[dict[str, AttemptCounts]]:
    """Asks how the attempts of each kind ended within the last `span`, an hour at most."""
    sql = f"select kind, ended, failed, dead from {quoted}._attempt_counts(%s::interval)"
    return Statement(
        sql,
        (span_text(span),),
        lambda rows: {
            kind: AttemptCounts(ended=ended, failed=failed, dead=dead)
            for kind, ended, failed, dead in rows
        },
    )


def count_attempts(quoted: str, counts: Mapping[str, AttemptCounts]) -> Statement[None]:
    """Adds to those counts."""
    sql = f"select {quoted}._count_attempts(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[])"
    params = (
        list(counts),
        [count.ended for count in counts.values()],
        [count.failed for count in counts.values()],
        [count.dead for count in counts.values()],
    )
    return Statement(sql, params, lambda _: None)
