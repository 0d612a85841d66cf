"""The database's maintenance, which every worker process takes its turns at."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

import psycopg

from pgqueue.errors import SchemaError

if TYPE_CHECKING:
    from pgqueue.statements import Statements
    from pgqueue.worker.link import Link

logger = logging.getLogger("pgqueue.worker")

INTERVAL = 0.5
"""Seconds between two rounds by one process; the database shares the turns among all of them."""


class Upkeep:
    """Promotes what is due, reaps what is lost, and so on."""

    def __init__(self, link: Link, statements: Statements) -> None:
        self._link = link
        self._statements = statements
        self._turn = asyncio.Lock()
        self._stopping = False

    def stop(self) -> None:
        """Ends `run` after the round under way; cancel its task for an end at once."""
        self._stopping = True
        self._link.kill()

    async def run(self) -> None:
        """Goes on until `stop`: upkeep that fails is tried again."""
        try:
            # Not just until it is cancelled: before 3.12 asyncio.wait_for may swallow that.
            while not self._stopping:
                pause = INTERVAL
                try:
                    if await self.round():
                        pause /= 10
                except (psycopg.Error, SchemaError) as error:
                    pause = max(pause, self._link.pause_after(error))
                await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
        finally:
            await self._link.close()

    async def round(self) -> bool:
        """One round; whether it made jobs ready."""
        async with self._turn:
            done = await self._link.try_run(self._statements.maintain())
        return bool(done.promoted or done.reaped)
