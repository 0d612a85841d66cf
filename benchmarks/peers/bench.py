"""What all measures share: the systems' databases, and a round of enqueue and drain."""

from __future__ import annotations

import contextlib
import re
import time
from typing import Any

import attrs
import psycopg
from benchmarks.peers import wal
from benchmarks.peers.cluster import Cluster
from benchmarks.peers.process import Drivers
from benchmarks.peers.systems import System


class Void(RuntimeError):
    """The database shows something else than what was to be measured."""


@attrs.frozen
class Bench:
    """The cluster, the drivers, and what each driver said of its system."""

    cluster: Cluster
    drivers: Drivers
    infos: dict[str, Any] = attrs.Factory(dict)

    def prepare(self, system: System) -> None:
        """Installs the system into a database from which the measured ones are copied."""
        dsn = self.cluster.create(_template(system))
        self.drivers.ask(system, dsn, "setup")
        self.infos[system.name] = self.drivers.ask(system, dsn, "info")
        self.cluster.settle(_template(system))

    def fresh(self, system: System) -> str:
        """The DSN of a database with the system just installed."""
        return self.cluster.create(database(system), _template(system))

    def enqueue(self, system: System, dsn: str, count: int) -> float:
        """Jobs per second of a bulk enqueue."""
        return count / float(self.drivers.ask(system, dsn, "enqueue", count)["seconds"])

    def drain(self, system: System, dsn: str, count: int, processes: int = 1) -> float:
        """Jobs per second of worker processes that finish all jobs.

        From the start of the first handler until the commit that finished the last job, by the
        time that the server gave it in its log. So neither the start of the processes and their
        connections counts, nor what they do to end.

        Raises:
            Void: not each of the `count` jobs ran once and is finished in the database.
        """
        before = self._number(system, dsn, "finished") or 0
        files = set(self._files(system, dsn))  # some are truncated meanwhile
        start = wal.position(self.cluster)
        with contextlib.ExitStack() as stack:
            workers = [
                stack.enter_context(self.drivers.started(system, dsn, "drain"))
                for _ in range(processes)
            ]
            for worker in workers:
                worker.answer()
            for worker in workers:
                worker.go_on()
            results = [worker.answer() for worker in workers]
        self._check(system, dsn, count, sum(result["done"] for result in results), before)
        began: float = min(result["first"] for result in results if result["done"])
        ended = wal.last_commit(self.cluster, start, files | set(self._files(system, dsn)))
        if ended is None:
            raise Void(f"the log does not show when {system.name} finished a job")
        return count / (ended - began)

    def analyze(self, dsn: str) -> None:
        """Gives the planner fresh statistics of all tables."""
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute("analyze")

    def wait_until_empty(self, system: System, dsn: str) -> None:
        """Returns once no job is unfinished, or after ten seconds."""
        deadline = time.monotonic() + 10
        while self._number(system, dsn, "unfinished") and time.monotonic() < deadline:
            time.sleep(0.05)

    def _check(self, system: System, dsn: str, count: int, done: int, before: float) -> None:
        left = self._number(system, dsn, "unfinished")
        finished = self._number(system, dsn, "finished")
        stored = count if finished is None else finished - before
        if (done, left, stored) != (count, 0, count):
            raise Void(
                f"of {count} jobs of {system.name} {done} ran, "
                f"{left:.0f} are unfinished and {stored:.0f} finished in the database"
            )

    def _files(self, system: System, dsn: str) -> list[int]:
        """The file numbers of the table of jobs and its partitions."""
        name = self.infos[system.name]["table"]
        query = (
            "select pg_relation_filenode(relid) from "
            "(select relid from pg_partition_tree(%s) union select %s::regclass) as part "
            "where pg_relation_filenode(relid) is not null"
        )
        with psycopg.connect(dsn, autocommit=True) as conn:
            return [row[0] for row in conn.execute(query, (name, name))]

    def _number(self, system: System, dsn: str, name: str) -> float | None:
        query = self.infos[system.name][name]
        if query is None:
            return None
        with psycopg.connect(dsn, autocommit=True) as conn:
            row = conn.execute(query.encode()).fetchone()
        return None if row is None or row[0] is None else float(row[0])


def database(system: System) -> str:
    """The name of the database that is measured."""
    return re.sub(r"\W+", "_", system.name.lower())


def _template(system: System) -> str:
    return f"{database(system)}_new"
