"""Runs the suite with a progress bar, and shows or writes what it found."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from pgqueue.bench import report as reports
from pgqueue.bench.suite import Plan, Report, run

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path


def bench(
    dsn: str | None,
    plan: Plan,
    *,
    json_path: Path | None = None,
    plot_path: Path | None = None,
    console: Console | None = None,
) -> Report:
    """Measures, prints the table, and writes JSON and the plot where asked.

    Args:
        dsn: the database; None starts an embedded server of its own, durable, and throws it away.
        plan: how much to measure.
        json_path: where to write all figures.
        plot_path: where to write the picture, .svg or .png.
        console: where to print; standard output by default.
    """
    console = console or Console()
    with _server(dsn) as where:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("starting", total=None)

            def show(name: str, done: int, total: int) -> None:
                progress.update(task, description=name, completed=done, total=total)
                if not console.is_terminal:
                    console.print(f"{done + 1}/{total} {name}")

            found = run(where, plan, show)
    console.print(reports.table(found))
    if json_path is not None:
        json_path.write_text(reports.as_json(found), "utf-8")
    if plot_path is not None:
        reports.plot(found, plot_path)
    return found


def _server(dsn: str | None) -> AbstractContextManager[str]:
    if dsn is not None:
        return nullcontext(dsn)
    from pgqueue.bench.server import throw_away  # noqa: PLC0415 - only without a database

    return throw_away()
