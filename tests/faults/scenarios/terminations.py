"""Sessions are ended by pg_terminate_backend, all of them or some, again and again under load."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import psycopg
from tests.faults.harness.database import unfinished
from tests.faults.harness.ledger import Ledger, audit
from tests.faults.harness.producers import Producers
from tests.faults.harness.report import Report
from tests.faults.harness.run import Run
from tests.faults.harness.waiting import until
from tests.faults.harness.workers import Workers

from pgqueue import Client

PER_SECOND = 200
CREW = 3
LEASE = 1.0
THREADS = 6
SHARES = (0.2, 1.0, 1.0)
LONGEST_PAUSE = 0.3
FIND = """
    select pid, backend_start from pg_stat_activity
    where datname = current_database() and application_name = 'pgqueue'"""
Session = tuple[int, datetime]


def run(run: Run) -> Report:
    """Ends sessions of clients and of workers until enough of them were ended."""
    wanted = run.count(60, 5_000)
    dsn, ledger = run.dsn(), Ledger(run.folder)
    settings = {"lease": LEASE, "concurrency": 4}
    storms = ended = 0
    with (
        Client(dsn) as client,
        Workers(run.folder, dsn, ledger, settings) as workers,
        psycopg.connect(dsn, autocommit=True, application_name="storm") as conn,
    ):
        for _ in range(CREW):
            workers.start()
        with Producers(client, ledger, run.rng, PER_SECOND, THREADS) as producers:
            until(lambda: len(ledger.read().jobs("acked")) > CREW, "work has begun")
            while ended < wanted:
                chance = run.rng.choice(SHARES)
                chosen = [one for one in sorted(_sessions(conn)) if run.rng.random() < chance]
                ended += _storm(conn, chosen)
                storms += 1
                run.tell(ended, wanted)
                producers.check()
                time.sleep(run.rng.uniform(0, LONGEST_PAUSE))
        until(lambda: unfinished(client) == 0, "all jobs are done", 60)
        codes = workers.end()
    report = audit(dsn, ledger)
    report.faults = ended
    report.promise("workers that did not end in order", sum(map(bool, codes)), 0)
    report.notes.append(f"{storms} storms; {producers.failed} enqueues failed")
    return report


def _sessions(conn: psycopg.Connection[Any]) -> set[Session]:
    return set(conn.execute(FIND).fetchall())


def _storm(conn: psycopg.Connection[Any], sessions: list[Session]) -> int:
    """Ends sessions; returns how many there were that are gone now."""
    pids = [pid for pid, _ in sessions]
    conn.execute("select pg_terminate_backend(pid) from unnest(%s::int[]) pid", [pids])
    until(lambda: not _sessions(conn).intersection(sessions), "the sessions have ended")
    return len(sessions)
