"""Fixtures of the tests that call the SQL functions directly, as psql, a trigger or pg_cron would."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from threading import Barrier
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.rows import namedtuple_row
from psycopg.types.json import Jsonb
from tests.faults.harness.pooler import Pooler

from pgqueue.testing import travel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Db:
    """A connection on which functions of the schema are called by name."""

    def __init__(self, dsn: str, *, prepare: bool, **settings: str) -> None:
        self.dsn = dsn
        self.conn = psycopg.connect(dsn, autocommit=True, row_factory=namedtuple_row)
        if not prepare:
            self.conn.prepare_threshold = None
        for name, value in settings.items():
            self.conn.execute("select set_config(%s, %s, false)", (name, value))

    def rows(self, sql: str, *params: Any) -> list[Any]:
        """All rows."""
        cursor = self.conn.execute(sql, params or None)
        return cursor.fetchall() if cursor.description else []

    def one(self, sql: str, *params: Any) -> Any:
        """The first column of the only row, None if there is none."""
        rows = self.rows(sql, *params)
        assert len(rows) <= 1
        return rows[0][0] if rows else None

    def call(self, function: str, *args: Any, **named: Any) -> list[Any]:
        """The rows of a function; dicts go as JSON."""
        values = [*args, *named.values()]
        slots = ["%s"] * len(args) + [f"{name} => %s" for name in named]
        return self.rows(
            f"select * from pgqueue.{function}({', '.join(slots)})",
            *(Jsonb(value) if isinstance(value, dict) else value for value in values),
        )

    def value(self, function: str, *args: Any, **named: Any) -> Any:
        """The only value that a function returns."""
        return self.call(function, *args, **named)[0][0]

    def enqueue(self, kind: str = "k", **options: Any) -> int:
        """The id of a new job, or of the holder of its key."""
        return int(self.call("enqueue", kind, **options)[0].id)

    def enqueue_many(self, *jobs: dict[str, Any]) -> list[tuple[int, int, bool]]:
        """Place, id and duplicate of each."""
        return [tuple(row) for row in self.call("enqueue_many", Jsonb(list(jobs)))]

    def fill(self, count: int, queue: str = "default", priority: int = 5, kind: str = "k") -> None:
        """Many ready jobs."""
        self.rows(
            "select count(*) from pgqueue.enqueue_many((select jsonb_agg(jsonb_build_object("
            "'kind', %s::text, 'queue', %s::text, 'priority', %s::int, 'payload', jsonb_build_object('n', n)))"
            " from generate_series(1, %s) n))", kind, queue, priority, count,
        )  # fmt: skip

    def claim(
        self, count: int = 1, queue: str | list[str] = "default", **options: Any
    ) -> list[Any]:
        """Claimed jobs."""
        queues = [queue] if isinstance(queue, str) else queue
        return self.call("claim", queues=queues, count=count, **options)

    def claim_one(self, **options: Any) -> Any:
        """The only job that is ready."""
        (job,) = self.claim(2, **options)
        return job

    def end(self, function: str, *jobs: Any, **named: Any) -> list[int]:
        """The ids that ack, fail and the like call lost."""
        ids, tokens = [job.id for job in jobs], [job.token for job in jobs]
        lost: list[int] = self.value(function, ids, tokens, **named)
        return lost

    def job(self, job_id: int) -> Any:
        """The row of an unfinished job, or None."""
        return next(iter(self.rows("select * from pgqueue.job where id = %s", job_id)), None)

    def state(self, job_id: int) -> str | None:
        """The job's state; None if there is no such job."""
        state: str | None = self.one("select state from pgqueue.all_jobs where id = %s", job_id)
        return state

    def history(self, job_id: int) -> list[dict[str, Any]]:
        """The job's earlier attempts."""
        return self.one("select history from pgqueue.all_jobs where id = %s", job_id) or []

    def travel(self, **delta: float) -> None:
        """Moves the database's clock."""
        travel(self.dsn, timedelta(**delta))

    def expire(self, job_id: int) -> None:
        """Lets the lease of a job run out."""
        self.rows(
            "update pgqueue.job set lease_until = pgqueue.clock() - interval '1 s' where id = %s",
            job_id,
        )

    @contextmanager
    def transaction(self, begin: str = "begin") -> Iterator[None]:
        """A transaction that is rolled back."""
        self.conn.execute(begin)
        try:
            yield
        finally:
            self.conn.execute("rollback")


@pytest.fixture
def connect(pgqueue_dsn: str, pooled: Pooler | None) -> Iterator[Callable[..., Db]]:
    """Makes more connections to the database of this test; keyword arguments are settings."""
    with ExitStack() as stack:

        def connect(**settings: str) -> Db:
            if pooled and settings:
                pytest.skip("through a pooler: settings belong to a session")
            db = Db(pgqueue_dsn, prepare=not pooled, **settings)
            stack.callback(db.conn.close)
            return db

        yield connect


@pytest.fixture
def db(connect: Callable[..., Db]) -> Db:
    """A connection to the database of this test."""
    return connect()


@pytest.fixture
def together() -> Callable[..., list[Any]]:
    """Runs calls at the same time, each on a thread; returns their results, or raises the first error."""

    def together(*calls: Callable[[], Any]) -> list[Any]:
        barrier = Barrier(len(calls))

        def run(call: Callable[[], Any]) -> Any:
            barrier.wait(10)
            return call()

        with ThreadPoolExecutor(len(calls)) as pool:
            return [future.result(60) for future in [pool.submit(run, call) for call in calls]]

    return together
