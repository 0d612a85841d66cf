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
_OTHERS = """
    insert into pgqueue.schedule (name, kind, every, changed_at, next_run_at)
    select 'other' || n, 'noop', '1 day', now(), now() + interval '1 day' * (1 + random())
    from generate_series(1, %s) n
"""


def tick(dsn: str, others: int) -> tuple[float, float]:
    """Microseconds per slot, medians: alone, and among `others` that are due a day later."""
    with Client(dsn) as client, psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(
            "insert into pgqueue.schedule (name, kind, every) "
            "select 'due' || n, 'noop', '1 hour' from generate_series(1, %s) n",
            (DUE,),
        )
        alone = _median(client, conn)
        # By hand, as the trigger would have it: it takes a tenth of a millisecond for each.
        conn.execute("alter table pgqueue.schedule disable trigger user")
        conn.execute(_OTHERS, (others,))
        conn.execute("alter table pgqueue.schedule enable trigger user")
        return alone, _median(client, conn)


def _median(client: Client, conn: psycopg.Connection) -> float:
    took = []
    for _ in range(ROUNDS):
        conn.execute(_MAKE_DUE, (DUE,))
        conn.execute("vacuum (analyze) pgqueue.schedule, pgqueue.schedule_run, pgqueue.job")
        started = time.perf_counter()
        fired = client.schedules.tick(DUE)
        took.append(1e6 * (time.perf_counter() - started) / fired)
    return statistics.median(took)
