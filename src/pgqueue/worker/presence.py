"""A worker's word that it lives: a row in the table `worker`, for people and for `client.why`.

The heartbeat's thread says it, on its own connection, after it has renewed what is due. Nothing
depends on it: whatever goes wrong here is told in the log at most, and tried again later.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from typing import TYPE_CHECKING

import psycopg

from pgqueue.errors import PgqueueError
from pgqueue.guarded import unsynced
from pgqueue.masking import first_line
from pgqueue.registry import BEAT_SECONDS, RegistryStatements
from pgqueue.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from pgqueue.worker.link import Link
    from pgqueue.worker.pool import Pool

logger = logging.getLogger("pgqueue.worker")

EARLY_SECONDS = 2.0
"""After the last beat, when it may be told early that there is no room for a kind, or room again:
who asks why a job waits should not be told what was so ten seconds ago."""
AFTER_FAILURE = 60.0
"""Seconds until it is tried again: the connection may have to be made anew each time."""
GOODBYE_SECONDS = 0.5
"""To say that the worker has ended."""


class Presence:
    """What one process says of itself."""

    def __init__(
        self,
        schema: str,
        name: str,
        queues: Collection[str],
        pools: Callable[[], Sequence[Pool]],
        concurrency: int,
    ) -> None:
        """`pools` gives those of the process; `concurrency` is that of each."""
        self._statements = RegistryStatements(schema)
        self._name = name
        self._queues = sorted(queues)
        self._pools = pools
        self._concurrency = concurrency
        self._due_at = self._early_at = 0.0
        self._full: list[str] = []
        self._registered = False
        self._stopping = False

    def stop(self) -> None:
        """Says with the next beat, which is due at once, that the worker is about to end."""
        self._stopping = True
        self._due_at = 0.0

    async def beat(self, link: Link) -> None:
        """Says that the worker lives, if that is due; never raises anything."""
        now, full = time.monotonic(), self._full_kinds()
        if now < (self._due_at if full == self._full else min(self._due_at, self._early_at)):
            return
        pause, early = BEAT_SECONDS, EARLY_SECONDS
        try:
            if not self._registered or await self._say(link, full) is False:
                await self._register(link)
                full = []
            self._full = full
        except Exception as error:  # noqa: BLE001 - whatever it is, leases must be renewed
            logger.debug("could not say that the worker lives: %s", first_line(error))
            pause = early = AFTER_FAILURE
        self._due_at, self._early_at = now + pause, now + early

    async def leave(self, link: Link) -> None:
        """Says that the worker has ended, if that can be said without further ado."""
        if not self._registered:
            return
        timer = asyncio.get_running_loop().call_later(GOODBYE_SECONDS, link.cut)
        try:
            await link.try_run(unsynced(self._statements.unregister(self._name)))
        except (psycopg.Error, PgqueueError) as error:
            logger.debug("could not take the worker out of the list: %s", first_line(error))
        finally:
            timer.cancel()

    async def _register(self, link: Link) -> None:
        pools = self._pools()
        register = self._statements.register(
            self._name,
            queues=self._queues,
            kinds=sorted(kind.name for pool in pools for kind in pool.kinds),
            concurrency=self._concurrency * len(pools),
            host=socket.gethostname(),
            pid=os.getpid(),
            version=__version__,
        )
        await link.try_run(unsynced(register))
        self._registered = True

    async def _say(self, link: Link, full: Sequence[str]) -> bool | None:
        running = sum(pool.busy for pool in self._pools())
        beat = self._statements.beat(self._name, running, full, stopping=self._stopping)
        return await link.try_run(unsynced(beat))

    def _full_kinds(self) -> list[str]:
        full = [pool for pool in self._pools() if pool.busy >= pool.size]
        return sorted(kind.name for pool in full for kind in pool.kinds)
