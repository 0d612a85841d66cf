"""Keeps one pool supplied: claims while there is room, sleeps while there is nothing."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING, Any

import psycopg

from pgqueue.arguments import number_array
from pgqueue.events import Outcome
from pgqueue.floors import LANES, Floors
from pgqueue.guarded import unsynced
from pgqueue.worker.demand import LARGEST_CLAIM, STUCK_SECONDS, Demand
from pgqueue.worker.doorbell import Doorbell
from pgqueue.worker.portion import Portion
from pgqueue.worker.runner import Ending

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgqueue.events import Observer
    from pgqueue.models import Job, JobControl
    from pgqueue.statements import Statements
    from pgqueue.worker.idleness import Idleness
    from pgqueue.worker.leases import Leases
    from pgqueue.worker.link import Link
    from pgqueue.worker.options import Options
    from pgqueue.worker.pool import Pool
    from pgqueue.worker.settle import Settler

logger = logging.getLogger("pgqueue.worker")

NAPS = (0.002, 0.004, 0.008, 0.016, 0.032)
"""Seconds between looks right after there was work, before the doorbell is asked for. (While it is
asked for already, a nap would only make us late: measured, 7.5 ms to pick up a job at 50/s.)"""
BUSY_SECONDS = 0.25
"""After so long without a sleep, producers need not ring for us."""
FULL_SECONDS = 0.05
"""After so long without room for another job, others are to be rung instead of us."""
BEHIND_SECONDS = 0.05
"""Between two looks whether the settler has caught up."""
GOODBYE_SECONDS = 1.0


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
        on_deaf: Callable[[], None] = lambda: None,
        observer: Observer | None = None,
    ) -> None:
        """`on_deaf` is called when it turns out that no rings arrive; `observer` of claims."""
        self._link = link
        self._statements = statements
        self._options = options
        self._pool = pool
        self._leases = leases
        self._settler = settler
        self._control = control
        self._observer = observer
        self._name = options.unique_name()
        self._kinds = tuple(sorted(kind.name for kind in pool.kinds))
        self._floors = Floors()
        self._demand = Demand(pool, options.prefetch)
        self._portion = Portion(LARGEST_CLAIM)
        self._doorbell = Doorbell(
            link, statements, options.queues, self._kinds, self._name, on_deaf
        )
        self._changed = asyncio.Event()
        self._stopping = False
        self._naps = 0
        self._saw_bottom = False
        self._slept_at = self.moved_at = time.monotonic()
        pool.on_room = self._changed.set

    @property
    def deaf(self) -> bool:
        """Whether it hears no rings, and only polls."""
        return self._doorbell.deaf

    def stop(self) -> None:
        """Ends `run` after the claim under way."""
        self._stopping = True
        self._changed.set()

    def abort(self) -> None:
        """Ends the claim under way, too: what it took runs again after its lease."""
        self.stop()
        self._link.cut()

    async def run(self, idleness: Idleness | None = None) -> None:
        """Claims until `stop`; tells `idleness`, if given, when there is nothing to claim.

        Raises:
            SchemaError: the schema is gone, or is of another version.
        """
        try:
            while not self._stopping:
                self.moved_at = time.monotonic()
                try:
                    await self._step(idleness)
                except psycopg.Error as error:
                    if isinstance(error, psycopg.errors.QueryCanceled):
                        self._portion.shrink()
                    await self._rest(self._link.pause_after(error))
        finally:
            await self._say_goodbye()

    async def _step(self, idleness: Idleness | None) -> None:
        room = 0 if self._settler.behind else self._demand.room()
        if room <= 0:
            await self._wait_for_room()
            return
        moves = self._leases.moves
        self._doorbell.forget()
        nothing_held = not self._leases
        # Before it ends, a worker that runs until it is idle looks once below its floors, too.
        deep = idleness is not None and nothing_held and self._naps > 0 and not self._saw_bottom
        jobs = await self._claim(min(room, self._portion.size), from_bottom=deep)
        self._portion.grow()
        if jobs:
            self._naps = 0
            self._saw_bottom = False
            if time.monotonic() - self._slept_at > BUSY_SECONDS:
                await self._doorbell.unask()
        elif idleness is not None:
            self._saw_bottom |= deep
            if nothing_held and self._saw_bottom:
                idleness.saw_nothing(self, moves)
            await self._nap()
        elif self._naps < len(NAPS) and not self._doorbell.asked:
            await self._nap()
        else:
            await self._sleep()

    async def _claim(self, limit: int, *, from_bottom: bool) -> list[Job[Any]]:
        queues = self._options.order()
        claiming = self._floors.begin(self._kinds, queues)
        floors = number_array([0] * LANES * len(queues)) if from_bottom else claiming.floors
        jobs: list[Job[Any]] = []
        try:
            statement = self._statements.claim(
                queues, limit, self._options.lease, self._kinds, self._name, floors, self._control
            )
            sent_at = time.monotonic()
            jobs = await self._link.try_run(unsynced(statement))
        finally:
            self._floors.end(claiming, jobs)
        if self._observer is not None:
            self._observer.claimed(jobs, time.monotonic() - sent_at)
        if jobs:
            lost = self._leases.hold(jobs, sent_at)
            self._pool.feed(jobs)
            for job in lost:
                self._pool.stop(job, Outcome.LOST)
                self._settler.lose(job)
        return jobs

    async def _wait_for_room(self) -> None:
        if self._settler.behind:
            await self._rest(BEHIND_SECONDS)
            return
        for seconds in (FULL_SECONDS, STUCK_SECONDS):
            self._changed.clear()
            self._pool.call_when_low(self._demand.low)
            if self._demand.room() <= 0:  # else it ran low just before we asked
                await self._wait(seconds)
            if self._stopping or self._demand.room() > 0:
                return
            # A ring that was meant for us would be heard by nobody.
            await self._doorbell.unask()
        if self._demand.stuck():
            self._settler.add([Ending(job, Outcome.RELEASED) for job in self._pool.take_back()])

    async def _nap(self) -> None:
        self._changed.clear()
        await self._wait(NAPS[min(self._naps, len(NAPS) - 1)])
        self._naps += 1

    async def _sleep(self) -> None:
        if not (self._doorbell.asked or self._doorbell.deaf):
            await self._doorbell.ask()
            return  # one more look, now that producers ring
        poll_interval = self._options.poll_interval.total_seconds()
        while not self._stopping:
            self._changed.clear()
            seconds = poll_interval * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
            rung = await self._doorbell.wait(seconds, self._changed)
            self._slept_at = self.moved_at = time.monotonic()
            # Jobs that we hold may have to be given back.
            if rung or self._leases or not self._doorbell.hears:
                return

    async def _wait(self, seconds: float) -> None:
        """Waits for a change since it was last cleared, or for `stop`."""
        if not self._stopping:
            timer = asyncio.get_running_loop().call_later(seconds, self._changed.set)
            await self._changed.wait()
            timer.cancel()

    async def _rest(self, seconds: float) -> None:
        """Waits for `stop` only."""
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            self._changed.clear()
            await self._wait(left)

    async def _say_goodbye(self) -> None:
        timer = asyncio.get_running_loop().call_later(GOODBYE_SECONDS, self._link.cut)
        try:
            await self._doorbell.say_goodbye()
        except psycopg.Error:
            logger.debug("could not say goodbye; the doorbell's patience ends by itself")
        finally:
            timer.cancel()
            await self._link.close()
