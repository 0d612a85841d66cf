"""pgqueue beside PgQueuer, Procrastinate, Awa, graphile-worker and pg-boss: one cluster, one run.

    python -m benchmarks.peers [--scale 0.1] [--rounds 3] [--systems pgqueue,pg-boss]

It installs the peers' latest versions into a scratch folder, starts a Postgres of its own, and
measures them in turn. A run at scale 1 takes some ten minutes on two cores; nothing
else should be running meanwhile. docs/benchmarks.md says what each figure means.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.peers import plots, report, suite, systems
from benchmarks.peers.cluster import cluster
from benchmarks.peers.figures import Report
from benchmarks.peers.install import Runtimes, install
from benchmarks.peers.plan import Plan
from benchmarks.peers.process import Drivers
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Parses the command line, measures, and shows and writes what was found."""
    given = _arguments()
    console = Console(width=given.width)
    chosen = systems.chosen(given.systems)
    if given.install:
        console.print("Installing the peers")
        runtimes = install(given.scratch, {system.runtime for system in chosen})
    else:
        runtimes = Runtimes(given.scratch)
    plan = Plan(scale=given.scale, rounds=given.rounds)
    if given.jobs:
        plan = Plan(scale=given.scale, rounds=given.rounds, drain_jobs=given.jobs)
    found = _run(console, Drivers(runtimes), chosen, plan)
    console.print(report.tables(found))
    given.out.mkdir(parents=True, exist_ok=True)
    data = given.out / "peers.json"
    data.write_text(report.as_json(found), "utf-8")
    for path in [data, *plots.plot(found, given.out)]:
        console.print(f"wrote {path}", soft_wrap=True)
    if found.failures:
        raise SystemExit("\n".join(["These steps failed:", *found.failures]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--scale", type=float, default=1.0, help="multiplies jobs and times (default 1)")
    add("--rounds", type=int, default=3, help="medians of so many rounds (default 3)")
    add("--jobs", type=int, help=f"jobs of a drain at scale 1 (default {Plan().drain_jobs:,})")
    add("--systems", metavar="NAME,...", help="only these (default all)")
    scratch, out = ROOT / ".bench-peers", ROOT / ".bench-peers" / "results"
    add("--scratch", type=Path, default=scratch, help="where the peers are installed")
    add("--out", type=Path, default=out, help="the folder for peers.json and the pictures")
    add("--width", type=int, help="columns of the tables (default those of the terminal)")
    add("--no-install", dest="install", action="store_false", help="use what is installed")
    return parser.parse_args()


def _run(console: Console, drivers: Drivers, chosen: list[systems.System], plan: Plan) -> Report:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress, cluster() as server:
        task = progress.add_task("starting", total=None)

        def show(name: str, done: int, total: int) -> None:
            progress.update(task, description=name, completed=done, total=total)
            if not console.is_terminal:
                console.print(f"{done + 1}/{total} {name}", soft_wrap=True)

        return suite.run(server, drivers, chosen, plan, show)


if __name__ == "__main__":
    main()
