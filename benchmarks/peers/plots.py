"""Pictures of a run. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from benchmarks.peers.figures import Report
from benchmarks.peers.report import header
from benchmarks.peers.suite import PROCESSES, drain_measure

mpl.use("Agg")
from matplotlib import pyplot as plt

OURS = ("#2b6cb0", "#63a4dd", "#1a4a7a", "#9cc7ee", "#0b2545")
PEERS = ("#d97706", "#6b7280", "#16a34a", "#9333ea", "#dc2626")


def plot(report: Report, folder: Path) -> list[Path]:
    """Writes all pictures of a run as SVG; gives their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"peers-{name}.svg" for name in ("drain", "held", "latency")]
    for draw, path in zip((_drain, _held, _latency), paths, strict=True):
        draw(report, path)
    return paths


def cost_by_depth(
    costs: Mapping[str, Sequence[tuple[int, float]]], path: Path, caption: str = ""
) -> None:
    """Draws microseconds per job over the number of jobs that wait, one line for each name.

    Args:
        costs: by name, pairs of waiting jobs and microseconds per job.
        path: where to write; .svg or .png.
        caption: what the figures were taken on.
    """
    with _picture(path, caption) as (_, axes):
        for (name, points), color in zip(costs.items(), _colors(costs), strict=True):
            axes.plot(*zip(*points, strict=True), marker="o", label=name, color=color)
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("jobs waiting (log)")
        axes.set_ylabel("µs per job")
        axes.legend(frameon=False, fontsize=8)


def _drain(report: Report, path: Path) -> None:
    systems = list(report.systems)
    with _picture(path, header(report)) as (figure, axes):
        figure.set_size_inches(8, 0.5 * len(systems) + 1.5)
        for offset, processes, color in zip((-0.2, 0.2), PROCESSES, PEERS[1::-1], strict=True):
            measure = drain_measure(processes, analyzed=False)
            rates = [report.rate(system, measure) for system in systems]
            values = [rate.median if rate else 0 for rate in rates]
            places = [place + offset for place in range(len(systems))]
            bars = axes.barh(places, values, 0.38, label=measure, color=color)
            axes.bar_label(bars, [f"{value:,.0f}" for value in values], padding=3, fontsize=8)
        axes.set_yticks(range(len(systems)), systems)
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set_xlabel("no-op jobs/s, from enqueued to finished")
        axes.legend(frameon=False, fontsize=8)


def _held(report: Report, path: Path) -> None:
    with _picture(path, header(report)) as (_, axes):
        for (name, rounds), color in zip(report.held.items(), _colors(report.held), strict=True):
            churned = [one.churned for one in rounds]
            axes.plot(churned, [one.drain for one in rounds], marker=".", label=name, color=color)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("jobs churned while a snapshot is held")
        axes.set_ylabel("jobs/s drained in the round")
        axes.legend(frameon=False, fontsize=8)


def _latency(report: Report, path: Path) -> None:
    rates = sorted({one.rate for one in report.latencies})
    names = dict.fromkeys(one.system for one in report.latencies)
    colors = dict(zip(names, _colors(names), strict=True))
    with _picture(path, header(report), columns=len(rates)) as (_, given):
        for rate, axes in zip(rates, given if len(rates) > 1 else [given], strict=True):
            for one in report.latencies:
                if one.rate == rate:
                    shares = [place / 2 for place in range(1, len(one.curve) + 1)]
                    axes.plot(one.curve, shares, label=one.system, color=colors[one.system])
            axes.set_xscale("log")
            axes.set_xlabel(f"ms from enqueue to start, at {rate:,.0f}/s (log)")
            axes.set_ylabel("% of jobs")
            axes.legend(frameon=False, fontsize=8)


def _colors(names: Mapping[str, object]) -> list[str]:
    ours, peers = iter(OURS * len(names)), iter(PEERS * len(names))
    return [next(ours if name.startswith("pgqueue") else peers) for name in names]


@contextmanager
def _picture(path: Path, caption: str, columns: int = 1) -> Iterator[tuple[Any, Any]]:
    size = (5 * columns + 3, 4.5)
    figure, axes = plt.subplots(1, columns, figsize=size, layout="constrained", squeeze=True)
    yield figure, axes
    for one in figure.axes:
        one.spines[["top", "right"]].set_visible(False)
    figure.suptitle(caption, fontsize=6, color="#666666", wrap=True)
    figure.savefig(path)
    plt.close(figure)
