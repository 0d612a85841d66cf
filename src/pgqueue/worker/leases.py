"""The claims that a worker holds, and the thread that keeps them alive.

The heartbeat has its own thread and its own connection: neither an event loop that a handler blocks nor a
drained pool makes it miss a beat. (A handler that holds the GIL for a whole lease does: it loses the lease, and
the fencing token makes that harmless.)
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import psycopg

from pgqueue.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from pgqueue.drivers import Driver
    from pgqueue.models import Job
    from pgqueue.statements import Statements

logger = logging.getLogger("pgqueue.worker")

CHUNK = 2_000
"""Leases renewed by one statement."""
LONGEST_BEAT = 5.0
"""Seconds: a cancellation reaches its handler within this time, however long the lease."""


class Leases:
    """What this worker holds, by job id. An ending counts only while its job is in here."""

    def __init__(self) -> None:
        self._held: dict[int, Job[Any]] = {}
        self._renewed: dict[int, float] = {}
        self.cancelled: set[int] = set()
        """Ids of held jobs that should stop, for whatever reason."""

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, jobs: Sequence[Job[Any]], sent_at: float) -> None:
        """Adds claimed jobs; `sent_at` is the monotonic time at which the claim was sent."""
        for job in jobs:
            self._held[job.id] = job
            self._renewed[job.token] = sent_at

    def holds(self, job: Job[Any]) -> bool:
        """Whether `job` is still to be ended by us."""
        held = self._held.get(job.id)
        return held is not None and held.token == job.token

    def drop(self, job: Job[Any]) -> bool:
        """Takes `job` out; False if it is not in here (any more)."""
        held = self._held.get(job.id)
        if held is None or held.token != job.token:
            return False
        del self._held[job.id]
        self.cancelled.discard(job.id)
        return True

    def due(self, now: float, interval: float) -> list[Job[Any]]:
        """Held jobs that were not renewed for `interval` seconds, or that may have to stop."""
        held = list(self._held.values())
        tokens = {job.token for job in held}
        for token in list(self._renewed):
            if token not in tokens:
                self._renewed.pop(token, None)
        return [job for job in held if now - self._renewed.get(job.token, now) >= interval]

    def renewed(self, jobs: Sequence[Job[Any]], sent_at: float) -> None:
        """Notes a renewal."""
        for job in jobs:
            self._renewed[job.token] = sent_at


class Heartbeat(threading.Thread):
    """Renews each lease when a third of it is over; tells of lost and of cancelled jobs."""

    def __init__(
        self,
        driver: Driver,
        statements: Statements,
        leases: Leases,
        lease: timedelta,
        tell: Callable[[list[Job[Any]], list[Job[Any]]], None],
    ) -> None:
        """`tell` is called in this thread with the jobs that are lost and those to cancel."""
        super().__init__(name="pgqueue-heartbeat", daemon=True)
        self._driver = driver
        self._statements = statements
        self._leases = leases
        self._lease = lease
        self._tell = tell
        self._stopping = threading.Event()
        self._conn: psycopg.Connection[Any] | None = None
        self.beat = min(lease.total_seconds() / 3, LONGEST_BEAT)
        """Seconds between two beats."""

    def run(self) -> None:
        """Beats until `stop`."""
        while not self._stopping.wait(self.beat / 2):
            try:
                self._renew(self._leases.due(time.monotonic(), self.beat * 0.75))
            except (psycopg.Error, DatabaseUnavailable) as error:
                logger.warning("the heartbeat cannot reach the database, and tries again: %s", error)
                self._disconnect()
        self._disconnect()

    def stop(self) -> None:
        """Ends the thread; does not wait for it."""
        self._stopping.set()

    def _renew(self, due: list[Job[Any]]) -> None:
        for start in range(0, len(due), CHUNK):
            jobs = due[start : start + CHUNK]
            if self._conn is None:
                self._conn = self._driver.connect()
            sent_at = time.monotonic()
            statement = self._statements.extend([(job.id, job.token) for job in jobs], self._lease)
            held = self._driver.execute_alone(statement, self._conn)
            self._leases.renewed([job for job in jobs if job.id in held], sent_at)
            lost = [job for job in jobs if job.id not in held]
            cancelled = [job for job in jobs if held.get(job.id)]
            if lost or cancelled:
                self._tell(lost, cancelled)

    def _disconnect(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None
