"""The soak: every scenario in its full profile, shown as a table.

    python -m tests.faults [--only kills,zombies] [--seed N] [--fast] [--json FILE]

It starts a Postgres of its own. Exits with 1 if anything was lost, done twice, or promised in vain.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import psycopg
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from tests.faults.harness.report import Result, as_data, show
from tests.faults.harness.run import Scenario, Stage
from tests.faults.scenarios import SCENARIOS

from pgqueue import embedded
from pgqueue.testing.databases import Databases

SETTINGS = {"fsync": "on", "full_page_writes": "on", "max_connections": "300"}
"""As durable as any server."""
WIDTH = 100
"""Of what is written to a file."""


def main() -> int:
    """Parses the command line, plays the scenarios, and shows and writes what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Injects faults.")
    parser.add_argument("--only", metavar="NAMES", help="these scenarios, separated by commas")
    parser.add_argument("--seed", type=int, help="of what is left to chance; printed")
    parser.add_argument("--fast", action="store_true", help="the fast profile, that of the tests")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    given = parser.parse_args()
    try:
        scenarios = _chosen(given.only)
    except KeyError as error:
        parser.error(f"no scenario {error}; there are: {', '.join(s.name for s in SCENARIOS)}")
    seed = secrets.randbelow(2**31) if given.seed is None else given.seed
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    with embedded.temporary(settings=SETTINGS) as server, Databases(server.dsn) as databases:
        about = _about(server.dsn, seed)
        stage = Stage(databases, databases.create_template("pgqueue"), not given.fast, seed)
        results = _play(stage, scenarios, console)
    show(console, about, results)
    if given.json:
        given.json.write_text(json.dumps(as_data(about, results), indent=2) + "\n", "utf-8")
    return 0 if all(result.ok for result in results) else 1


def _chosen(only: str | None) -> Sequence[Scenario]:
    if only is None:
        return SCENARIOS
    by_name = {scenario.name: scenario for scenario in SCENARIOS}
    return [by_name[name] for name in only.split(",")]


def _about(dsn: str, seed: int) -> dict[str, object]:
    with psycopg.connect(dsn) as conn:
        server = conn.info.parameter_status("server_version")
    return {
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d}",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "postgres": server,
        "seed": seed,
        "command": shlex.join(["python", "-m", "tests.faults", *sys.argv[1:]]),
    }


def _play(stage: Stage, scenarios: Sequence[Scenario], console: Console) -> list[Result]:
    results = []
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as progress:
        for scenario in scenarios:
            bar = progress.add_task(scenario.title, total=None)
            result = stage.result(scenario, partial(_move, progress, bar))
            progress.remove_task(bar)
            progress.console.print(
                f"{scenario.name}: {'ok' if result.ok else 'FAILED'} in {result.seconds:.1f} s"
            )
            results.append(result)
    return results


def _move(progress: Progress, bar: TaskID, done: int, total: int) -> None:
    progress.update(bar, completed=done, total=total)


if __name__ == "__main__":
    raise SystemExit(main())
