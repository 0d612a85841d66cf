"""The database's maintenance, which every worker process takes its turns at."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

import psycopg

from pgqueue.models import DEFAULT_UPKEEP
from pgqueue.worker.portion import Portion

if TYPE_CHECKING:
    from pgqueue.statements import Statements
    from pgqueue.worker.leases import Leases
    from pgqueue.worker.link import Link

logger = logging.getLogger("pgqueue.worker")

BUSY_INTERVAL = 0.5
"""Seconds between two rounds by one process; the database shares the turns among all of them."""
IDLE_INTERVAL = 1.3
"""The same while the process holds no job: an expired lease waits for it, at most."""
SHORTEST_INTERVAL = 0.2
"""However soon the next scheduled job is due."""


class Upkeep:
    """Promotes what is due, reaps what is lost, and so on."""

    def __init__(self, link: Link, statements: Statements, leases: Leases) -> None:
        self._link = link
        self._leases = leases
        self._statements = statements
        self._portion = Portion(DEFAULT_UPKEEP)
        self._turn = asyncio.Lock()
        self._stopping = False
        self._next_due: float | None = None

    def stop(self) -> None:
        """Ends `run` after the round under way; cancel its task for an end at once."""
        self._stopping = True
        self._link.kill()

    async def run(self) -> None:
        """Goes on until `stop`: upkeep that fails is tried again."""
        try:
            # Not just until it is cancelled: before 3.12 asyncio.wait_for may swallow that.
            while not self._stopping:
                try:
                    pause = BUSY_INTERVAL / 10 if await self.round() else self._pause()
                except psycopg.errors.QueryCanceled as error:
                    logger.warning("maintenance: %s; it will do less at a time", error)
                    pause = BUSY_INTERVAL
                except psycopg.Error as error:
                    pause = max(BUSY_INTERVAL, self._link.pause_after(error))
                await asyncio.sleep(pause)
        finally:
            await self._link.close()

    async def round(self) -> bool:
        """One round; whether it made jobs ready.

        Raises:
            psycopg.Error: it failed; one that took too long will do less the next time.
        """
        async with self._turn:
            upkeep = self._statements.upkeep(self._portion.size)
            try:
                moved, self._next_due = await self._link.try_run(upkeep)
            except psycopg.errors.QueryCanceled:
                self._portion.shrink()
                raise
        self._portion.grow()
        return moved > 0

    def _pause(self) -> float:
        interval = BUSY_INTERVAL if self._leases else IDLE_INTERVAL
        pause = interval * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
        if self._next_due is None:
            return pause
        return min(pause, max(SHORTEST_INTERVAL, self._next_due))
