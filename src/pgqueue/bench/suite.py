"""Which measures are taken, how often, and in what order."""

from __future__ import annotations

import os
import platform
import statistics
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import attrs
import psycopg

from pgqueue.bench import workloads
from pgqueue.bench.bare import Bare
from pgqueue.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCHEMA = "pgqueue_bench"
JOBS_BY_BATCH = {1: 1_500, 10: 10_000, 100: 50_000, 1000: 50_000}
LATENCY_RATE = 50.0
"""Jobs per second while latency is measured: the worker falls asleep in between."""


@attrs.frozen
class Plan:
    """How much to measure."""

    scale: float = 1.0
    """Multiplies the number of jobs of each measure."""
    rounds: int = 3
    """How often each measure and its floor are taken, in turn; medians are reported."""
    clients: int = 2
    """Claim and ack is measured with 1 and with this many clients."""

    def jobs(self, count: int) -> int:
        """`count`, scaled; at least 100."""
        return max(100, int(count * self.scale))


@attrs.frozen
class Measure:
    """One figure and its floor, both the medians of their rounds."""

    name: str
    unit: str
    value: float
    floor: float
    floor_name: str
    rounds: tuple[float, ...] = ()
    floor_rounds: tuple[float, ...] = ()

    @property
    def ratio(self) -> float:
        """The figure as a share of its floor (of rates: 1 is as fast as bare)."""
        return self.value / self.floor


@attrs.frozen
class Report:
    """All figures of a run, and what they were taken on."""

    started: datetime
    versions: dict[str, str]
    machine: str
    settings: dict[str, str]
    measures: tuple[Measure, ...]


def run(dsn: str, plan: Plan, progress: Callable[[str, int, int], None]) -> Report:
    """Takes all measures on the database of `dsn`, in a schema that is dropped afterwards.

    `progress` is called as each begins: its name, how many are done, how many there are.
    """
    started = datetime.now(timezone.utc)
    measures: list[Measure] = []
    with _prepared(dsn) as (client, bare):
        suite = Suite(client, bare, plan)
        steps = suite.steps()
        for number, (name, step) in enumerate(steps):
            progress(name, number, len(steps))
            measures += step(name)
    with psycopg.connect(dsn) as conn:
        shown = ("fsync", "synchronous_commit", "shared_buffers", "full_page_writes", "wal_level")
        settings = {name: _show(conn, name) for name in shown}
        versions = {
            "python": platform.python_version(),
            "psycopg": psycopg.__version__,
            "postgres": _show(conn, "server_version"),
        }
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return Report(started, versions, machine, settings, tuple(measures))


class Suite:
    """The measures, each with its floor, taken in turn."""

    def __init__(self, client: Client, bare: Bare, plan: Plan) -> None:
        self._client = client
        self._bare = bare
        self._plan = plan

    def steps(self) -> list[tuple[str, Callable[[str], list[Measure]]]]:
        """Each step's name, and what takes it."""
        steps: list[tuple[str, Callable[[str], list[Measure]]]] = [
            ("enqueue one by one", self._enqueue_one_by_one),
            ("enqueue in bulk", self._enqueue_in_bulk),
        ]
        for clients in sorted({1, self._plan.clients}):
            for batch in JOBS_BY_BATCH:
                who = "1 client" if clients == 1 else f"{clients} clients"
                steps.append(
                    (f"claim + ack, batch {batch}, {who}", self._claim_and_ack(batch, clients))
                )
        return [
            *steps,
            ("worker drain, 1 process", self._drain(1)),
            ("worker drain, 2 processes", self._drain(2)),
            ("worker drain, sync handlers", self._drain(1, sync=True)),
            ("worker drain, retention off", self._drain(1, keep=False)),
            ("pick-up latency", self._latency),
        ]

    def _rates(
        self,
        name: str,
        floor_name: str,
        count: int,
        ours: Callable[[int], float],
        floor: Callable[[int], float],
    ) -> list[Measure]:
        pairs = [(count / ours(count), count / floor(count)) for _ in range(self._plan.rounds)]
        rounds, floor_rounds = zip(*pairs, strict=True)
        value, least = statistics.median(rounds), statistics.median(floor_rounds)
        return [Measure(name, "jobs/s", value, least, floor_name, rounds, floor_rounds)]

    def _enqueue_one_by_one(self, name: str) -> list[Measure]:
        def ours(count: int) -> float:
            return workloads.enqueue_one_by_one(self._client, count)

        return self._rates(
            name, "bare INSERT", self._plan.jobs(2_000), ours, self._bare.insert_one_by_one
        )

    def _enqueue_in_bulk(self, name: str) -> list[Measure]:
        def ours(count: int) -> float:
            self._empty()
            return workloads.fill(self._client, count)

        return self._rates(name, "raw COPY", self._plan.jobs(100_000), ours, self._bare.copy)

    def _claim_and_ack(self, batch: int, clients: int) -> Callable[[str], list[Measure]]:
        def ours(count: int) -> float:
            self._fill(count)
            done, seconds = workloads.claim_and_ack_with(self._client.dsn, SCHEMA, batch, clients)
            _expect(done, count)
            return seconds

        def take(name: str) -> list[Measure]:
            count = self._plan.jobs(JOBS_BY_BATCH[batch])
            return self._rates(
                name, "bare claim, delete, keep; 1 client", count, ours, self._bare_drain(batch)
            )

        return take

    def _drain(
        self, processes: int, *, sync: bool = False, keep: bool = True
    ) -> Callable[[str], list[Measure]]:
        def ours(count: int) -> float:
            self._fill(count)
            self._keep(keep=keep)
            seconds = workloads.drain(self._client.dsn, SCHEMA, processes, sync=sync)
            _expect(
                sum(
                    stats.ready + stats.claimed + stats.scheduled for stats in self._client.stats()
                ),
                0,
            )
            return seconds

        def take(name: str) -> list[Measure]:
            floor_name = "bare loop of 500, keep" if keep else "bare loop of 500, no keep"
            return self._rates(
                name, floor_name, self._plan.jobs(100_000), ours, self._bare_drain(500, keep=keep)
            )

        return take

    def _bare_drain(self, batch: int, *, keep: bool = True) -> Callable[[int], float]:
        def floor(count: int) -> float:
            self._bare.create()
            self._bare.fill(count)
            done, seconds = self._bare.drain(batch, keep=keep)
            _expect(done, count)
            return seconds

        return floor

    def _latency(self, name: str) -> list[Measure]:
        self._empty()
        self._keep(keep=True)
        count = self._plan.jobs(500)
        ours = sorted(1000 * s for s in workloads.latencies(self._client, count, LATENCY_RATE))
        floor = sorted(1000 * s for s in self._bare.notify(count))
        return [
            Measure(
                f"{name} p{share}",
                "ms",
                _quantile(ours, share),
                _quantile(floor, share),
                "bare NOTIFY",
            )
            for share in (50, 95, 99)
        ]

    def _empty(self) -> None:
        s = self._client.statements.quoted
        self._execute(f"truncate {s}.job, {s}.archive")

    def _fill(self, count: int) -> None:
        """A full queue, vacuumed and analysed, so that no autovacuum runs into the measurement."""
        self._empty()
        workloads.fill(self._client, count)
        self._execute(f"vacuum (analyze) {self._client.statements.quoted}.job")

    def _keep(self, *, keep: bool) -> None:
        retention = "14 days" if keep else "0"
        self._execute(
            f"update {self._client.statements.quoted}.setting set retention = '{retention}'"
        )

    def _execute(self, sql: str) -> None:
        with self._client.driver.connection() as conn:
            conn.execute(sql)


@contextmanager
def _prepared(dsn: str) -> Iterator[tuple[Client, Bare]]:
    _drop(dsn)
    with Client(dsn, schema=SCHEMA) as client:
        client.migrate()
        bare = Bare(dsn, SCHEMA)
        try:
            bare.create()
            yield client, bare
        finally:
            bare.close()
            _drop(dsn)


def _drop(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(f'drop schema if exists "{SCHEMA}" cascade')


def _quantile(ordered: list[float], percent: int) -> float:
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def _expect(found: int, wanted: int) -> None:
    if found != wanted:
        raise RuntimeError(f"the measurement is void: {found} jobs instead of {wanted}")


def _show(conn: psycopg.Connection[Any], name: str) -> str:
    row = conn.execute(f"show {name}").fetchone()
    return str(row[0]) if row else ""
