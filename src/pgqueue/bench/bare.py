"""The floors: what the same durable writes cost without a queue around them.

`bare_job` and `bare_archive` are tables like pgqueue's own, with the same columns, indexes and
storage settings. The loops do what a queue cannot do without (claim with SKIP LOCKED, end with a
delete, keep a copy), with hand-written statements on one connection.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from collections.abc import Callable

PAYLOAD = '{"to":"somebody@example.org","subject":"welcome","n":1}'


class Bare:
    """The bare tables in a schema of their own."""

    def __init__(self, dsn: str, schema: str) -> None:
        """The tables are made in pgqueue's own schema, like job and archive there."""
        self.dsn = dsn
        self.job = f'"{schema}".bare_job'
        self.archive = f'"{schema}".bare_archive'
        self.insert = (
            f"insert into {self.job} (queue, kind, payload, max_attempts) "
            "values (%s, %s, %s::jsonb, 20) returning id"
        )
        """Stores one job; its parameters are queue, kind and payload."""
        self._schema = f'"{schema}"'
        self._conn = psycopg.connect(dsn, autocommit=True)

    def create(self) -> None:
        """Makes the tables anew."""
        # Storage parameters are not copied by LIKE.
        self._run(
            f"drop table if exists {self.job}, {self.archive};"
            f"create table {self.job} (like {self._schema}.job including all) with ("
            "fillfactor = 40, autovacuum_vacuum_scale_factor = 0.01, "
            "autovacuum_vacuum_threshold = 5000, "
            "autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off);"
            f"create table {self.archive} (like {self._schema}.archive including all);"
        )

    def fill(self, count: int) -> None:
        """Stores `count` ready jobs, vacuumed and analysed."""
        self._run(
            f"insert into {self.job} (queue, kind, payload, max_attempts) "
            f"select 'bench', 'noop', '{PAYLOAD}', 20 from generate_series(1, {count})"
        )
        self._run(f"vacuum (analyze) {self.job}")

    def insert_one_by_one(self, count: int) -> float:
        """Seconds for `count` inserts, each its own transaction."""
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            return _seconds(
                lambda: [
                    conn.execute(self.insert, ("bench", "noop", PAYLOAD)).fetchone()
                    for _ in range(count)
                ]
            )

    def copy(self, count: int) -> float:
        """Seconds for a COPY of `count` rows."""
        line = f"bench\tnoop\t{PAYLOAD}\t20\n"
        with psycopg.connect(self.dsn, autocommit=True) as conn:

            def work() -> None:
                with conn.cursor().copy(
                    f"copy {self.job} (queue, kind, payload, max_attempts) from stdin"
                ) as copy:
                    for start in range(0, count, 1000):
                        copy.write(line * min(1000, count - start))

            return _seconds(work)

    def drain(self, batch: int, *, keep: bool) -> tuple[int, float]:
        """Claims and ends all jobs, `batch` at a time: how many, in how many seconds.

        `keep` archives them.
        """
        claim = (
            f"update {self.job} set token = 1, lease_until = clock_timestamp() + interval '30 s', "
            "claimed_at = clock_timestamp(), attempt = attempt + 1 where id = any (array("
            f"select id from {self.job} where queue = 'bench' and priority = 5 and position >= %s "
            "and lease_until is null order by position limit %s for update skip locked)) "
            "returning id, kind, payload, attempt, position"
        )
        end = f"delete from {self.job} where id = any (%s::bigint[])"
        if keep:
            columns = (
                "id, run_at, enqueued_at, claimed_at, token, attempt, max_attempts, priority, "
                "queue, kind, payload, worker, backoff, dedupe_until, dedupe_key, tags, "
                "metadata, ref, history"
            )
            end = (
                f"with gone as ({end} returning *) "
                f"insert into {self.archive} ({columns}, state, finished_at) "
                f"select {columns}, 'succeeded', clock_timestamp() from gone"
            )
        floor = done = 0
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            started = time.perf_counter()
            while rows := conn.execute(claim, (floor, batch), binary=True).fetchall():
                floor = max(row[4] for row in rows)
                conn.execute(end, ("{" + ",".join(str(row[0]) for row in rows) + "}",))
                done += len(rows)
            return done, time.perf_counter() - started

    def notify(self, count: int) -> list[float]:
        """Seconds from NOTIFY to the listener's wake-up, `count` times."""
        delays = []
        with psycopg.connect(self.dsn, autocommit=True) as listener:
            listener.execute("listen pgqueue_bench")
            for _ in range(count):
                sent = time.perf_counter()
                self._run("notify pgqueue_bench")
                if next(listener.notifies(timeout=1), None) is not None:
                    delays.append(time.perf_counter() - sent)
        return delays

    def close(self) -> None:
        """Closes the connection."""
        self._conn.close()

    def _run(self, sql: str) -> None:
        self._conn.execute(sql)


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
