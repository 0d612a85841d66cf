"""How long operators wait: pages, counts and the count of a minute, with millions of jobs.

    python -m benchmarks.pages [--scale 0.1] [--rounds 20] [--json FILE]

It starts a Postgres of its own. At scale 1 it stores 5,000,000 finished jobs of the last ten days
and 1,000,000 that wait, which takes two minutes. docs/benchmarks.md says what the figures mean.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table

from pgqueue import Client, JobFilter
from pgqueue.bench.server import throw_away
from pgqueue.errors import FilterTooBroad

FINISHED = 5_000_000
WAITING = 1_000_000
# One job in 10,000 is of a rare queue and kind; one in 1,000 is dead, one in 500 cancelled.
_MIXED = """
    case when n %% 10000 = 7 then 'rare' else 'q' || n %% 10 end,
    case when n %% 10000 = 7 then 'rare' else 'kind.' || n %% 50 end,
    jsonb_build_object('to', 'user-' || n || '@example.org', 'n', n),
    case when n %% 100 = 0 then array['vip'] end
"""
_ARCHIVE = f"""
insert into pgqueue.archive (
    id, state, finished_at, run_at, enqueued_at, claimed_at, token, attempt, max_attempts, priority,
    queue, kind, payload, tags, worker, ref, history
)
select nextval('pgqueue.job_id_seq'),
    case when n %% 1000 = 3 then 'dead' when n %% 500 = 4 then 'cancelled' else 'succeeded' end,
    t.t, t.t - interval '2 s', t.t - interval '3 s', t.t - interval '1 s', n, 1, 20, 5, m.queue,
    m.kind, m.payload, m.tags, 'w',
    case when n %% 10 = 0 then 'user:' || n end,
    case when n %% 1000 = 3 then jsonb_build_array(jsonb_build_object(
        'attempt', 1, 'outcome', 'failed', 'error_class', 'ValueError', 'error', 'no such user'
    )) end
from generate_series(%s::bigint, %s::bigint) n
cross join lateral (select clock_timestamp() - interval '10 days' * (1 - n / %s::float8) as t) t
cross join lateral (select {_MIXED}) m (queue, kind, payload, tags)
"""
_JOB = f"""
insert into pgqueue.job (max_attempts, queue, kind, payload, tags, run_at, position)
select 20, m.queue, m.kind, m.payload, m.tags,
    clock_timestamp() + case when n %% 10 = 1 then interval '1 s' * (n / 10) else interval '0' end,
    case when n %% 10 <> 1 then nextval('pgqueue.position_seq') end
from generate_series(%s::bigint, %s::bigint) n
cross join lateral (select {_MIXED}) m (queue, kind, payload, tags)
"""
STEP = 250_000


def fill(conn: psycopg.Connection[Any], finished: int, waiting: int) -> None:
    """Stores the jobs, by days, in the archive's own partitions."""
    for ago in range(11):
        day = (datetime.now(timezone.utc) - timedelta(days=ago)).date()
        for part in ("dead", "done"):
            name = f"archive_{part}_{day:%Y%m%d}_00"
            conn.execute(
                f"create table if not exists pgqueue.{name} (like pgqueue.archive)".encode()
            )
            known = conn.execute(
                "select 1 from pg_inherits where inhrelid = %s::regclass", (f"pgqueue.{name}",)
            )
            if known.fetchone() is None:
                conn.execute(
                    f"alter table pgqueue.archive_{part} attach partition pgqueue.{name} "
                    f"for values from ('{day} 00:00Z') "
                    f"to ('{day + timedelta(days=1)} 00:00Z')".encode()
                )
    conn.execute("set synchronous_commit = off")
    for begin in range(1, finished + 1, STEP):
        conn.execute(_ARCHIVE.encode(), (begin, min(begin + STEP - 1, finished), finished))
    for begin in range(1, waiting + 1, STEP):
        conn.execute(_JOB.encode(), (begin, min(begin + STEP - 1, waiting)))
    conn.execute(
        "select pgqueue._enqueued(array_agg(queue), array_agg(5::smallint)) "
        "from (select distinct queue from pgqueue.job) q"
    )
    conn.execute("vacuum (analyze) pgqueue.job, pgqueue.archive")


def searches(client: Client) -> dict[str, Callable[[], object]]:
    """What is timed."""
    now = datetime.now(timezone.utc)
    operations = client.operations

    def page(**given: Any) -> Callable[[], object]:  # noqa: ANN401 - a filter's
        return lambda: operations.search(JobFilter(**given))

    def second(**given: Any) -> Callable[[], object]:  # noqa: ANN401
        after = operations.search(JobFilter(**given)).next
        return lambda: operations.search(JobFilter(**given), after=after)

    return {
        "all": page(),
        "all, second page": second(),
        "claimed": page(state="claimed"),
        "ready": page(state="ready"),
        "scheduled": page(state="scheduled"),
        "succeeded": page(state="succeeded"),
        "succeeded, second page": second(state="succeeded"),
        "dead": page(state="dead"),
        "dead, by part of an error": page(state="dead", error="such user"),
        "cancelled": page(state="cancelled"),
        "succeeded, of a queue": page(state="succeeded", queue="q3"),
        "succeeded, of a kind": page(state="succeeded", kind="kind.7"),
        "succeeded, with a tag": page(state="succeeded", tag="vip"),
        "succeeded, an hour of last week": page(
            state="succeeded", finished_after=now - timedelta(days=7),
            finished_before=now - timedelta(days=7) + timedelta(hours=1),
        ),
        "about one thing": page(ref="user:2500000"),
        "in a payload, last hour": page(
            finished_after=now - timedelta(hours=1), payload={"to": "nobody"}
        ),
        "succeeded, of a rare queue": page(state="succeeded", queue="rare"),
        "ready, of a rare queue": page(state="ready", queue="rare"),
        "ready, of a rare kind": page(state="ready", kind="rare"),
        "one in a payload, anywhere": page(
            state="succeeded", payload={"to": "user-5@example.org"}
        ),
        "count of all, up to 10,000": operations.count,
        "count of dead, up to 10,000": lambda: operations.count(JobFilter(state="dead")),
    }  # fmt: skip


def timed(call: Callable[[], object], rounds: int) -> tuple[float, float] | None:
    """The median and the longest of several calls, in milliseconds; None: the deadline passed."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        try:
            call()
        except FilterTooBroad:
            return None
        times.append(1000 * (time.perf_counter() - started))
        if sum(times) > 5_000:  # noqa: PLR2004 - milliseconds: slow ones need no more rounds
            break
    return statistics.median(times), max(times)


def main() -> None:
    """Parses the command line, measures, and shows and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the counts")
    parser.add_argument("--rounds", type=int, default=20, help="calls of each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    given = parser.parse_args()
    finished, waiting = int(FINISHED * given.scale), int(WAITING * given.scale)
    console, figures = Console(), {}
    with throw_away() as dsn, Client(dsn) as client:
        client.migrate()
        started = time.perf_counter()
        with psycopg.connect(dsn, autocommit=True) as conn:
            fill(conn, finished, waiting)
            console.print(
                f"{finished:,} finished and {waiting:,} waiting jobs stored in "
                f"{time.perf_counter() - started:.0f} s"
            )
            client.claim("q1", limit=100)
            for name, call in searches(client).items():
                figures[name] = timed(call, given.rounds)
            for name, sql in {
                "upkeep's count of a minute": "select pgqueue._count_minute(clock_timestamp() - "
                "interval '1 minute', clock_timestamp(), true)",
                "stats": "select count(*) from pgqueue.stats()",
            }.items():
                figures[name] = timed(lambda sql=sql: conn.execute(sql.encode()).fetchall(), 5)  # type: ignore[misc]
    table = Table("Page of 50", "median ms", "longest ms")
    for name, found in figures.items():
        cells = ("over 5 s", "") if found is None else tuple(f"{ms:,.1f}" for ms in found)
        table.add_row(name, *cells)
    console.print(table)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
