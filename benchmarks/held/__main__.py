"""A worker that stays up for a million mixed jobs while somebody holds an old snapshot.

    python -m benchmarks.held [--scale 0.1] [--json FILE] [--plot FILE] [--markdown FILE]

It starts a Postgres of its own. At scale 1 a million jobs go through in forty rounds, which takes
some ten minutes; nothing else should be running. docs/benchmarks.md says what each figure means.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from datetime import datetime, timezone
from pathlib import Path

import attrs
from benchmarks.held import report
from benchmarks.held.rounds import Round, rounds
from benchmarks.peers.cluster import cluster
from rich.console import Console

JOBS = 1_000_000
SIZE = 25_000
LEAST = 400
"""Jobs that a round has whatever the scale: of fewer no p99 can be told."""


def main() -> None:
    """Parses the command line, measures, and shows and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--scale", type=float, default=1.0, help="multiplies the jobs of a round")
    add("--rounds", type=int, default=JOBS // SIZE, help="how many (default 40)")
    add("--json", type=Path, metavar="FILE", help="write all rounds")
    add("--plot", type=Path, metavar="FILE", help="draw them over the jobs churned")
    add("--markdown", type=Path, metavar="FILE", help="write the table as the documentation has it")
    given = parser.parse_args()
    console = Console()
    size = max(LEAST, int(SIZE * given.scale))
    found: list[Round] = []
    with cluster() as server:
        for one in rounds(server, given.rounds, size):
            found.append(one)
            console.print(f"{one.churned:,} jobs: {one.drain:,.0f} /s, {one.claim}", soft_wrap=True)
        version = server.scalar("show server_version")
    about = (
        f"{datetime.now(timezone.utc):%Y-%m-%d}; {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores, python {platform.python_version()}, postgres {version}, "
        f"{given.rounds} rounds of {size:,} jobs"
    )
    console.print(report.table(found, about))
    if given.json:
        data = {"about": about, "rounds": [attrs.asdict(one) for one in found]}
        given.json.write_text(json.dumps(data, indent=2) + "\n", "utf-8")
    if given.markdown:
        given.markdown.write_text(report.markdown(found), "utf-8")
    if given.plot:
        report.plot(found, given.plot, about)


if __name__ == "__main__":
    main()
