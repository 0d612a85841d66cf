"""What a run found: as tables for a terminal, and as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator

import attrs
from benchmarks.peers import floors
from benchmarks.peers.figures import HeldRound, Report
from benchmarks.peers.suite import ENQUEUE, PROCESSES, SINGLE, drain_measure
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

ENDS = 3
"""So many rounds at either end count as the first and the last under a held snapshot."""


def tables(report: Report) -> RenderableType:
    """All figures, and what they were taken on."""
    return Group(
        Text(header(report)), "",
        _systems(report), "", _rates(report), "", _latencies(report), "",
        _held(report), "", _writes(report),
    )  # fmt: skip


def header(report: Report) -> str:
    """Date, machine, versions and the server's settings in one line."""
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    settings = ", ".join(f"{name} {value}" for name, value in report.settings.items())
    return f"{report.started:%Y-%m-%d}; {report.machine}; {versions}; {settings}"


def as_json(report: Report) -> str:
    """The whole report; each rate has its median beside its rounds."""
    data = attrs.asdict(report)
    data["started"] = report.started.isoformat()
    for entry, rate in zip(data["rates"], report.rates, strict=True):
        entry["median"] = rate.median
    return json.dumps(_rounded(data), indent=1) + "\n"


def ends(rounds: list[HeldRound]) -> tuple[float, float]:
    """Jobs per second drained in the first rounds and in the last ones: the medians of three."""
    drains = [one.drain for one in rounds]
    return statistics.median(drains[:ENDS]), statistics.median(drains[-ENDS:])


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value


def _table(title: str, *columns: str) -> Table:
    made = Table(title=title, title_style="bold", title_justify="left", show_edge=False)
    made.add_column("system")
    for column in columns:
        made.add_column(column, justify="right")
    return made


def _systems(report: Report) -> Table:
    made = Table(title="Systems", title_style="bold", title_justify="left", show_edge=False)
    for column in ("system", "versions", "settings"):
        made.add_column(column)
    for name, told in report.systems.items():
        versions = ", ".join(f"{package} {number}" for package, number in told["versions"].items())
        settings = "; ".join(f"{key}: {value}" for key, value in told["settings"].items())
        made.add_row(name, versions, settings)
    return made


def _rates(report: Report) -> Table:
    drains = [drain_measure(p, analyzed=a) for p in PROCESSES for a in (False, True)]
    measures = [ENQUEUE, SINGLE, *drains]
    made = _table("Jobs per second, medians", *measures)
    for system in [floors.COPY, floors.LOOP, *report.systems]:
        made.add_row(system, *(_rate(report, system, measure) for measure in measures))
    return made


def _rate(report: Report, system: str, measure: str) -> str:
    rate = report.rate(system, measure)
    return "" if rate is None else f"{rate.median:,.0f}"


def _latencies(report: Report) -> Table:
    made = _table("Pick-up by an idle worker", "jobs/s", "enqueued/s", "p50 ms", "p99 ms")
    for one in report.latencies:
        made.add_row(
            one.system, f"{one.rate:,.0f}", f"{one.sent:,.0f}", f"{one.p50:.2f}", f"{one.p99:.2f}"
        )
    return made


def _held(report: Report) -> Table:
    made = _table(
        "Under a held snapshot, jobs per second drained (medians of three rounds)",
        "first", "last", "last / first", "jobs churned", "claim p99 ms, first", "last",
    )  # fmt: skip
    for system, rounds in report.held.items():
        first, last = ends(rounds)
        made.add_row(
            system, f"{first:,.0f}", f"{last:,.0f}", f"{last / first:.2f}",
            f"{rounds[-1].churned:,}", *_claims(rounds),
        )  # fmt: skip
    return made


def _claims(rounds: list[HeldRound]) -> Iterator[str]:
    for one in (rounds[0], rounds[-1]):
        yield "" if one.claim_p99 is None else f"{one.claim_p99:.2f}"


def _writes(report: Report) -> Table:
    made = _table(
        "Written per job, from enqueue until finished",
        "WAL bytes", "rows inserted", "updated", "of these HOT", "deleted", "index entries",
    )  # fmt: skip
    for one in report.writes:
        rows = (one.inserted, one.updated, one.hot_updated, one.deleted, one.index_entries)
        made.add_row(one.system, f"{one.wal_bytes:,.0f}", *(f"{value:.2f}" for value in rows))
    return made
