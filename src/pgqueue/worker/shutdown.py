"""The orderly end of one worker process: stop claiming, drain, cancel, release, report."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from pgqueue.events import Outcome
from pgqueue.worker.runner import Ending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pgqueue.worker.claims import ClaimLoop
    from pgqueue.worker.leases import Leases
    from pgqueue.worker.link import Link
    from pgqueue.worker.pool import Pool
    from pgqueue.worker.settle import Settler

logger = logging.getLogger("pgqueue.worker")

CLAIM_SHARE = 0.2
DRAIN_SHARE = 0.8
CANCEL_SHARE = 0.9
"""Of the shutdown timeout: until then a claim under way may end, handlers may finish, and those
that were cancelled may clean up."""
LEAST_SECONDS = 0.1
"""For each step after draining, however short the timeout is."""
POLL_SECONDS = 0.005
RESTARTS = 3
"""Of the settler, where it was cancelled by somebody else, or failed."""


class Shutdown:
    """Its clock starts with `begin`; `hurry` skips what is left of the draining."""

    def __init__(self, timeout: float, leases: Leases) -> None:
        self._timeout = timeout
        self._leases = leases
        self._began: float | None = None
        self._hurried: float | None = None

    def begin(self) -> None:
        """Starts the clock."""
        if self._began is None:
            self._began = time.monotonic()

    def hurry(self) -> None:
        """Skips the draining."""
        if self._hurried is None:
            self._hurried = time.monotonic()

    async def end_claims(
        self, claims: Iterable[ClaimLoop], tasks: Sequence[asyncio.Task[None]]
    ) -> None:
        """Stops claiming; a claim that the database does not answer is given up."""
        for loop in claims:
            loop.stop()
        if not await self._until(lambda: _done(tasks), CLAIM_SHARE, LEAST_SECONDS):
            for loop in claims:
                loop.abort()
            await asyncio.wait(tasks, timeout=LEAST_SECONDS)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=LEAST_SECONDS)

    async def end_handlers(self, pools: Sequence[Pool], settler: Settler) -> bool:
        """Lets handlers finish while there is time, then cancels them; false if it came to that."""
        for pool in pools:
            settler.add([Ending(job, Outcome.RELEASED) for job in pool.take_back()])
        if self._busy(pools):
            kinds = sorted({job.kind for pool in pools for job in pool.running_jobs()})
            seconds = max(0.0, self._deadline(DRAIN_SHARE) - time.monotonic())
            logger.info("stopping: handlers of %s have %.3g s to finish", ", ".join(kinds), seconds)
        clean = await self._until(lambda: not self._busy(pools), DRAIN_SHARE)
        if not clean:
            for pool in pools:
                pool.stop_all()  # first, so that no thread sees the request before the pool knows
                for job in pool.running_jobs():
                    self._leases.ask_to_stop(job, Outcome.RELEASED)
            if not await self._until(lambda: not self._busy(pools), CANCEL_SHARE, LEAST_SECONDS):
                left = sorted({job.kind for pool in pools for job in pool.running_jobs()})
                logger.warning(
                    "handlers of %s do not stop; their jobs are released", ", ".join(left)
                )
        for pool in pools:
            pool.close()
        return clean

    async def end_settler(self, settler: Settler, task: asyncio.Task[None], link: Link) -> bool:
        """Reports what is left to report; false if that cannot be done in time."""
        settler.close()
        reported = await self._until(task.done, 1.0, LEAST_SECONDS)
        for _ in range(RESTARTS):
            if not reported or not _failed(task):
                break
            # An app that ends may cancel every task there is: what was released is reported still.
            task = asyncio.get_running_loop().create_task(settler.run())
            reported = await self._until(task.done, 1.0, LEAST_SECONDS)
        if not reported:
            logger.warning(
                "%d endings could not be reported in time; their jobs run again after their leases",
                len(settler),
            )
            link.kill()
            task.cancel()
            await asyncio.wait([task], timeout=LEAST_SECONDS)
        await link.close()
        return reported and not _failed(task)

    def _busy(self, pools: Sequence[Pool]) -> bool:
        """Whether a handler runs whose attempt is not over (those timed out in threads are)."""
        return any(self._leases.holds(job) for pool in pools for job in pool.running_jobs())

    async def _until(
        self, condition: Callable[[], bool], share: float, at_least: float = 0.0
    ) -> bool:
        """Waits for `condition`; false if it has not come when `share` of the timeout is over."""
        started = time.monotonic()
        while not condition():
            if time.monotonic() >= max(self._deadline(share), started + at_least):
                return False
            await asyncio.sleep(POLL_SECONDS)
        return True

    def _deadline(self, share: float) -> float:
        assert self._began is not None  # noqa: S101 - begin comes first
        deadline = self._began + self._timeout * share
        if self._hurried is not None:
            left = max(share - DRAIN_SHARE, 0.0)
            deadline = min(deadline, self._hurried + self._timeout * left)
        return deadline


def _done(tasks: Iterable[asyncio.Task[None]]) -> bool:
    return all(task.done() for task in tasks)


def _failed(task: asyncio.Task[None]) -> bool:
    return task.cancelled() or task.exception() is not None
