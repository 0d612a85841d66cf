"""One worker process at work: claim loops, pools, settler, heartbeat and upkeep, and their orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from typing import TYPE_CHECKING, Any

import attrs
import psycopg

from pgqueue import jsontext
from pgqueue.connections import unwrap
from pgqueue.drivers import AsyncDriver, Driver
from pgqueue.errors import DatabaseUnavailable, LeaseLost
from pgqueue.events import Outcome
from pgqueue.statements import Statements
from pgqueue.worker.claims import ClaimLoop
from pgqueue.worker.leases import Heartbeat, Leases
from pgqueue.worker.link import Link
from pgqueue.worker.pools import AsyncPool, Pool, ThreadPool
from pgqueue.worker.runner import Ending
from pgqueue.worker.settle import Settler

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from pgqueue.handlers import Handlers
    from pgqueue.jsontext import Json
    from pgqueue.models import Job
    from pgqueue.worker.options import Options

logger = logging.getLogger("pgqueue.worker")

UPKEEP_SECONDS = 0.5
"""Between two rounds of maintenance by one process; the database shares the turns among all of them."""
CANCEL_SHARE = 0.8
"""Of the shutdown timeout: until then handlers may finish, afterwards they are cancelled."""


@attrs.frozen
class Health:
    """How a worker process is doing."""

    ok: bool
    """Whether every claim loop has moved within the last few poll intervals."""
    idle_for: float
    """Seconds since the slowest claim loop last moved."""
    held: int
    """Jobs claimed and not yet ended."""
    settled: int
    """Attempts ended since the start."""


class Engine:
    """Everything of one process. `run` returns when it was stopped, or is idle and was asked to end then."""

    def __init__(self, dsn: str, statements: Statements, handlers: Handlers, options: Options) -> None:
        self._statements = statements
        self._handlers = handlers
        self._options = options
        self._async_driver = AsyncDriver(dsn, statements.schema, 1, prepare=options.prepare)
        self._driver = Driver(dsn, statements.schema, 1, prepare=options.prepare)
        self._leases = Leases()
        self._acked_elsewhere: set[int] = set()
        self._pools: list[Pool] = []
        self._claims: list[ClaimLoop] = []
        self._settler: Settler | None = None
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    # What a handler's job asks (JobControl)

    def ack_in(self, job: Job[Any], conn: Any, result: Json) -> None | Awaitable[None]:  # noqa: ANN401
        """Acks `job` on a sync or async connection of its handler."""
        raw = unwrap(conn, (psycopg.Connection, psycopg.AsyncConnection))
        text = None if result is None else [jsontext.dumps(result, "result")]
        statement = self._statements.ack([job], text)
        if isinstance(raw, psycopg.AsyncConnection):
            return self._ack_in(job, self._async_driver.execute(statement, raw))
        self._acked(job, self._driver.execute(statement, raw))
        return None

    async def _ack_in(self, job: Job[Any], lost: Awaitable[list[int]]) -> None:
        self._acked(job, await lost)

    def _acked(self, job: Job[Any], lost: list[int]) -> None:
        if lost:
            raise LeaseLost(lost)
        self._acked_elsewhere.add(job.id)

    def is_cancelled(self, job: Job[Any]) -> bool:
        """Whether the handler of `job` should stop."""
        return job.id in self._leases.cancelled or not self._leases.holds(job)

    # Life

    def stop(self) -> None:
        """Begins the orderly end; a second call hurries it. From the event loop."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()
        for claims in self._claims:
            claims.stop()

    def health(self) -> Health:
        """How this process is doing."""
        now = time.monotonic()
        idle_for = max((now - claims.moved_at for claims in self._claims), default=0.0)
        settled = 0 if self._settler is None else self._settler.settled
        ok = idle_for < 5 * self._options.poll_interval.total_seconds() + 5
        return Health(ok, idle_for, len(self._leases), settled)

    async def run(self, *, until_idle: bool = False) -> bool:
        """Works until `stop`, or until nothing is left to do; true if everything could be ended in order."""
        link = Link(self._async_driver, "reporting endings")
        tell = self._handlers.tell if self._handlers.observed else None
        self._settler = settler = Settler(link, self._statements, self._leases, tell, self._acked_elsewhere)
        heartbeat = Heartbeat(
            self._driver, self._statements, self._leases, self._options.lease, self._hear_from_thread
        )
        self._make_pools(settler)
        self._claims = [self._claim_loop(pool, settler) for pool in self._pools]
        if self._stopping.is_set():
            self.stop()
        heartbeat.start()
        settling = self._loop.create_task(settler.run())
        upkeep = self._loop.create_task(self._upkeep())
        claiming = [self._loop.create_task(claims.run(until_idle=until_idle)) for claims in self._claims]
        try:
            await asyncio.gather(*claiming)
        finally:
            for task in (*claiming, upkeep):
                task.cancel()
            await asyncio.gather(*claiming, upkeep, return_exceptions=True)
            clean = await self._end(settler, settling)
            heartbeat.stop()
            await link.close()
            await asyncio.to_thread(heartbeat.join, heartbeat.beat)
        return clean

    def _make_pools(self, settler: Settler) -> None:
        options = self._options
        kinds = self._handlers.kinds
        sync_kinds = [kind for kind in kinds if not kind.is_async]
        async_kinds = [kind for kind in kinds if kind.is_async]
        if async_kinds:
            self._pools.append(AsyncPool(self._handlers, async_kinds, options.concurrency, settler.add, self.is_cancelled))
        if sync_kinds:
            self._pools.append(
                ThreadPool(self._handlers, sync_kinds, options.concurrency, settler.add_from_thread, self.is_cancelled)
            )

    def _claim_loop(self, pool: Pool, settler: Settler) -> ClaimLoop:
        return ClaimLoop(
            Link(self._async_driver, "claiming"), self._statements, self._options, pool, self._leases,
            settler, self,
        )  # fmt: skip

    # Upkeep

    async def _upkeep(self) -> None:
        link = Link(self._async_driver, "maintenance")
        try:
            while True:
                pause = UPKEEP_SECONDS
                try:
                    done = await link.try_run(self._statements.maintain())
                    if done.promoted:
                        pause /= 10
                except DatabaseUnavailable as error:
                    await link.pause(error)
                except psycopg.Error:
                    # Upkeep is never worth a worker's life; what failed is tried again.
                    logger.exception("maintenance failed")
                await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
        finally:
            await link.close()

    def _hear_from_thread(self, lost: list[Job[Any]], cancelled: list[Job[Any]]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._hear, lost, cancelled)

    def _hear(self, lost: list[Job[Any]], cancelled: list[Job[Any]]) -> None:
        """What the heartbeat found: jobs that are not ours any more, and jobs to cancel."""
        running = {job: pool for pool in self._pools for job in pool.running_jobs()}
        for job, outcome in [(j, Outcome.LOST) for j in lost] + [(j, Outcome.CANCELLED) for j in cancelled]:
            if not self._leases.holds(job) or job.id in self._leases.cancelled:
                continue
            self._leases.cancelled.add(job.id)
            pool = running.get(job)
            if pool is not None:
                pool.stop(job, outcome)
            elif self._settler is not None:
                # It waits in a buffer, and will be passed over when its turn comes.
                self._settler.add([Ending(job, outcome)])

    # The end

    async def _end(self, settler: Settler, settling: asyncio.Task[None]) -> bool:
        timeout = self._options.shutdown_timeout.total_seconds()
        deadline = time.monotonic() + timeout
        for pool in self._pools:
            settler.add([Ending(job, Outcome.RELEASED) for job in pool.take_back()])
        clean = await self._drained(time.monotonic() + timeout * CANCEL_SHARE)
        if not clean:
            await self._cancel_running()
        for pool in self._pools:
            await pool.close()
        settler.close()
        try:
            await asyncio.wait_for(settling, max(0.1, deadline - time.monotonic()))
        except (asyncio.TimeoutError, TimeoutError):
            logger.warning(
                "%d endings could not be reported before the deadline; their jobs run again after their leases",
                len(self._leases),
            )
            return False
        return clean

    async def _drained(self, deadline: float) -> bool:
        """Waits for running handlers; false if some still run at the deadline, or it had to hurry."""
        while any(pool.running for pool in self._pools):
            left = deadline - time.monotonic()
            if left <= 0 or self._hurry.is_set():
                return False
            with contextlib.suppress(asyncio.TimeoutError, TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), min(left, 0.02))
        return True

    async def _cancel_running(self) -> None:
        for pool in self._pools:
            for job in pool.running_jobs():
                self._leases.cancelled.add(job.id)
                pool.stop(job, Outcome.RELEASED)
        # One round of the loop delivers the cancellations; a handler that resists is left to its lease.
        until = time.monotonic() + 1.0
        while any(isinstance(p, AsyncPool) and p.running for p in self._pools) and time.monotonic() < until:
            await asyncio.sleep(0.01)
