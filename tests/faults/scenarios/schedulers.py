"""Five schedulers, of which the one that fires is killed on the slot.

Before its commit, and then the slot is another's; or after it, and then it is nobody's. Each slot
becomes one job, whatever the moment.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from datetime import datetime, timedelta, timezone
from functools import partial

from tests.faults.harness.database import rows
from tests.faults.harness.report import Report
from tests.faults.harness.run import Run
from tests.faults.harness.waiting import until

from pgqueue import Client, Schedule

SCHEDULERS = 5
SCHEDULES = 5
"""Each with a slot every second, and apart, so that each tick finds one."""
EPOCH = datetime(2026, 1, 1, tzinfo=timezone.utc)
SLOWEST = 60.0
"""Seconds for a slot, on a busy machine where most schedulers are just starting."""
SCHEDULER = """
import os, random, signal, sys, time
from pgqueue import Client
chance = random.Random(sys.argv[2])
def die(probability):
    if chance.random() < probability:
        os.kill(os.getpid(), signal.SIGKILL)
with Client(sys.argv[1]) as client:
    while True:
        with client.driver.transaction() as conn:
            fired = client.schedules.tick(conn=conn)
            if fired:
                die(0.5)
        if fired:
            die(0.8)
        time.sleep(0.02)
"""
SLOTS = """
    select s.name, extract(epoch from r.slot - s.starts_at)::float8, r.outcome,
        extract(epoch from r.fired_at - r.slot)::float8
    from pgqueue.schedule_run r join pgqueue.schedule s on s.id = r.schedule_id
"""
JOBS = "select metadata ->> 'schedule', metadata ->> 'slot' from pgqueue.job"


def run(run: Run) -> Report:
    """Replaces each one that was killed, until there were enough slots."""
    report = Report()
    wanted = run.count(20, 200)
    dsn = run.dsn()
    with Client(dsn) as client:
        firsts = {f"s{n}": _put(client, f"s{n}", n / SCHEDULES) for n in range(SCHEDULES)}
        crew: list[subprocess.Popen[bytes]] = []
        try:
            fired = 0
            while fired < wanted:
                report.faults += _replace(crew, dsn, run)
                news = partial(_is_news, client, fired, crew)
                until(news, "a slot or a death", SLOWEST)
                fired = _fired(client)
                run.tell(min(fired, wanted), wanted)
        finally:
            for process in crew:
                process.kill()
            for process in crew:
                process.wait()
        _wait_for_sessions(client)
        _account(client, firsts, report)
    return report


def _put(client: Client, name: str, apart: float) -> int:
    """Makes a schedule; gives the number of its first slot."""
    starts_at = EPOCH + timedelta(seconds=apart)
    second = timedelta(seconds=1)
    client.schedules.put(Schedule(name, "work", every=second, starts_at=starts_at, catch_up=1000))
    first = client.schedules.get(name).next_run_at
    assert first is not None
    return (first - starts_at) // second


def _replace(crew: list[subprocess.Popen[bytes]], dsn: str, run: Run) -> int:
    """Starts as many as are missing; how many of them were killed."""
    dead = [process for process in crew if process.poll() is not None]
    for process in dead:
        crew.remove(process)
    while len(crew) < SCHEDULERS:
        seed = str(run.rng.random())
        crew.append(subprocess.Popen([sys.executable, "-c", SCHEDULER, dsn, seed]))
    return sum(process.returncode == -signal.SIGKILL for process in dead)


def _fired(client: Client) -> int:
    return int(rows(client, "select count(*) from pgqueue.schedule_run")[0][0])


def _is_news(client: Client, fired: int, crew: list[subprocess.Popen[bytes]]) -> bool:
    return any(process.poll() is not None for process in crew) or _fired(client) > fired


def _wait_for_sessions(client: Client) -> None:
    """What a killed client began, the server may be about to end."""
    query = (
        "select count(*) = 1 from pg_stat_activity "
        "where datname = current_database() and backend_type = 'client backend'"
    )
    until(lambda: bool(rows(client, query)[0][0]), "the sessions of the dead have ended")


def _account(client: Client, firsts: dict[str, int], report: Report) -> None:
    jobs = Counter(rows(client, JOBS))
    report.jobs = len(jobs)
    report.double_acked = sum(count - 1 for count in jobs.values())
    slots = rows(client, SLOTS)
    for name, first in firsts.items():
        fired = {
            round(number) for of, number, outcome, _ in slots if (of, outcome) == (name, "enqueued")
        }
        # From the first one to the last, none is left out.
        report.lost += len(set(range(first, max(fired, default=first) + 1)) - fired)
    report.recovery = [late for *_, late in slots]
    report.promise("entries of the history without a job", max(0, len(slots) - len(jobs)), 0)
    report.promise("jobs without an entry in the history", max(0, len(jobs) - len(slots)), 0)
