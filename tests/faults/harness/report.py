"""What a scenario found, and how it is shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from rich.console import Console
from rich.table import Table


@attrs.frozen
class Promise:
    """A figure and the most that it may be."""

    what: str
    value: float
    limit: float

    @property
    def holds(self) -> bool:
        """Whether it was kept; what is no number was not."""
        return self.value <= self.limit

    def __str__(self) -> str:
        sign = "<=" if self.holds else ">"
        return f"{self.what}: {self.value:.6g} {sign} {self.limit:.6g}"


@attrs.define
class Report:
    """The account of one scenario. All zero but faults and jobs: nothing went wrong."""

    faults: int = 0
    """Injected; one that hit nothing does not count."""
    jobs: int = 0
    """Whose enqueue returned."""
    lost: int = 0
    """Of those: did not end as they had to, or were acked without having run."""
    double_acked: int = 0
    """Jobs with acks by more than one claim, or with more than one row."""
    overlapping: int = 0
    """Claims of a job while an earlier one's lease was valid and its attempt not over."""
    re_executed: int = 0
    """Starts of a handler beyond each job's first."""
    recovery: list[float] = attrs.field(factory=list)
    """Seconds from a fault to the job's next start."""
    promises: list[Promise] = attrs.field(factory=list)
    notes: list[str] = attrs.field(factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing was lost or done twice, and all promises hold."""
        wrong = self.lost or self.double_acked or self.overlapping
        return not wrong and all(promise.holds for promise in self.promises)

    def promise(self, what: str, value: float, limit: float) -> None:
        """Adds a promise: `value` is at most `limit`."""
        self.promises.append(Promise(what, value, limit))

    def percentile(self, percent: float) -> float:
        """Of the recoveries, by the nearest rank: one that happened; not a number without any."""
        return percentile(self.recovery, percent)


def percentile(values: Sequence[float], percent: float) -> float:
    """The least value that `percent` of them do not exceed; not a number if there are none."""
    if not values:
        return math.nan
    return sorted(values)[max(math.ceil(len(values) * percent / 100), 1) - 1]


@attrs.frozen
class Result:
    """One scenario's run."""

    name: str
    title: str
    modes: Sequence[int]
    report: Report
    seconds: float
    error: str | None = None
    """Why it ended early, if it did."""

    @property
    def ok(self) -> bool:
        """Whether it came to its end, and that was good."""
        return self.error is None and self.report.ok


def as_data(about: Mapping[str, object], results: Sequence[Result]) -> dict[str, Any]:
    """All that is known, for JSON."""
    return {"about": dict(about), "scenarios": [_result_as_data(result) for result in results]}


def _result_as_data(result: Result) -> dict[str, Any]:
    data = attrs.asdict(result)
    data["ok"] = result.ok
    data["report"]["promises"] = [
        {"what": p.what, "value": _number(p.value), "limit": p.limit, "holds": p.holds}
        for p in result.report.promises
    ]
    recovery = data["report"].pop("recovery")
    data["report"]["recovery"] = {
        "count": len(recovery),
        "p50": _number(percentile(recovery, 50)),
        "p99": _number(percentile(recovery, 99)),
        "max": _number(max(recovery, default=math.nan)),
    }
    return data


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 3)


def show(console: Console, about: Mapping[str, object], results: Sequence[Result]) -> None:
    """Prints the results for people: a table, and below it what was promised and noted."""
    for name, value in about.items():
        console.print(f"{name:>9}  {value}", highlight=False)
    console.print(_table(results))
    for result in results:
        console.print(f"\n[bold]{result.name}[/]: {result.title}", highlight=False)
        for promise in result.report.promises:
            console.print(f"  {promise}", highlight=False, style=None if promise.holds else "red")
        for note in result.report.notes:
            console.print(f"  {note}", highlight=False)
        if result.error is not None:
            console.print(result.error, markup=False, highlight=False, style="red")


def markdown(data: Mapping[str, Any]) -> str:
    """The table of a soak's JSON as docs/reliability.md has it, and what it was taken with."""
    about = data["about"]
    apart = f" {about['apart']}." if "apart" in about else ""
    names = ("scenario", "what", "faults", "jobs", "lost", "double-acked", "overlapping")
    head = [*names, "re-executed", "recovery p50, s", "p99", "promises kept"]
    lines = [head, ["---", "---", *["---:"] * (len(head) - 2)]]
    lines += [_markdown_cells(result) for result in data["scenarios"]]
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return (
        f"{about['date']}; {about['machine']}; Python {about['python']}, Postgres "
        f"{about['postgres']}; seed {about['seed']}; `make soak`; [all of it](images/soak.json)."
        f"{apart}"
        f"\n\n{rows}\n"
    )


def _markdown_cells(result: Mapping[str, Any]) -> list[str]:
    report = result["report"]
    counts = ("faults", "jobs", "lost", "double_acked", "overlapping", "re_executed")
    recovery = [report["recovery"][name] for name in ("p50", "p99")]
    kept = sum(promise["holds"] for promise in report["promises"])
    return [
        f"`{result['name']}`",
        result["title"],
        *(f"{report[count]:,}" for count in counts),
        *("" if value is None else f"{value:.2f}" for value in recovery),
        f"{kept} of {len(report['promises'])}",
    ]


def _table(results: Sequence[Result]) -> Table:
    table = Table(show_edge=False)
    table.add_column("scenario", no_wrap=True)
    columns = (
        "faults", "jobs", "lost", "double-\nacked", "over-\nlapping", "re-\nexecuted",
        "recovery, s\np50    p99", "promises\nkept", "seconds",
    )  # fmt: skip
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        table.add_row(*_cells(result), style=None if result.ok else "bold red")
    return table


def _cells(result: Result) -> list[str]:
    report = result.report
    counts = (
        report.faults, report.jobs, report.lost, report.double_acked, report.overlapping,
        report.re_executed,
    )  # fmt: skip
    kept = sum(promise.holds for promise in report.promises)
    return [
        result.name,
        *(f"{count:,}" for count in counts),
        f"{report.percentile(50):.2f}  {report.percentile(99):5.2f}" if report.recovery else "",
        f"{kept}/{len(report.promises)}" if result.error is None else "error",
        f"{result.seconds:.1f}",
    ]
