"""What a run found: as a table, as JSON, as a picture."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import attrs
from rich.table import Table

if TYPE_CHECKING:
    from pathlib import Path

    from pgqueue.bench.suite import Measure, Report


def table(report: Report) -> Table:
    """The figures for a terminal."""
    made = Table(
        title="pgqueue beside its floors",
        caption=header(report),
        title_style="bold",
        show_edge=False,
    )
    made.add_column("measure")
    made.add_column("pgqueue", justify="right")
    made.add_column("floor", justify="right")
    made.add_column("ratio", justify="right")
    made.add_column("the floor is", style="dim")
    for measure in report.measures:
        made.add_row(
            measure.name, _figure(measure, measure.value), _figure(measure, measure.floor),
            f"{measure.ratio:.2f}", measure.floor_name,
        )  # fmt: skip
    return made


def header(report: Report) -> str:
    """What the figures were taken on, in one line."""
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    settings = ", ".join(f"{name} {value}" for name, value in report.settings.items())
    return f"{report.started:%Y-%m-%d}; {report.machine}; {versions}; {settings}"


def as_json(report: Report) -> str:
    """The whole report, rounds included."""
    data = attrs.asdict(report)
    data["started"] = report.started.isoformat()
    for entry, measure in zip(data["measures"], report.measures, strict=True):
        entry["ratio"] = round(measure.ratio, 4)
    return json.dumps(data, indent=2) + "\n"


def plot(report: Report, path: Path) -> None:
    """Bars of the rates beside their floors, as SVG or PNG by the ending of `path`.

    Needs matplotlib.
    """
    import matplotlib as mpl  # noqa: PLC0415 - the extra `bench`

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    rates = [measure for measure in report.measures if measure.unit == "jobs/s"]
    places = range(len(rates))
    figure, axes = plt.subplots(figsize=(9, 0.42 * len(rates) + 1.2), layout="constrained")
    axes.barh(
        [p - 0.2 for p in places], [m.floor for m in rates], 0.38, label="floor", color="#c9cdd4"
    )
    bars = axes.barh(
        [p + 0.2 for p in places], [m.value for m in rates], 0.38, label="pgqueue", color="#2b6cb0"
    )
    axes.bar_label(bars, [f"{m.value:,.0f}  ({m.ratio:.2f})" for m in rates], padding=3, fontsize=8)
    axes.set_yticks(list(places), [m.name for m in rates], fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(right=axes.get_xlim()[1] * 2)
    axes.set_xlabel("jobs/s (log); in brackets the share of the floor")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False, fontsize=8)
    axes.set_title(header(report), fontsize=6, color="#666666", wrap=True)
    figure.savefig(path)
    plt.close(figure)


def _figure(measure: Measure, value: float) -> str:
    return f"{value:,.2f} ms" if measure.unit == "ms" else f"{value:,.0f}/s"
