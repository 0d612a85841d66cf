"""Reports endings to the database: collected for a few milliseconds, then sent as few statements.

An ending that cannot be sent, because the server is gone, is kept and sent again when it is back: repeating it
is harmless, and if the lease ran out meanwhile the database says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg

from pgqueue import models
from pgqueue.errors import InvalidJob
from pgqueue.events import AttemptEnded, Outcome
from pgqueue.worker.runner import Ending

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pgqueue.statements import Statement, Statements
    from pgqueue.worker.leases import Leases
    from pgqueue.worker.link import Link

logger = logging.getLogger("pgqueue.worker")

GATHER = 0.003
"""Seconds to wait for more endings before they are sent."""
ENOUGH = 200
"""This many are sent without waiting for more."""
MOST = 2_000
"""The most in one statement."""
TOO_MANY = 10_000
"""No more jobs are claimed while so many endings wait: the database is behind."""


class Settler:
    """The queue of endings. `add` belongs to the event loop, `add_from_thread` to any thread."""

    def __init__(
        self,
        link: Link,
        statements: Statements,
        leases: Leases,
        tell: Callable[[AttemptEnded], None] | None,
        acked_elsewhere: set[int],
    ) -> None:
        """`tell` hears of every ending; `acked_elsewhere` has ids that a handler acked in its own transaction."""
        self._link = link
        self._statements = statements
        self._leases = leases
        self._tell = tell
        self._acked_elsewhere = acked_elsewhere
        self._endings: deque[Ending] = deque()
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._woken_from_thread = False
        self._closing = False
        self.settled = 0
        """Endings that the database knows of."""

    def __len__(self) -> int:
        return len(self._endings)

    @property
    def behind(self) -> bool:
        """Whether to stop claiming for now."""
        return len(self._endings) > TOO_MANY

    def add(self, endings: Sequence[Ending]) -> None:
        """Queues endings."""
        self._endings.extend(endings)
        self._wake.set()

    def add_from_thread(self, endings: Sequence[Ending]) -> None:
        """Queues endings from another thread; wakes the loop once for many."""
        self._endings.extend(endings)
        if not self._woken_from_thread:
            self._woken_from_thread = True
            self._loop.call_soon_threadsafe(self._wake_up)

    def _wake_up(self) -> None:
        self._woken_from_thread = False
        self._wake.set()

    async def run(self) -> None:
        """Sends endings until `close`, and then what is left."""
        while self._endings or not self._closing:
            if not self._endings:
                self._wake.clear()
                await self._wake.wait()
            if len(self._endings) < ENOUGH and not self._closing:
                await asyncio.sleep(GATHER)
            endings = [self._endings.popleft() for _ in range(min(MOST, len(self._endings)))]
            await self._send(endings)

    def close(self) -> None:
        """Lets `run` end once everything is sent."""
        self._closing = True
        self._wake.set()

    async def _send(self, endings: list[Ending]) -> None:
        by_outcome: dict[Outcome, list[Ending]] = {}
        for ending in endings:
            if self._leases.holds(ending.job):
                by_outcome.setdefault(ending.outcome, []).append(ending)
        for outcome, group in by_outcome.items():
            unsent = group
            if outcome is Outcome.SUCCEEDED and self._acked_elsewhere:
                unsent = [e for e in group if e.job.id not in self._acked_elsewhere]
            lost = set(await self._report(outcome, unsent)) if unsent else set()
            self._conclude(group, lost)

    async def _report(self, outcome: Outcome, endings: list[Ending]) -> list[int]:
        """Sends endings of one outcome; gives the ids that were lost."""
        if outcome is Outcome.LOST:
            return []
        try:
            return await self._link.run(self._statement(outcome, endings))
        except (InvalidJob, psycopg.DataError) as error:
            if len(endings) > 1:
                # One of them cannot be stored: find it, and let the others through.
                return [i for e in endings for i in await self._report(outcome, [e])]
            logger.warning("the result of job %s cannot be stored: %s", endings[0].job.id, error)
            endings[0].outcome = Outcome.FAILED
            endings[0].error = error
            return await self._link.run(self._statement(Outcome.FAILED, endings))

    def _statement(self, outcome: Outcome, endings: list[Ending]) -> Statement[list[int]]:
        make = self._statements
        jobs = [ending.job for ending in endings]
        if outcome is Outcome.SUCCEEDED:
            results = [ending.result for ending in endings]
            return make.ack(jobs, results if any(r is not None for r in results) else None)
        if outcome is Outcome.FAILED:
            errors = [models.error_entry(e.error if e.error is not None else e.reason) for e in endings]
            return make.fail(jobs, errors, [ending.delay for ending in endings])
        if outcome is Outcome.SNOOZED:
            return make.snooze(jobs, [ending.delay or timedelta(0) for ending in endings])
        if outcome is Outcome.SKIPPED:
            return make.skip(jobs, [ending.reason for ending in endings])
        if outcome is Outcome.CANCELLED:
            return make.cancel_claimed(jobs, [ending.reason for ending in endings])
        return make.release(jobs)

    def _conclude(self, endings: list[Ending], lost: set[int]) -> None:
        self.settled += len(endings)
        for ending in endings:
            job = ending.job
            self._leases.drop(job)
            if self._acked_elsewhere:
                self._acked_elsewhere.discard(job.id)
            outcome = _final(ending, lost)
            if outcome is not Outcome.SUCCEEDED:
                _log(ending, outcome)
            if self._tell is not None:
                took = timedelta(seconds=ending.duration)
                self._tell(AttemptEnded(job, outcome, took, ending.error))


def _final(ending: Ending, lost: set[int]) -> Outcome:
    if ending.job.id in lost:
        return Outcome.LOST
    if ending.outcome is Outcome.FAILED and ending.job.attempt >= ending.job.max_attempts:
        return Outcome.DEAD
    return ending.outcome


def _log(ending: Ending, outcome: Outcome) -> None:
    job = ending.job
    bad = outcome in (Outcome.FAILED, Outcome.DEAD, Outcome.LOST)
    logger.log(
        logging.WARNING if bad else logging.INFO,
        "job %s (%s) attempt %s of %s: %s%s",
        job.id, job.kind, job.attempt, job.max_attempts, outcome, _why(ending),
        extra={
            "job_id": job.id, "kind": job.kind, "queue": job.queue, "attempt": job.attempt,
            "outcome": str(outcome), "duration": ending.duration,
        },
    )  # fmt: skip


def _why(ending: Ending) -> str:
    if ending.error is not None:
        return f": {type(ending.error).__qualname__}: {ending.error}"
    return f": {ending.reason}" if ending.reason else ""
