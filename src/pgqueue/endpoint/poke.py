"""One poke: claims and runs jobs on the running event loop until none is ready, or time is up.

It shares the worker's parts, but holds no connection of its own and has no heartbeat thread: its
leases are longer than its life.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

import attrs
import psycopg

from pgqueue.drivers import AsyncDriver, Driver
from pgqueue.endpoint.answer import RUNNING, Answer, JobAnswer, counted
from pgqueue.errors import SchemaError
from pgqueue.events import AttemptEnded, Outcome
from pgqueue.guarded import impatient, unsynced
from pgqueue.jsontext import storable_text
from pgqueue.masking import LOOKED_THROUGH, first_line
from pgqueue.worker import control
from pgqueue.worker.async_pool import AsyncPool
from pgqueue.worker.attempts import AttemptLog
from pgqueue.worker.control import Control
from pgqueue.worker.leases import Leases
from pgqueue.worker.observers import Observers
from pgqueue.worker.runner import Ending
from pgqueue.worker.settle import LOCK_SECONDS, Settler
from pgqueue.worker.thread_pool import ThreadPool

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from pgqueue.endpoint.options import Limits
    from pgqueue.handlers import Handlers
    from pgqueue.models import Job
    from pgqueue.statements import Statements

logger = logging.getLogger("pgqueue.endpoint")

CLAIM_SHARE, CANCEL_SHARE, CLOSE_SHARE = 0.8, 0.9, 0.95
"""Of the budget: until then jobs are claimed, async handlers may run, and they may clean up."""
LEAST_SECONDS = 0.1
"""For handlers to clean up, and for what is left to be reported, however late it is."""
LOOK_SECONDS = 0.25
"""Between two looks at what no event tells of."""
BEAT_SECONDS = 5.0
"""A cancelled job's handler hears of it within this time."""
UPKEEP = 1_000
"""Jobs that one poke promotes, and reaps, at most."""
LONGEST_ERROR = 1_000
"""Characters of an error in an answer."""


@attrs.frozen
class Workplace:
    """What all pokes of an endpoint have in common."""

    dsn: str
    statements: Statements
    handlers: Handlers
    limits: Limits
    settings: dict[str, Any]
    """Of the drivers."""


class Poke:
    """It is used once. `answer` may be asked by any thread, all else by the event loop."""

    def __init__(
        self, place: Workplace, limit: int, queues: Sequence[str], over: Callable[[Poke], None]
    ) -> None:
        """`over` is called once its last handler has returned, maybe long after the answer."""
        self._place = place
        self._limit = limit
        self._queues = queues
        self._call_over = over
        self.on_over: Callable[[], None] = _nothing
        """Called after `over`."""
        self.unreported: Callable[[], int] = int
        """How many endings the database does not know of yet."""
        self.loop: asyncio.AbstractEventLoop | None = None
        """Where it is to run."""
        self._started = time.monotonic()
        self._budget = place.limits.budget.total_seconds()
        self._leases = Leases()
        self._begun: dict[Job[Any], float] = {}
        self._changed = asyncio.Event()
        self._results: list[JobAnswer] = []
        self._claimed = 0
        self._more = True
        self._hurried = self._worked = self._over = False
        self._trouble: BaseException | None = None

    @property
    def seconds_left(self) -> float:
        """Of the budget."""
        return self._left(1.0)

    @property
    def held(self) -> int:
        """Jobs that are claimed and not yet ended."""
        return len(self._leases)

    def answer(self) -> Answer:
        """What came of it so far."""
        now = time.monotonic()
        results = list(self._results)
        for job, since in list(self._begun.items()):
            results.append(_result(job, RUNNING, now - since))
        return counted(results, more=self._more)

    async def run(self, driver: AsyncDriver | None) -> Answer:
        """Works, and answers when it is done or the budget is over. Late handlers go on.

        Cancelled, it ends in order all the same, and sooner.

        Args:
            driver: whose connections are kept; None: makes some, and closes them.

        Raises:
            DatabaseUnavailable: nothing could be claimed; other errors of the database likewise.
        """
        living = asyncio.get_running_loop().create_task(self._live(driver))
        _alive.add(living)
        living.add_done_callback(_alive.discard)
        try:
            # Not before it is over, if it can be: the process may be frozen afterwards, and who
            # pokes one after the other must not be told that one is running.
            await self._until(
                lambda: self._over or (self._worked and not self._is_done()),
                self._left(1.0),
                whatever=True,
            )
        except asyncio.CancelledError:
            self.hurry()
            raise
        if self._trouble is not None and not self._results:
            raise self._trouble
        return self.answer()

    def hurry(self) -> None:
        """Ends it now: async handlers are cancelled, and their jobs released."""
        self._hurried = True
        self._changed.set()

    async def ended(self, seconds: float) -> bool:
        """Waits until its last handler has returned, at most so long."""
        return await self._until(lambda: self._over, seconds, whatever=True)

    def _lingers(self) -> bool:
        return any(pool.busy for pool in self._threads)

    # Its life

    async def _live(self, kept: AsyncDriver | None) -> None:
        place, loop = self._place, asyncio.get_running_loop()
        self._driver = kept or AsyncDriver(place.dsn, place.statements.schema, 3, **place.settings)
        self._settler = self._make_settler()
        self.unreported = self._settler.__len__
        self._control = self._make_control()
        self._make_pools()
        settling = loop.create_task(self._settler.run())
        beating = loop.create_task(self._beat())
        self._late: asyncio.Task[None] | None = None
        try:
            await self._work()
        except Exception as error:  # noqa: BLE001 - it is the answer's
            self._fail(error)
        try:
            await self._end()
            self._worked = True
            self._changed.set()
            await self._linger()
        finally:
            self._worked = True
            for pool in self._pools:
                pool.close()
            self._settler.close()
            await asyncio.wait({settling, beating})
            if kept is None:
                await self._driver.close()
            self._over = True
            self._changed.set()
            self._call_over(self)

    async def _work(self) -> None:
        """Claims and runs while there is something, and time."""
        if self._left(CLAIM_SHARE) <= 0 or not await self._in_time(self._maintain()):
            return
        dry = False
        while self._left(CLAIM_SHARE) > 0:
            held = len(self._leases)
            if dry and not held:
                dry = False  # what ran meanwhile may have enqueued more
            room = self._room(held)
            if dry or room <= 0:
                if not held and self._claimed >= self._limit:
                    return
                await self._until(
                    lambda held=held: len(self._leases) != held,  # type: ignore[misc]
                    self._left(CLAIM_SHARE),
                )
                continue
            before = self._claimed
            if not await self._in_time(self._claim(room)):
                return
            dry = self._claimed == before
            if dry and not self._leases:
                self._more = False
                return

    async def _end(self) -> None:
        """Lets handlers finish while there is time, then cancels those that can be cancelled."""
        await self._until(lambda: not self._leases, self._left(CANCEL_SHARE))
        for pool in self._pools:
            self._settler.add([Ending(job, Outcome.RELEASED) for job in pool.take_back()])
        for pool in self._tasks:
            pool.stop_all()
        seconds = LEAST_SECONDS if self._hurried else self._left(CLOSE_SHARE)
        await self._until(lambda: not any(pool.busy for pool in self._tasks), seconds)
        for pool in self._tasks:
            pool.close()
        # What threads still run is not waited for; nor is a database that does not answer.
        seconds = max(self._left(1.0), LEAST_SECONDS)
        await self._until(lambda: not self._leases, seconds)

    async def _linger(self) -> None:
        """Waits for sync handlers that outlive the answer: nothing can stop them."""
        while not await self._until(self._is_done, LOOK_SECONDS):
            pass

    def _is_done(self) -> bool:
        late = self._late is not None and not self._late.done()
        return not (self._leases or self._lingers() or late)

    async def _beat(self) -> None:
        lease = self._place.limits.worker.lease
        seconds = min(lease.total_seconds() / 3, BEAT_SECONDS)
        while not await self._until(lambda: self._worked, seconds):
            sent_at = time.monotonic()
            due = self._leases.due(sent_at, seconds * 0.75)
            if due:
                pairs = [(job.id, job.token) for job in due]
                extend = self._place.statements.extend(pairs, lease)
                try:
                    held = await self._driver.run(impatient(extend, LOCK_SECONDS))
                except psycopg.Error as error:
                    logger.warning("leases were not renewed: %s", first_line(error))
                    continue
                self._leases.renewed(due, sent_at)
                lost = [job for job in due if job.id not in held]
                cancelled = [job for job in due if held.get(job.id)]
                control.tell(self._leases, self._pools, self._settler, lost, cancelled)

    # Its steps

    async def _in_time(self, step: Coroutine[Any, Any, None]) -> bool:
        """Takes a step; false if there is no time to wait for its end. It then ends by itself."""
        task = asyncio.get_running_loop().create_task(step)
        task.add_done_callback(lambda _: self._changed.set())
        if await self._until(task.done, self._left(CLAIM_SHARE)):
            task.result()
            return True
        self._late = task
        task.add_done_callback(_forget)
        return False

    async def _maintain(self) -> None:
        maintain = self._place.statements.maintain(UPKEEP)
        try:
            await self._driver.run(maintain)
        except psycopg.errors.QueryCanceled as error:
            logger.warning("maintenance: %s", first_line(error))

    async def _claim(self, room: int) -> None:
        place, options = self._place, self._place.limits.worker
        kinds = tuple(sorted(kind.name for kind in place.handlers.kinds))
        # By the database's own hints: what a process remembers between two pokes is older.
        statement = place.statements.claim(
            self._queues, room, options.lease, kinds, options.unique_name(), None, self._control
        )
        sent_at = time.monotonic()
        jobs = await self._driver.run(unsynced(statement))
        lost = self._leases.hold(jobs, sent_at)
        for job in lost:
            self._settler.lose(job)
        self._claimed += len(jobs)
        now = time.monotonic()
        self._begun.update(dict.fromkeys(jobs, now))
        if self._left(CLAIM_SHARE) <= 0:  # too late to begin
            self._settler.add([Ending(job, Outcome.RELEASED) for job in jobs])
            return
        for pool in self._pools:
            if mine := [job for job in jobs if job.kind in {kind.name for kind in pool.kinds}]:
                pool.feed(mine)

    def _room(self, held: int) -> int:
        limits = self._place.limits
        free = limits.worker.concurrency - held
        return min(self._limit - self._claimed, free, limits.batch)

    def _fail(self, error: Exception) -> None:
        self._trouble = error
        if not isinstance(error, (psycopg.Error, SchemaError)):
            logger.error("a poke failed: %s", self._place.handlers.trace(error))
        elif self._claimed:
            logger.warning("a poke ends early: %s", first_line(error))

    def _note(self, event: AttemptEnded) -> None:
        """Hears of each attempt that has ended, once the database knows."""
        place = self._place
        result = _result(event.job, str(event.outcome), event.duration.total_seconds())
        if place.limits.show_errors and event.error is not None:
            text = f"{type(event.error).__qualname__}: {_text(event.error)}"
            redacted = place.handlers.redacted(event.job, text[:LOOKED_THROUGH])
            result["error"] = storable_text(redacted[:LONGEST_ERROR])
        self._results.append(result)
        self._begun.pop(event.job, None)
        if place.handlers.observed:
            place.handlers.tell(event)
        self._changed.set()

    # Its parts

    def _make_settler(self) -> Settler:
        place = self._place
        lease = place.limits.worker.lease
        redact = place.handlers.redacted
        log = AttemptLog(redact, place.limits.worker.process_name())
        observers = Observers(place.limits.worker.observers) or None
        return Settler(
            self._driver, place.statements, self._leases, lease, self._note, redact, log, observers
        )

    def _make_control(self) -> Control:
        place = self._place
        driver = Driver(place.dsn, place.statements.schema, 1, **place.settings)
        return Control(driver, self._driver, place.statements, self._leases)

    def _make_pools(self) -> None:
        handlers, settler = self._place.handlers, self._settler
        size, unwanted = self._place.limits.worker.concurrency, self._leases.unwanted
        tasks = [kind for kind in handlers.kinds if kind.is_async]
        threads = [kind for kind in handlers.kinds if not kind.is_async]
        self._tasks = [AsyncPool(handlers, tasks, size, settler.add, unwanted)] if tasks else []
        self._threads = (
            [ThreadPool(handlers, threads, size, settler.add_from_thread, unwanted)]
            if threads
            else []
        )
        self._pools = [*self._tasks, *self._threads]

    # Its time

    def _left(self, share: float) -> float:
        if self._hurried:
            return 0.0
        return max(self._started + self._budget * share - time.monotonic(), 0.0)

    async def _until(
        self, condition: Callable[[], bool], seconds: float, *, whatever: bool = False
    ) -> bool:
        """Waits for `condition`; false if it does not come in time, or before `hurry` is called.

        `whatever`: even if that is called. Several may wait at once: a change wakes all of them,
        and none clears it before it has looked.
        """
        until = time.monotonic() + seconds
        loop = asyncio.get_running_loop()
        hurried = self._hurried
        while not condition():
            left = until - time.monotonic()
            if left <= 0 or (self._hurried != hurried and not whatever):
                return False
            self._changed.clear()
            timer = loop.call_later(min(left, LOOK_SECONDS), self._changed.set)
            try:
                await self._changed.wait()
            finally:
                timer.cancel()
        return True


_alive: set[asyncio.Task[None]] = set()
"""Event loops only know their tasks weakly."""


def _result(job: Job[Any], outcome: str, seconds: float) -> JobAnswer:
    return {
        "id": job.id,
        "kind": job.kind,
        "outcome": outcome,
        "attempt": job.attempt,
        "duration_ms": round(seconds * 1000),
    }


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - somebody's __str__
        return ""


def _nothing() -> None:
    """Nobody wants to know."""


def _forget(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.warning("a poke had no time to wait for the database: %s", error)
