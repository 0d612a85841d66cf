"""What was measured, as plain values that go into the JSON as they are."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from datetime import datetime

import attrs


@attrs.frozen
class Rate:
    """Jobs per second of one system (or floor) at one measure."""

    system: str
    measure: str
    rounds: list[float] = attrs.Factory(list)

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.rounds)


@attrs.frozen
class Latency:
    """Pick-up times of one system at one rate, of all rounds together."""

    system: str
    rate: float
    """Jobs per second that were asked for."""
    sent: float
    """Jobs per second that were enqueued: the median of the rounds."""
    p50: float
    """Milliseconds: the median of the rounds' medians. `p99` likewise."""
    p99: float
    curve: list[float]
    """Milliseconds: the quantiles 0.5 %, 1 %, ... 99.5 % of all rounds' jobs, for the plot."""


@attrs.frozen
class HeldRound:
    """One round under the held snapshot."""

    churned: int
    """Jobs finished since the snapshot was taken, this round's included."""
    enqueue: float
    """Jobs per second, as `drain`."""
    drain: float
    claim_p50: float | None
    """Milliseconds that a claim took in the server; None if none was logged."""
    claim_p99: float | None


@attrs.frozen
class Writes:
    """What a job costs the disk from its enqueue until it is finished."""

    system: str
    wal_bytes: float
    inserted: float
    """Table rows: `updated` and `deleted` likewise."""
    updated: float
    hot_updated: float
    """Updates that wrote no index entry."""
    deleted: float
    index_entries: float
    """Entries added to B-trees."""
    wal_records: float


@attrs.define
class Report:
    """All of a run."""

    started: datetime
    machine: str
    versions: dict[str, str]
    settings: dict[str, str]
    plan: dict[str, object]
    systems: dict[str, dict[str, dict[str, str]]]
    """By name: versions and settings."""
    rates: list[Rate] = attrs.Factory(list)
    latencies: list[Latency] = attrs.Factory(list)
    held: dict[str, list[HeldRound]] = attrs.Factory(dict)
    """By system."""
    writes: list[Writes] = attrs.Factory(list)

    failures: list[str] = attrs.Factory(list)
    """Steps that gave no figure, and why."""

    def rate(self, system: str, measure: str) -> Rate | None:
        """The figure, if it was taken."""
        found = (r for r in self.rates if (r.system, r.measure) == (system, measure))
        return next(found, None)

    def add(self, system: str, measure: str, value: float) -> None:
        """One round's value."""
        rate = self.rate(system, measure)
        if rate is None:
            rate = Rate(system, measure)
            self.rates.append(rate)
        rate.rounds.append(value)


def quantile(ordered: Sequence[float], share: float) -> float:
    """Of sorted values, the one below which `share` of them lie."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
