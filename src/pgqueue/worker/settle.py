"""Reports endings to the database: collected for a few milliseconds, then sent as few statements.

An ending that cannot be sent is kept and sent again: repeating it is harmless, and if the lease ran
out meanwhile the database says so. One that is refused, or that has to wait, never holds up the
others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import psycopg

from pgqueue.errors import InvalidJob, JobError
from pgqueue.events import AttemptEnded, Outcome
from pgqueue.guarded import impatient
from pgqueue.masking import first_line
from pgqueue.worker import report
from pgqueue.worker.runner import Ending

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pgqueue.events import Observer
    from pgqueue.models import Job
    from pgqueue.redaction import Redact
    from pgqueue.statements import Statement, Statements
    from pgqueue.worker.attempts import AttemptLog
    from pgqueue.worker.leases import Leases

T = TypeVar("T")

logger = logging.getLogger("pgqueue.worker")

GATHER = 0.003
"""Seconds to wait for more endings before they are sent."""
ENOUGH = 200
"""This many are sent without waiting for more."""
MOST = 2_000
"""The most in one statement."""
MOST_TEXT = 4_000_000
"""Characters of results in one statement, roughly."""
TOO_MANY = 10_000
"""No more jobs are claimed while so many endings wait: the database is behind."""
LOCK_SECONDS = 0.25
"""To wait for a job's row that somebody has locked."""
FIRST_DELAY, LONGEST_DELAY = 0.1, 2.0
"""Seconds before an ending is sent again, doubling."""
MOST_TRIES = 10
"""After so many an ending is given up: its job runs again after its lease."""

REFUSED = (InvalidJob, psycopg.DataError)
PATIENT = (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled)
"""Errors that end some time, while nobody else can have the job."""


class Runs(Protocol):
    """What statements are sent by: a worker's `Link`, or a driver with spare connections."""

    async def run(self, statement: Statement[T]) -> T:
        """Runs a statement that may be repeated."""


class AckRolledBack(JobError):
    """The handler acked its job in a transaction, returned, and yet the transaction was undone."""

    def __init__(self) -> None:
        super().__init__(
            "job.ack(conn=...) was rolled back, and the handler returned as if all were well; "
            "let the exception that undid the transaction pass"
        )


class Settler:
    """The queue of endings. `add` belongs to the event loop, `add_from_thread` to any thread.

    The first ending of an attempt counts; what comes later is dropped.
    """

    def __init__(
        self,
        link: Runs,
        statements: Statements,
        leases: Leases,
        lease: timedelta,
        tell: Callable[[AttemptEnded], None] | None,
        redact: Redact,
        log: AttemptLog,
        observer: Observer | None = None,
    ) -> None:
        """`tell` hears of every ending; `redact` gives texts back as they may be seen.

        `observer` hears of endings in batches; None if there is none.
        """
        self._link = link
        self._statements = statements
        self._leases = leases
        self._lease = lease
        self._tell = tell
        self._redact = redact
        self._log = log
        self._observer = observer
        self._endings: deque[Ending] = deque()
        self._put_off = 0
        self._underway: list[Ending] = []
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._woken_from_thread = False
        self._closing = False
        self.settled = 0
        """Endings that the database knows of."""

    def __len__(self) -> int:
        return len(self._endings) + self._put_off

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
            # Where the loop is closed, a handler outlived its worker, and its lease is over.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wake_up)

    def _wake_up(self) -> None:
        self._woken_from_thread = False
        self._wake.set()

    def lose(self, job: Job[Any]) -> None:
        """Ends an attempt that another one has replaced already; there is nothing to send.

        Unless its ending is on its way: a job that is put back without delay may be claimed again
        before we hear that it was put back.
        """
        if all(ending.job is not job for ending in self._underway):
            self._conclude([Ending(job, Outcome.LOST)], set())

    async def run(self) -> None:
        """Sends endings until `close`, and then what is left."""
        while self or not self._closing:
            self._wake.clear()
            if not self._endings:
                await self._wake.wait()
                continue
            if len(self._endings) < ENOUGH and not self._closing:
                await asyncio.sleep(GATHER)
            found = self._next()
            self._underway = [ending for endings in found.values() for ending in endings]
            try:
                for outcome, endings in found.items():
                    if outcome is None:
                        await self._settle_acked(endings)
                    else:
                        await self._settle(outcome, endings)
            except BaseException:
                # For another run; what went through is not held any more, and passed over there.
                self._endings.extend(self._underway)
                raise
            finally:
                self._underway = []

    def close(self) -> None:
        """Lets `run` end once everything is sent."""
        self._closing = True
        self._wake.set()

    def _next(self) -> dict[Outcome | None, list[Ending]]:
        """What to send now, by outcome; at None what handlers acked themselves."""
        seen: set[int] = set()
        found: dict[Outcome | None, list[Ending]] = {}
        text = 0
        while self._endings and len(seen) < MOST and text < MOST_TEXT:
            ending = self._endings.popleft()
            job = ending.job
            if job.id in seen or not self._leases.holds(job):
                continue
            seen.add(job.id)
            if ending.result is not None:
                text += len(ending.result)
            group = None if self._leases.is_acked(job) else ending.outcome
            found.setdefault(group, []).append(ending)
        return found

    async def _settle(self, outcome: Outcome, endings: list[Ending]) -> None:
        """Sends endings of one outcome. Whatever goes wrong, none of them is forgotten."""
        try:
            lost = [] if outcome is Outcome.LOST else await self._send(outcome, endings)
        except Exception as error:  # noqa: BLE001 - it may be the fault of any one of them
            if len(endings) == 1:
                self._keep(endings[0], error)
                return
            half = len(endings) // 2
            await self._settle(outcome, endings[:half])
            await self._settle(outcome, endings[half:])
        else:
            self._conclude(endings, set(lost))

    async def _send(self, outcome: Outcome, endings: list[Ending]) -> list[int]:
        statement = report.statement(self._statements, outcome, endings, self._redact)
        return await self._link.run(impatient(statement, LOCK_SECONDS))

    async def _settle_acked(self, endings: list[Ending]) -> None:
        """Ends jobs that handlers acked themselves: done if their transactions were committed."""
        claims = [(ending.job.id, ending.job.token) for ending in endings]
        extend = self._statements.extend(claims, self._lease)
        try:
            held = await self._link.run(impatient(extend, LOCK_SECONDS))
        except Exception as error:  # noqa: BLE001 - as in _settle
            if len(endings) == 1:
                self._keep(endings[0], error)  # its transaction is still open
                return
            half = len(endings) // 2
            await self._settle_acked(endings[:half])
            await self._settle_acked(endings[half:])
            return
        undone = [ending for ending in endings if ending.job.id in held]
        for ending in undone:
            if ending.outcome is Outcome.SUCCEEDED:
                ending.outcome, ending.error = Outcome.FAILED, AckRolledBack()
        self._leases.forget_acks(ending.job for ending in undone)
        self.add(undone)
        done = [ending for ending in endings if ending.job.id not in held]
        for ending in done:
            if ending.outcome is not Outcome.SUCCEEDED:
                logger.warning(
                    "job %s was acked by its handler; that it ended as %s afterwards is ignored%s",
                    ending.job.id, ending.outcome, self._log.why(ending),
                )  # fmt: skip
            ending.outcome = Outcome.SUCCEEDED
        self._conclude(done, set())

    def _keep(self, ending: Ending, error: Exception) -> None:
        """Sees to an ending that cannot be sent as it is."""
        if not self._leases.holds(ending.job):  # see `lose`
            self._conclude([ending], {ending.job.id})
            return
        ending.tries += 1
        if ending.tries > MOST_TRIES and not isinstance(error, PATIENT):
            logger.error(
                "the ending of job %s cannot be stored, and is given up; "
                "it runs again after its lease: %s",
                ending.job.id, self._redact(ending.job, first_line(error)),
            )  # fmt: skip
            self._conclude([ending], {ending.job.id})
            return
        if ending.outcome is Outcome.SUCCEEDED and isinstance(error, REFUSED):
            ending.outcome, ending.error = Outcome.FAILED, error
            self.add([ending])
            return
        why = self._redact(ending.job, first_line(error))
        logger.warning("the ending of job %s has to wait: %s", ending.job.id, why)
        self._put_off += 1
        delay = min(FIRST_DELAY * 2.0 ** min(ending.tries, 10), LONGEST_DELAY)
        self._loop.call_later(delay, self._take_up, ending)

    def _take_up(self, ending: Ending) -> None:
        self._put_off -= 1
        self.add([ending])

    def _conclude(self, endings: list[Ending], lost: set[int]) -> None:
        self.settled += len(endings)
        log_all = self._log.wants_all()
        others: dict[Outcome, list[Ending]] = {}
        for ending in endings:
            job, outcome = ending.job, ending.outcome
            if lost or outcome is not Outcome.SUCCEEDED:
                outcome = self._final(ending, lost)
            self._leases.drop(job)
            if outcome is not Outcome.SUCCEEDED:
                others.setdefault(outcome, []).append(ending)
            if log_all or outcome is not Outcome.SUCCEEDED:
                self._log.write(ending, outcome)
            if self._tell is not None:
                took = timedelta(seconds=ending.duration)
                self._tell(AttemptEnded(job, outcome, took, ending.error))
        if self._observer is not None:
            self._observe(endings, others)

    def _observe(self, endings: list[Ending], others: dict[Outcome, list[Ending]]) -> None:
        """Tells the observer of `endings`, of which `others` have not succeeded."""
        assert self._observer is not None  # noqa: S101 - for the type checker
        if not others:
            self._observer.ended(Outcome.SUCCEEDED, endings)
            return
        for outcome, some in others.items():
            self._observer.ended(outcome, some)
        apart = {id(ending) for some in others.values() for ending in some}
        if rest := [ending for ending in endings if id(ending) not in apart]:
            self._observer.ended(Outcome.SUCCEEDED, rest)

    def _final(self, ending: Ending, lost: set[int]) -> Outcome:
        if ending.job.id in lost:
            return Outcome.LOST
        if ending.outcome in (Outcome.FAILED, Outcome.SNOOZED, Outcome.RELEASED) and (
            self._leases.unwanted(ending.job) is Outcome.CANCELLED
        ):
            return Outcome.CANCELLED  # a job that is to be cancelled is not put back
        if ending.outcome is Outcome.FAILED and ending.job.attempt >= ending.job.max_attempts:
            return Outcome.DEAD
        return ending.outcome
