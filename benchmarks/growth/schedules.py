"""What a tick costs: a thousand schedules due, alone and among many that are not."""

from __future__ import annotations

import statistics
import time

import psycopg

from pgqueue import Client

DUE = 1_000
ROUNDS = 7
_MAKE_DUE = """
    update pgqueue.schedule set next_run_at = pgqueue.clock() - interval '1 second'
    where name in (select 'due' || n from generate_series(1, %s) n)
"""
_PUT = """
    insert into pgqueue.schedule (name, kind, every, starts_at, changed_at, next_run_at)
    select case when n <= %s then 'due' else 'other' end || n, 'noop', '1 hour', now(), now(),
        now() + interval '1 day' * (1 + random())
    from generate_series(1, %s) n order by random()
"""


def tick(dsn: str, others: int) -> tuple[float, float]:
    """Microseconds per slot, medians: alone, and among `others` that are due a day later."""
    with Client(dsn) as client, psycopg.connect(dsn, autocommit=True) as conn:
        # Next slots by hand: the trigger takes a tenth of a millisecond for each.
        conn.execute("alter table pgqueue.schedule disable trigger user")
        alone, among = (_measured(client, conn, DUE + more) for more in (0, others))
        conn.execute("alter table pgqueue.schedule enable trigger user")
        return alone, among


def _measured(client: Client, conn: psycopg.Connection, count: int) -> float:
    """Of `count` schedules, in an order by chance, the thousand that are made due."""
    conn.execute("truncate pgqueue.schedule, pgqueue.schedule_run, pgqueue.job")
    conn.execute(_PUT, (DUE, count))
    return _median(client, conn)


def _median(client: Client, conn: psycopg.Connection) -> float:
    took = []
    for _ in range(ROUNDS):
        conn.execute(_MAKE_DUE, (DUE,))
        conn.execute("vacuum (analyze) pgqueue.schedule, pgqueue.schedule_run, pgqueue.job")
        started = time.perf_counter()
        fired = client.schedules.tick(DUE)
        took.append(1e6 * (time.perf_counter() - started) / fired)
    return statistics.median(took)
