"""One worker process at work: its parts, what they tell each other, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

import attrs
import psycopg

from pgqueue.drivers import AsyncDriver, Driver
from pgqueue.errors import SchemaError
from pgqueue.events import PoolUse, Use
from pgqueue.worker import control
from pgqueue.worker.async_pool import AsyncPool
from pgqueue.worker.attempts import AttemptLog
from pgqueue.worker.claims import ClaimLoop
from pgqueue.worker.control import Control
from pgqueue.worker.heartbeat import Heartbeat
from pgqueue.worker.idleness import Idleness
from pgqueue.worker.leases import Leases
from pgqueue.worker.link import Link
from pgqueue.worker.observers import Observers
from pgqueue.worker.settle import Settler
from pgqueue.worker.shutdown import Shutdown
from pgqueue.worker.thread_pool import ThreadPool
from pgqueue.worker.upkeep import Upkeep
from pgqueue.worker.watchdog import Watchdog

if TYPE_CHECKING:
    from pgqueue.handlers import Handlers
    from pgqueue.models import Job
    from pgqueue.statements import Statements
    from pgqueue.worker.options import Options
    from pgqueue.worker.pool import Pool

logger = logging.getLogger("pgqueue.worker")

LAST_SECONDS = 1.0
"""For the heartbeat's thread to end."""


@attrs.frozen
class Health:
    """How a worker process is doing."""

    ok: bool
    """Whether every claim loop has moved within the last few poll intervals, and the heartbeat
    beats.

    It says nothing about the database: a loop that tries to reconnect moves.
    """
    idle_for: float
    """Seconds since the slowest claim loop last moved."""
    held: int
    """Jobs claimed and not yet ended."""
    settled: int
    """Attempts ended since the start."""
    polling: bool = False
    """Whether notifications do not arrive, as through a pooler in transaction mode, so that a job
    waits for an idle worker's next poll."""


class Engine:
    """Everything of one process, on the running event loop. It is used once."""

    def __init__(
        self, dsn: str, statements: Statements, handlers: Handlers, options: Options
    ) -> None:
        self._statements = statements
        self._options = options
        settings: dict[str, Any] = {
            "prepare": options.prepare,
            "reply_timeout": options.reply_timeout,
        }
        self._async_driver = AsyncDriver(dsn, statements.schema, 1, **settings)
        self._leases = Leases()
        driver = Driver(dsn, statements.schema, 1, **settings)
        self._control = Control(driver, self._async_driver, statements, self._leases)
        self._shutdown = Shutdown(options.shutdown_timeout.total_seconds(), self._leases)
        self._stopping = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        observers = Observers(options.observers)
        self._observer = observers or None
        self._report_link = self._link("reporting endings")
        self._settler = Settler(
            self._report_link,
            statements,
            self._leases,
            options.lease,
            handlers.tell if handlers.observed else None,
            handlers.redacted,
            AttemptLog(handlers.redacted, options.process_name()),
            self._observer,
        )
        self._heartbeat = Heartbeat(
            self._async_driver,
            statements,
            self._leases,
            options.lease,
            self._hear_from_thread,
            self._observer,
        )
        self._upkeep = Upkeep(self._link("maintenance"), statements, self._leases)
        self._pools = self._make_pools(handlers)
        self._claims = [self._claim_loop(pool) for pool in self._pools]
        self._told_deaf = False

    # Life

    def stop(self) -> None:
        """Begins the orderly end; a second call hurries it. From the event loop."""
        if self._stopping.is_set():
            self._shutdown.hurry()
        self._shutdown.begin()
        self._stopping.set()
        for claims in self._claims:
            claims.stop()

    def health(self) -> Health:
        """How this process is doing."""
        idle_for = self._idle_for()
        moving = idle_for < 5 * self._options.poll_interval.total_seconds() + 5
        ok = moving and self._heartbeat.is_alive()
        polling = any(claims.deaf for claims in self._claims)
        return Health(ok, idle_for, len(self._leases), self._settler.settled, polling)

    def _idle_for(self) -> float:
        now = time.monotonic()
        return max((now - claims.moved_at for claims in self._claims), default=0.0)

    async def run(self, *, until_idle: bool = False) -> bool:
        """Works until `stop`, or until nothing is left to do; true if all could be ended in order.

        An error that a part cannot deal with, and a cancellation, end the worker in order as well,
        and come out then.
        """
        if self._observer is None:
            return await self._run(until_idle=until_idle)
        self._observer.started(self._options.process_name(), self._use)
        try:
            return await self._run(until_idle=until_idle)
        finally:
            self._observer.stopped()

    async def _run(self, *, until_idle: bool) -> bool:
        idleness = Idleness(self._leases, len(self._claims)) if until_idle else None
        start = self._loop.create_task
        self._heartbeat.start()
        settling = start(self._settler.run())
        upkeep = start(self._upkeep.run())
        claiming = [start(claims.run(idleness)) for claims in self._claims]
        parts = {settling, upkeep, *claiming}
        watching: asyncio.Task[None] | None = None
        if self._options.watchdog is not None:
            watchdog = Watchdog(self._options.watchdog.total_seconds(), self._idle_for)
            watching = start(watchdog.run())
        try:
            await self._until_over(parts, idleness)
        finally:
            if watching is not None:
                watching.cancel()  # from here on the shutdown timeout is the deadline
            try:
                clean = await self._end(claiming, settling)
            finally:
                self._heartbeat.stop()
                self._upkeep.stop()
                for task in (*claiming, settling, upkeep):
                    task.cancel()
                await asyncio.wait((*claiming, settling, upkeep), timeout=LAST_SECONDS)
                await self._heartbeat.ended_within(LAST_SECONDS)
        return clean

    def _use(self) -> Use:
        pools = [
            PoolUse(
                pool="async" if isinstance(pool, AsyncPool) else "sync",
                size=pool.size,
                busy=pool.busy,
                waiting=pool.waiting,
            )
            for pool in self._pools
        ]
        return Use(pools=pools, held=len(self._leases), unreported=len(self._settler))

    def _link(self, purpose: str) -> Link:
        seconds = self._options.reply_timeout.total_seconds()
        return Link(self._async_driver, purpose, seconds, self._observer)

    def _make_pools(self, handlers: Handlers) -> list[Pool]:
        size, unwanted = self._options.concurrency, self._leases.unwanted
        sync_kinds = [kind for kind in handlers.kinds if not kind.is_async]
        async_kinds = [kind for kind in handlers.kinds if kind.is_async]
        pools: list[Pool] = []
        if async_kinds:
            pools.append(AsyncPool(handlers, async_kinds, size, self._settler.add, unwanted))
        if sync_kinds:
            report = self._settler.add_from_thread
            pools.append(ThreadPool(handlers, sync_kinds, size, report, unwanted))
        return pools

    def _claim_loop(self, pool: Pool) -> ClaimLoop:
        return ClaimLoop(
            self._link("claiming"),
            self._statements,
            self._options,
            pool,
            self._leases,
            self._settler,
            self._control,
            self._tell_deaf,
            self._observer,
        )

    def _tell_deaf(self) -> None:
        if not self._told_deaf:
            self._told_deaf = True
            logger.warning(
                "notifications do not arrive (a pooler in transaction mode?); polling every %g s",
                self._options.poll_interval.total_seconds(),
            )

    async def _until_over(self, parts: set[asyncio.Task[None]], idleness: Idleness | None) -> None:
        """Waits for `stop` or idleness; raises what ended a part, since none ends by itself."""
        stopping = self._loop.create_task(self._stopping.wait())
        idle = None if idleness is None else self._loop.create_task(self._idle(idleness))
        watched = {stopping, *parts} if idle is None else {stopping, idle, *parts}
        try:
            done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            if idle is not None:
                idle.cancel()
        for task in done - {stopping}:
            task.result()

    async def _idle(self, idleness: Idleness) -> None:
        """Waits until there is nothing to do: not for the maintenance, and not after it either.

        What a round finds done may have been done by another one after the last look for jobs.
        """
        upkept_at: int | None = None
        while True:
            await idleness.reached.wait()
            if idleness.still() and self._leases.moves == upkept_at:
                return
            moves = self._leases.moves
            try:
                idle = not await self._upkeep.round() and self._leases.moves == moves
            except (psycopg.Error, SchemaError):
                idle = False
                await asyncio.sleep(LAST_SECONDS)  # the upkeep's own task says what is wrong
            idleness.reset()
            upkept_at = self._leases.moves if idle else None

    # What the heartbeat finds: jobs that are not ours any more, and jobs to cancel

    def _hear_from_thread(self, lost: list[Job[Any]], cancelled: list[Job[Any]]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._hear, lost, cancelled)

    def _hear(self, lost: list[Job[Any]], cancelled: list[Job[Any]]) -> None:
        control.tell(self._leases, self._pools, self._settler, lost, cancelled)

    # The end

    async def _end(self, claiming: list[asyncio.Task[None]], settling: asyncio.Task[None]) -> bool:
        self._shutdown.begin()
        await self._shutdown.end_claims(self._claims, claiming)
        drained = await self._shutdown.end_handlers(self._pools, self._settler)
        reported = await self._shutdown.end_settler(self._settler, settling, self._report_link)
        self._heartbeat.stop()
        return drained and reported
