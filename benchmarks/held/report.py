"""The first rounds beside the last: as a table, as Markdown, and as a picture."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
from benchmarks.held.rounds import Round
from rich.table import Table

ENDS = 3
"""So many rounds at either end count as the first and the last; their medians are compared."""


@attrs.frozen
class Measure:
    """A figure of each round."""

    name: str
    unit: str
    of: Callable[[Round], float]
    goal: str = ""


MEASURES = (
    Measure("drain", "jobs/s", lambda r: r.drain, ">= 0.9"),
    Measure("enqueue", "jobs/s", lambda r: r.enqueue),
    Measure("claim, p50", "ms", lambda r: r.claim.p50),
    Measure("claim, p99", "ms", lambda r: r.claim.p99, "<= 2"),
    Measure("claim, longest", "ms", lambda r: r.claim.longest),
    Measure("maintain, p50", "ms", lambda r: r.maintain.p50),
    Measure("maintain, p99", "ms", lambda r: r.maintain.p99),
    Measure("maintain, longest", "ms", lambda r: r.maintain.longest),
    Measure("promote, p50", "ms", lambda r: r.promote.p50),
    Measure("promote, longest", "ms", lambda r: r.promote.longest),
    Measure("promote with rescan, p50", "ms", lambda r: r.promote_rescan.p50),
    Measure("promote with rescan, longest", "ms", lambda r: r.promote_rescan.longest),
    Measure("reap, p50", "ms", lambda r: r.reap.p50),
    Measure("reap, longest", "ms", lambda r: r.reap.longest),
    Measure("reap with rescan, p50", "ms", lambda r: r.reap_rescan.p50),
    Measure("reap with rescan, longest", "ms", lambda r: r.reap_rescan.longest),
    Measure("cold claim, floors null, p50", "ms", lambda r: r.cold_claim.p50),
    Measure("cold claim, floors null, longest", "ms", lambda r: r.cold_claim.longest),
    Measure("cold claim, floors 0, p50", "ms", lambda r: r.bottom_claim.p50),
    Measure("pick-up by a late worker", "ms", lambda r: r.pick_up),
)
PANELS = (
    ("jobs/s", ("drain", "enqueue")),
    ("ms, the worker's claims", ("claim, p50", "claim, p99")),
    ("ms, upkeep", ("maintain, p99", "promote, p50", "promote with rescan, p50", "reap, p50",
                    "reap with rescan, p50")),
    ("ms, from outside", ("cold claim, floors null, p50", "cold claim, floors 0, p50",
                          "pick-up by a late worker")),
)  # fmt: skip


def rows(rounds: Sequence[Round]) -> list[tuple[str, ...]]:
    """Name, first, last, ratio and goal of each measure."""
    found: list[tuple[str, ...]] = []
    for measure in MEASURES:
        first, last = (
            statistics.median(measure.of(one) for one in end)
            for end in (rounds[:ENDS], rounds[-ENDS:])
        )
        texts = [
            f"{value:,.0f}" if measure.unit == "jobs/s" else f"{value:,.2f}"
            for value in (first, last)
        ]
        ratio = f"{last / first:.2f}" if first else ""
        found.append((f"{measure.name}, {measure.unit}", *texts, ratio, measure.goal))
    return found


def table(rounds: Sequence[Round], about: str) -> Table:
    """For a terminal."""
    made = Table(title="Mixed jobs under a held snapshot", caption=about, show_edge=False)
    made.add_column("measure")
    for name in ("first rounds", "last rounds", "ratio", "goal"):
        made.add_column(name, justify="right")
    for row in rows(rounds):
        made.add_row(*row)
    return made


def markdown(rounds: Sequence[Round]) -> str:
    """For the documentation."""
    lines = ["| Measure | First rounds | Last rounds | Ratio | Goal |", "|---|---:|---:|---:|---:|"]
    lines += [f"| {' | '.join(row)} |" for row in rows(rounds)]
    return "\n".join(lines) + "\n"


def plot(rounds: Sequence[Round], path: Path, about: str) -> None:
    """Draws the measures over the jobs churned."""
    import matplotlib as mpl  # noqa: PLC0415 - the extra `bench`

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    measures = {measure.name: measure for measure in MEASURES}
    figure, grid = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    churned = [one.churned for one in rounds]
    for axes, (label, names) in zip(grid.flat, PANELS, strict=True):
        for name in names:
            axes.plot(churned, [measures[name].of(one) for one in rounds], marker=".", label=name)
        if label.startswith("ms"):
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set_xlabel("jobs churned while a snapshot is held")
        axes.set_ylabel(label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=7)
    figure.suptitle(about, fontsize=7, color="#666666")
    figure.savefig(path)
    plt.close(figure)
