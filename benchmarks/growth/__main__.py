"""What must not grow: the cost of a job with depth, queues and kinds; and what a worker takes.

    python -m benchmarks.growth [--scale 0.1] [--only PART] [--json FILE] [--plot FILE]

It starts a Postgres of its own. At scale 1 it stores 5,000,000 jobs and takes some minutes;
nothing else should be running. docs/benchmarks.md says what each figure means.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

import attrs
import psycopg
from benchmarks.growth import clients, parts, schedules
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

import pgqueue
from pgqueue import embedded
from pgqueue.bench.server import SETTINGS


@attrs.frozen
class Figure:
    """One figure, beside what it is compared with."""

    name: str
    base: float | None
    """The same where the load is small, or its floor; None if there is nothing to compare with."""
    value: float
    unit: str
    goal: str
    paired: float | None = None
    """The median of the ratios of single rounds, where base and value took turns."""

    @property
    def ratio(self) -> float | None:
        """How often the base goes into the value."""
        if self.paired is not None:
            return self.paired
        return None if self.base is None else self.value / self.base


MORE = {"shared_preload_libraries": "pg_stat_statements", "max_connections": "600"}


def main() -> None:
    """Parses the command line, measures, and shows and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the counts")
    parser.add_argument("--only", metavar="PART", help="one part, e.g. clients")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the cost by depth")
    given = parser.parse_args()
    console = Console()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("")
        figures: list[Figure] = []
        depths: list[parts.Depth] = []
        steps = list(_steps(given.scale, depths))
        chosen = [(name, step) for name, step in steps if given.only in (None, name)]
        if not chosen:
            parser.error(f"--only is one of: {', '.join(name for name, _ in steps)}")
        for name, step in chosen:
            progress.update(task, description=name)
            if not console.is_terminal:
                console.print(name)
            with database() as dsn:
                figures += step(dsn)
        with database() as dsn, psycopg.connect(dsn) as conn:
            server = str(conn.info.parameter_status("server_version"))
    about = (
        f"{datetime.now(timezone.utc):%Y-%m-%d}; {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores, python {platform.python_version()}, postgres {server}, "
        f"scale {given.scale:g}"
    )
    console.print(_table(figures, about))
    if given.json:
        data = {"about": about, "figures": [attrs.asdict(figure) for figure in figures]}
        data["depths"] = [attrs.asdict(depth) for depth in depths]
        given.json.write_text(json.dumps(data, indent=2) + "\n", "utf-8")
    if given.plot and depths:
        _plot(depths, given.plot, about)


def _steps(scale: float, depths: list[parts.Depth]) -> Iterator[tuple[str, parts.Step]]:
    def count(number: int) -> int:
        return max(1_000, int(number * scale))

    def by_depth(dsn: str) -> list[Figure]:
        deeper = [count(n) for n in parts.DEPTHS]
        depths.extend(parts.by_depth(dsn, [parts.LEAST, *deeper]))
        first, last = depths[0], depths[-1]
        named = f"{last.ready:,} ready jobs instead of {first.ready:,}"
        return [
            Figure(f"claim + ack, {named}", first.claim_us, last.claim_us, "us/job", "1.15x"),
            Figure(f"enqueue, {named}", first.enqueue_us, last.enqueue_us, "us/job", "1.15x"),
        ]

    def promotion(dsn: str) -> list[Figure]:
        due = count(1_000_000)
        seconds, longest, wait = parts.promotion(dsn, due)
        return [
            Figure(f"{due:,} jobs due at once: all promoted", None, seconds, "s", ""),
            Figure("... the longest round of maintenance", None, 1000 * longest, "ms", "1,000 ms"),
            Figure("... the longest claim meanwhile", None, 1000 * wait, "ms", "1,000 ms"),
        ]

    def breadth(dsn: str) -> list[Figure]:
        queues = count(10_000)
        alone, among, kinds = parts.by_breadth(dsn, queues)
        return [
            Figure(f"claim + ack, {queues:,} queues instead of 1", alone, among, "us/job", "1.3x"),
            Figure("claim + ack, 1,000 kinds instead of 1", alone, kinds, "us/job", "1.3x"),
        ]

    def memory(dsn: str) -> list[Figure]:
        jobs = count(1_000_000)
        early, late, peak = parts.memory(dsn, jobs)
        return [
            Figure(f"worker's memory after {jobs:,} jobs", early, late, "MB", "70 MB, flat"),
            Figure(f"enqueue_many of {jobs:,} from a generator", None, peak, "MB", "100 MB"),
        ]

    def idle(dsn: str) -> list[Figure]:
        statements, share = parts.idle(dsn, seconds=max(5.0, 30 * scale))
        claims, late = parts.herd(dsn, workers=100, jobs=20)
        return [
            Figure("idle worker: statements", None, statements, "/s", "1 /s"),
            Figure("idle worker: of a core", None, 100 * share, "%", "0.5 %"),
            Figure("100 idle workers: claims for each job", None, claims, "", "3"),
            Figure("100 idle workers: slowest pick-up", None, 1000 * late, "ms", ""),
        ]

    def by_clients(dsn: str) -> list[Figure]:
        return [
            Figure(
                f"{clients.CLIENTS} clients, {way}, {rates.scene}",
                rates.median(clients.BARE), rates.median(way), "/s", "0.90", rates.ratio(way),
            )
            for rates in clients.by_clients(dsn, seconds=max(0.3, scale))
            for way in clients.WAYS[1:]
        ]  # fmt: skip

    def ticks(dsn: str) -> list[Figure]:
        others = count(1_000_000)
        alone, among = schedules.tick(dsn, others)
        named = f"tick, {schedules.DUE:,} due among {others:,} schedules instead of alone"
        return [Figure(named, alone, among, "us/slot", "2x")]

    yield "depth", by_depth
    yield "promotion", promotion
    yield "queues and kinds", breadth
    yield "memory", memory
    yield "idle workers", idle
    yield "clients", by_clients
    yield "schedules", ticks


@contextmanager
def database() -> Iterator[str]:
    """A durable server with pgqueue installed, deleted afterwards."""
    with embedded.temporary(settings={**SETTINGS, **MORE}) as server:
        with pgqueue.Client(server.dsn) as client:
            client.migrate()
            with client.driver.connection() as conn:
                conn.execute("create extension pg_stat_statements")
        yield server.dsn


def _table(figures: list[Figure], about: str) -> Table:
    table = Table(title="What must not grow", caption=about, show_edge=False)
    table.add_column("measure")
    for name in ("small", "large", "ratio", "goal"):
        table.add_column(name, justify="right")
    for figure in figures:
        ratio = figure.ratio
        table.add_row(
            figure.name,
            "" if figure.base is None else f"{figure.base:,.1f} {figure.unit}",
            f"{figure.value:,.1f} {figure.unit}",
            "" if ratio is None else f"{ratio:.2f}",
            figure.goal,
        )
    return table


def _plot(depths: list[parts.Depth], path: Path, about: str) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - the extra `bench`

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    ready = [depth.ready for depth in depths]
    axes.plot(ready, [depth.claim_us for depth in depths], "o-", label="claim + ack of 100")
    axes.plot(ready, [depth.enqueue_us for depth in depths], "o-", label="enqueue of one")
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("ready jobs (log)")
    axes.set_ylabel("microseconds per job")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    axes.set_title(about, fontsize=6, color="#666666")
    figure.savefig(path)
    plt.close(figure)


if __name__ == "__main__":
    main()
