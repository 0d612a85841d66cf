"""Keeps one pool supplied: claims while there is room, sleeps while there is nothing."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING, Any

import psycopg

from pgqueue.connections import RETRYABLE
from pgqueue.errors import DatabaseUnavailable
from pgqueue.floors import Floors
from pgqueue.worker.doorbell import Doorbell

if TYPE_CHECKING:
    from pgqueue.models import Job, JobControl
    from pgqueue.statements import Statements
    from pgqueue.worker.leases import Leases
    from pgqueue.worker.link import Link
    from pgqueue.worker.options import Options
    from pgqueue.worker.pools import Pool
    from pgqueue.worker.settle import Settler

logger = logging.getLogger("pgqueue.worker")

AHEAD_SECONDS = 0.1
"""How much work to hold in the buffer, at the rate at which the pool gets through it."""
MOST_AHEAD = 2_000
LARGEST_CLAIM = 1_000
NAPS = (0.002, 0.004, 0.008, 0.016, 0.032)
"""Seconds between looks right after there was work, before the doorbell is asked for."""
BUSY_SECONDS = 0.25
"""After so long without a pause, producers need not ring for us."""


class ClaimLoop:
    """Claims for one pool, on one connection."""

    def __init__(
        self,
        link: Link,
        statements: Statements,
        options: Options,
        pool: Pool,
        leases: Leases,
        settler: Settler,
        control: JobControl,
    ) -> None:
        self._link = link
        self._statements = statements
        self._options = options
        self._pool = pool
        self._leases = leases
        self._settler = settler
        self._control = control
        self._name = options.unique_name()
        self._kinds = tuple(sorted(kind.name for kind in pool.kinds))
        self._floors = Floors()
        self._doorbell = Doorbell(link, statements, self._name)
        self._changed = asyncio.Event()
        self._stopping = False
        self._rate = 0.0
        self._rate_at = time.monotonic()
        self._rate_finished = 0
        self.moved_at = time.monotonic()
        """When this loop last got through a step: its health."""
        pool.on_room = self._changed.set

    def stop(self) -> None:
        """Ends `run` after the claim under way."""
        self._stopping = True
        self._changed.set()

    async def run(self, *, until_idle: bool) -> None:
        """Claims until `stop`; with `until_idle` until nothing is ready and all that was claimed has ended."""
        naps = 0
        busy_since = time.monotonic()
        try:
            while not self._stopping:
                self.moved_at = time.monotonic()
                try:
                    room = self._room()
                    if room <= 0:
                        await self._wait(0.05)
                        continue
                    jobs = await self._claim(room)
                    if jobs:
                        naps = 0
                        if time.monotonic() - busy_since > BUSY_SECONDS and len(jobs) == room:
                            await self._doorbell.unask()
                        continue
                    busy_since = time.monotonic()
                    if until_idle:
                        if not len(self._leases):
                            return
                        await self._wait(0.005)
                    elif naps < len(NAPS):
                        await self._wait(NAPS[naps])
                        naps += 1
                    else:
                        await self._sleep()
                except DatabaseUnavailable as error:
                    await self._link.pause(error)
                except RETRYABLE as error:
                    await self._link.pause(error)
        finally:
            await self._say_goodbye()

    def _room(self) -> int:
        """How many jobs to claim now."""
        if self._settler.behind:
            return 0
        pool = self._pool
        batch = max((kind.batch or 1) for kind in pool.kinds)
        ahead = self._options.prefetch
        if ahead is None:
            ahead = min(MOST_AHEAD, int(self._measured_rate() * AHEAD_SECONDS))
        free = max(0, pool.size * batch - pool.running)
        if pool.waiting > ahead // 2 and pool.waiting > 0:
            return 0
        return min(LARGEST_CLAIM, max(0, ahead + free - pool.waiting))

    def _measured_rate(self) -> float:
        """Jobs per second through the pool, lately."""
        now = time.monotonic()
        elapsed = now - self._rate_at
        if elapsed > AHEAD_SECONDS / 4:
            lately = (self._pool.finished - self._rate_finished) / elapsed
            self._rate = lately if lately > self._rate else 0.7 * self._rate + 0.3 * lately
            self._rate_at, self._rate_finished = now, self._pool.finished
        return self._rate

    async def _claim(self, limit: int) -> list[Job[Any]]:
        queues = self._options.order()
        claiming = self._floors.begin(self._kinds, queues)
        jobs: list[Job[Any]] = []
        try:
            statement = self._statements.claim(
                queues, limit, self._options.lease, self._kinds, self._name, claiming.floors, self._control
            )
            sent_at = time.monotonic()
            jobs = await self._link.try_run(statement)
        finally:
            self._floors.end(claiming, jobs)
        if jobs:
            self._leases.hold(jobs, sent_at)
            self._pool.feed(jobs)
        return jobs

    async def _sleep(self) -> None:
        if not self._doorbell.asked:
            await self._doorbell.ask(list(self._options.queues))
            return  # one more look, now that producers ring
        seconds = self._options.poll_interval.total_seconds() * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
        self._changed.clear()
        if not self._stopping:
            await self._doorbell.wait(seconds, self._changed)

    async def _wait(self, seconds: float) -> None:
        self._changed.clear()
        if self._stopping:
            return
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except (asyncio.TimeoutError, TimeoutError):
            return

    async def _say_goodbye(self) -> None:
        try:
            await asyncio.wait_for(self._doorbell.unask(), 1.0)
        except (DatabaseUnavailable, psycopg.Error, asyncio.TimeoutError, TimeoutError):
            logger.debug("could not say goodbye; the doorbell's patience ends by itself")
        finally:
            await self._link.close()
