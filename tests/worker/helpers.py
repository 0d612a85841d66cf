"""What the worker's tests share. Whatever waits here has a deadline."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psycopg

import pgqueue
from pgqueue import AttemptEnded, Client, Handlers, Job, Worker

DEADLINE = 15.0
"""Seconds that anything may take."""
SECOND = timedelta(seconds=1)
LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)


def until(condition: Callable[[], object], seconds: float = DEADLINE) -> None:
    """Waits until `condition` holds; fails if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.005)


def make_job(**fields: Any) -> Job[Any]:
    """A claimed job that no database knows."""
    given: dict[str, Any] = {
        "id": 1,
        "token": 1,
        "queue": "default",
        "kind": "a",
        "payload": {},
        "priority": 5,
        "attempt": 1,
        "max_attempts": 20,
        "run_at": LONG_AGO,
        "enqueued_at": LONG_AGO,
        "claimed_at": LONG_AGO,
        "lease_until": LONG_AGO,
        "position": 1,
        "dedupe_key": None,
        "tags": None,
        "metadata": None,
        "ref": None,
    }
    return Job(**{**given, **fields})


def drain(client: Client, handlers: Handlers, **options: Any) -> int:
    """Runs a worker until it is idle; returns its exit code."""
    return Worker(client, handlers, **options).run(until_idle=True)


class Log:
    """What observers saw."""

    def __init__(self, handlers: Handlers) -> None:
        self.events: list[AttemptEnded] = []
        handlers.on_end(self.events.append)

    @property
    def outcomes(self) -> list[str]:
        """The outcomes, in the order in which they were told."""
        return [str(event.outcome) for event in self.events]


class Background:
    """A worker in a thread of its own."""

    def __init__(self, worker: Worker, *, until_idle: bool = False) -> None:
        self.worker = worker
        self.code: int | None = None
        self.error: BaseException | None = None
        self._until_idle = until_idle
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self.code = self.worker.run(until_idle=self._until_idle)
        except BaseException as error:  # noqa: BLE001 - told by `end`
            self.error = error

    def start(self) -> Background:
        """Starts it, and waits until it works."""
        self._thread.start()
        until(lambda: self.worker.health() is not None or not self._thread.is_alive())
        return self

    def end(self, seconds: float = DEADLINE) -> int:
        """Waits for its end; returns its exit code, or raises what it raised."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"the worker has not ended within {seconds} s"
        if self.error is not None:
            raise self.error
        assert self.code is not None
        return self.code

    def stop(self, seconds: float = DEADLINE) -> int:
        """Stops it, and waits for its end."""
        self.worker.stop()
        return self.end(seconds)


@contextmanager
def working(client: Client | str, handlers: Handlers, **options: Any) -> Iterator[Background]:
    """A worker that works in the background meanwhile."""
    background = Background(Worker(client, handlers, **options)).start()
    try:
        yield background
    finally:
        if background.worker.health() is not None:
            background.worker.stop()
            background.worker.stop()
        background._thread.join(DEADLINE)
        assert not background._thread.is_alive()


PRELUDE = """
import os, signal, sys, threading, time, asyncio, logging
from datetime import timedelta
import psycopg
import pgqueue

dsn = sys.argv[1]
handlers = pgqueue.Handlers()

def say(*words):
    # Whole lines, also from several threads.
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
"""


class Process:
    """A Python process that runs a script with handlers in it, and says things line by line."""

    def __init__(self, folder: Path, dsn: str, script: str) -> None:
        path = folder / f"worker_{time.monotonic_ns()}.py"
        path.write_text(PRELUDE + textwrap.dedent(script))
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, str(path), dsn],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in (
                (self._process.stdout, self.lines),
                (self._process.stderr, self.errors),
            )
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: Any, lines: list[str]) -> None:
        for line in stream:
            lines.append(line.rstrip("\n"))  # noqa: PERF401 - others look at it meanwhile

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def wait_for(self, *words: str, count: int = 1) -> list[str]:
        """Waits for so many lines that begin with `words`; returns them."""
        start = " ".join(words)

        def found() -> list[str]:
            return [line for line in self.lines if line.startswith(start)]

        until(lambda: len(found()) >= count or self._process.poll() is not None)
        assert len(found()) >= count, (self.lines, self.errors)
        return found()

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        os.kill(self._process.pid, number)

    def send_to_group(self, number: signal.Signals) -> None:
        """Sends a signal to it and all its children, as a terminal does."""
        os.killpg(self._process.pid, number)

    def end(self, seconds: float = DEADLINE) -> int:
        """Waits for its end; returns its exit code."""
        code = self._process.wait(seconds)
        for reader in self._readers:
            reader.join(DEADLINE)
        return code

    def kill(self) -> None:
        """Ends it and its children, whatever they do."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(DEADLINE)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()


class Database:
    """Looks at, and meddles with, the tables behind a client's back."""

    def __init__(self, dsn: str, schema: str = "pgqueue") -> None:
        self.conn = psycopg.connect(dsn, autocommit=True)
        self.schema = schema

    def query(self, text: str, *params: object) -> list[tuple[Any, ...]]:
        """Rows; `job` and other tables and functions are looked up in the schema."""
        self.conn.execute(f'set search_path = "{self.schema}"')
        cursor = self.conn.execute(text.encode(), params)
        return cursor.fetchall() if cursor.description is not None else []

    def cut_connections(self) -> int:
        """Ends all other sessions on this database; returns how many."""
        return len(
            self.query(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and pid <> pg_backend_pid()"
            )
        )

    def expire(self, job_id: int) -> None:
        """Lets the lease of a job run out, and its claim be reaped."""
        with self.conn.transaction():  # or a heartbeat comes in between
            self.query("update job set lease_until = clock() - interval '1s' where id = %s", job_id)
            self.query("select reap()")
            rows = self.query(
                "select 1 from job where id = %s and lease_until > '-infinity'", job_id
            )
            assert not rows


def state(client: Client, job_id: int) -> str:
    """A job's state."""
    return str(client.get(job_id).state)


__all__ = [
    "DEADLINE",
    "SECOND",
    "Background",
    "Database",
    "Log",
    "Process",
    "drain",
    "make_job",
    "pgqueue",
    "state",
    "until",
    "working",
]
