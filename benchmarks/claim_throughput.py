"""How fast pgqueue enqueues, claims, acks and drains here, each figure beside its floor.

    python benchmarks/claim_throughput.py [--dsn DSN] [--scale 0.2] [--json FILE] [--plot FILE]

Without a DSN it starts a Postgres of its own. A full run takes some minutes; nothing else
should be running.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pgqueue.bench.command import bench
from pgqueue.bench.suite import Plan


def main() -> None:
    """Parses the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dsn", help="the database; default: a throw-away embedded server")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="multiplies the number of jobs (default 1)"
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="medians of so many rounds (default 3)"
    )
    parser.add_argument(
        "--clients", type=int, default=2, help="the most clients that claim and ack (default 2)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a picture, .svg or .png")
    given = parser.parse_args()
    plan = Plan(scale=given.scale, rounds=given.rounds, clients=given.clients)
    bench(given.dsn, plan, json_path=given.json, plot_path=given.plot)


if __name__ == "__main__":
    main()
