"""One server for all systems, each in a database of its own; and what the server can tell."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import psycopg
from psycopg import sql

from pgqueue import embedded
from pgqueue.bench.server import SETTINGS

SHOWN = (
    "fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size",
    "wal_level", "wal_compression", "autovacuum_naptime",
)  # fmt: skip
_ENTRY = re.compile(
    r"^\d{4}-\d\d-\d\d .*? LOG:  duration: ([\d.]+) ms  (?:execute [^:]*|statement): ", re.MULTILINE
)
_NEXT = re.compile(r"^\d{4}-\d\d-\d\d ", re.MULTILINE)


@attrs.frozen
class Cluster:
    """The running server."""

    server: embedded.Server
    admin: psycopg.Connection[Any]
    """A connection to the database postgres, in autocommit mode."""

    def dsn(self, name: str) -> str:
        """The DSN of database `name`, through the socket."""
        return self.server.dsn.replace("/postgres?", f"/{name}?")

    def create(self, name: str, template: str | None = None) -> str:
        """Makes database `name` anew, as a copy of `template`; gives its DSN.

        A copy has neither bloat nor statistics of what was done before.
        """
        new, old = sql.Identifier(name), sql.Identifier(template or "template1")
        self.drop(name)
        self.admin.execute(sql.SQL("create database {} template {}").format(new, old))
        return self.dsn(name)

    def drop(self, name: str) -> None:
        """Drops database `name`, if it is there, whoever is connected."""
        self.admin.execute(
            sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
        )

    def settle(self, name: str) -> None:
        """Waits until nobody is connected to `name`: sessions tell their counts as they end."""
        query = "select count(*) from pg_stat_activity where datname = %s"
        deadline = time.monotonic() + 10
        while self.scalar(query, (name,)) and time.monotonic() < deadline:
            time.sleep(0.02)

    def scalar(self, query: str, values: tuple[object, ...] = ()) -> Any:  # noqa: ANN401 - a column of any type
        """The first column of the first row."""
        row = self.admin.execute(query.encode(), values).fetchone()
        return None if row is None else row[0]

    def settings(self) -> dict[str, str]:
        """The server's settings that matter here."""
        return {name: str(self.scalar(f"show {name}")) for name in SHOWN}

    def log_statement_times(self, name: str) -> None:
        """From the next connections to `name` on, logs how long each statement took."""
        for setting in ("log_min_duration_statement", "log_parameter_max_length"):
            self.admin.execute(
                sql.SQL("alter database {} set {} = 0").format(
                    sql.Identifier(name), sql.Identifier(setting)
                )
            )

    def logged(self) -> dict[Path, int]:
        """The log files and how long they are now: pass it to `statement_times` later."""
        return {path: path.stat().st_size for path in self._logs()}

    def statement_times(self, pattern: str, since: dict[Path, int]) -> list[float]:
        """Milliseconds of the logged statements that match, sorted."""
        found: list[float] = []
        for path in self._logs():
            with path.open("rb") as file:
                file.seek(since.get(path, 0))
                found += _times(file.read().decode("utf-8", "replace"), pattern)
        return sorted(found)

    def _logs(self) -> list[Path]:
        return list((self.server.data / "log").glob("postgres-*.log"))


def _times(log: str, pattern: str) -> Iterator[float]:
    wanted = re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for entry in _ENTRY.finditer(log):
        end = _NEXT.search(log, entry.end())
        if wanted.search(log, entry.end(), end.start() if end else len(log)):
            yield float(entry[1])


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A durable server on disk, deleted at the end."""
    with (
        embedded.temporary(settings=SETTINGS) as server,
        psycopg.connect(server.dsn, autocommit=True) as admin,
    ):
        admin.execute("create extension pg_walinspect")
        yield Cluster(server, admin)
