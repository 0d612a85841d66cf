"""The database's maintenance, which every worker process takes its turns at."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from typing import TYPE_CHECKING

import psycopg

from pgqueue.models import DEFAULT_UPKEEP
from pgqueue.worker.portion import Portion

if TYPE_CHECKING:
    from pgqueue.statements import Statement, Statements
    from pgqueue.worker.leases import Leases
    from pgqueue.worker.link import Link
    from pgqueue.worker.tally import Tally

logger = logging.getLogger("pgqueue.worker")

BUSY_INTERVAL = 0.5
"""Seconds between two rounds by one process; the database shares the turns among all of them."""
IDLE_INTERVAL = 1.3
"""The same while the process holds no job: an expired lease waits for it, at most."""
SHORTEST_INTERVAL = 0.2
"""However soon the next scheduled job is due."""


class Upkeep:
    """Promotes what is due, reaps what is lost, and so on."""

    def __init__(self, link: Link, statements: Statements, leases: Leases, tally: Tally) -> None:
        self._tally = tally
        self._source = f"worker:{secrets.token_hex(8)}"
        self._figures_due = 0.0
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
            if time.monotonic() >= self._figures_due:
                await self._note_figures()
        self._portion.grow()
        return moved > 0

    async def _note_figures(self) -> None:
        """Sends what was counted. That it fails costs the figures of a minute, and nothing else."""
        due_in = 60.0
        try:
            self._tally.active, due_in = await self._link.try_run(self.figures())
        except psycopg.Error as error:
            logger.warning("figures of a minute are lost: %s", error)
        self._figures_due = time.monotonic() + due_in

    def figures(self) -> Statement[tuple[bool, float]]:
        """What was counted since the last time; gives whether to count, and when to ask again."""
        return self._statements.note_minute(self._source, self._tally.take())

    def _pause(self) -> float:
        interval = BUSY_INTERVAL if self._leases else IDLE_INTERVAL
        pause = interval * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
        if self._next_due is None:
            return pause
        return min(pause, max(SHORTEST_INTERVAL, self._next_due))
