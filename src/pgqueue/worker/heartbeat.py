"""The thread that keeps a worker's claims alive.

It has its own event loop and its own connection: neither a loop that a handler blocks nor a slow
statement makes it miss a beat. (A handler that holds the GIL for a whole lease does: it loses the
lease, and the fencing token makes that harmless.)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import psycopg

from pgqueue.guarded import impatient
from pgqueue.masking import first_line
from pgqueue.worker.link import Link

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from pgqueue.drivers import AsyncDriver
    from pgqueue.events import Observer
    from pgqueue.models import Job
    from pgqueue.statements import Statements
    from pgqueue.worker.leases import Leases

logger = logging.getLogger("pgqueue.worker")

CHUNK = 2_000
"""Leases renewed by one statement."""
LONGEST_BEAT = 5.0
"""Seconds: a cancellation reaches its handler within this time, however long the lease."""
SHORTEST_BEAT = 0.02
LOCK_SECONDS = 0.1
"""To wait for a job's row that somebody has locked. To find it takes so long a few times over."""


class Heartbeat(threading.Thread):
    """Renews each lease before a third of it is over; tells of lost and of cancelled jobs."""

    def __init__(
        self,
        driver: AsyncDriver,
        statements: Statements,
        leases: Leases,
        lease: timedelta,
        tell: Callable[[list[Job[Any]], list[Job[Any]]], None],
        observer: Observer | None = None,
    ) -> None:
        """`tell` is called in this thread with the jobs that are lost and those to cancel.

        `observer` hears of beats that fail.
        """
        super().__init__(name="pgqueue-heartbeat", daemon=True)
        third = lease.total_seconds() / 3
        self._statements = statements
        self._leases = leases
        self._lease = lease
        self._tell = tell
        self._observer = observer
        # A server that has not answered within half a beat or so is asked again while there is
        # time.
        self._link = Link(driver, "heartbeat", max(third, 0.5), observer)
        self._locked: set[int] = set()
        self._stopping = False
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.beat = max(min(third, LONGEST_BEAT), SHORTEST_BEAT)
        """Seconds between two beats."""

    def run(self) -> None:
        """Beats until `stop`."""
        loop = self._loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(self._live(loop))
        finally:
            loop.close()

    def stop(self) -> None:
        """Ends the thread; does not wait for it."""
        self._stopping = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._wake.set)

    async def ended_within(self, seconds: float) -> bool:
        """Waits for the thread's end, from another event loop."""
        until = time.monotonic() + seconds
        while alive := self.is_alive():
            if time.monotonic() > until:
                break
            await asyncio.sleep(0.001)
        return not alive

    async def _live(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stopping:
            timer = loop.call_later(self.beat / 2, self._wake.set)
            await self._wake.wait()
            timer.cancel()
            self._wake.clear()
            try:
                await self._renew(self._leases.due(time.monotonic(), self.beat * 0.75))
            except Exception as error:  # noqa: BLE001 - whatever it is, the next beat must come
                if self._observer is not None:
                    self._observer.beat_missed()
                logger.warning("the heartbeat failed, and tries again: %s", first_line(error))
        await self._link.close()

    async def _renew(self, due: Sequence[Job[Any]]) -> None:
        sent_at = time.monotonic()
        free = [job for job in due if job.id not in self._locked]
        parts = deque(free[start : start + CHUNK] for start in range(0, len(free), CHUNK))
        # Last, and each alone: the others need not wait for them.
        parts.extend([job] for job in due if job.id in self._locked)
        self._locked = set()
        while parts:
            jobs = parts.popleft()
            try:
                await self._extend(jobs)
            except (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled):
                half = len(jobs) // 2
                if half:
                    parts.extend((jobs[:half], jobs[half:]))
                else:  # while its row is locked, nobody can take it away; tried again at once
                    self._locked.add(jobs[0].id)
        # At the end, so that a failure in between leaves all of them due.
        self._leases.renewed(due, sent_at)
        # Due again at once: its lease may be over when its row is free, and the reaper is near.
        self._leases.renewed((job for job in due if job.id in self._locked), 0.0)

    async def _extend(self, jobs: Sequence[Job[Any]]) -> None:
        extend = self._statements.extend([(job.id, job.token) for job in jobs], self._lease)
        held = await self._link.try_run(impatient(extend, LOCK_SECONDS))
        lost = [job for job in jobs if job.id not in held]
        cancelled = [job for job in jobs if held.get(job.id)]
        if lost or cancelled:
            self._tell(lost, cancelled)
