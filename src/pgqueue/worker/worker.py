"""The public Worker: its options, its signals, and one or several processes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import threading
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from pgqueue import models
from pgqueue.aclient import AsyncClient
from pgqueue.bounded import REPLY_TIMEOUT
from pgqueue.client import Client
from pgqueue.connections import resolve_dsn
from pgqueue.errors import ConfigurationError
from pgqueue.handlers import Handlers
from pgqueue.statements import DEFAULT_SCHEMA, Statements
from pgqueue.worker import signals
from pgqueue.worker.engine import Engine, Health
from pgqueue.worker.options import Options, whole
from pgqueue.worker.processes import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
    from typing import TypeAlias

    from pgqueue.events import Observer
    from pgqueue.schedules import Schedule, ScheduleChange

    LoopFactory: TypeAlias = Callable[[], asyncio.AbstractEventLoop]

logger = logging.getLogger("pgqueue.worker")

ORPHAN_CHECK_SECONDS = 1.0
LINGER_SECONDS = 1.0
"""For tasks that handlers left behind; they are cancelled."""
YOUNG_OBJECTS = 5_000
"""New objects between two looks of the garbage collector, in a process that a worker has to itself.
Python's 700 are fewer than one claim makes: 106,000 no-op jobs/s became 118,000 (Python 3.11)."""


class Worker:
    """Claims jobs of the kinds that `handlers` know, and runs them.

    Async handlers run on one event loop, sync ones in threads; up to `concurrency` of either at
    once, in each process. Each attempt has a copy of the context (`contextvars`) that the worker
    was started in. Leases are renewed from a thread of their own. A worker survives restarts of the
    server. It holds up to five connections per process: for each sort of handler one that claims
    and is woken, one that reports, one for the heartbeat, one for upkeep.

    A job that a handler should stop is cancelled (async) or told by `job.cancel_requested` (sync).
    What it returns or raises afterwards counts only where the job itself was cancelled: one whose
    time is up has failed, and one that was stopped because the worker ends runs again.

    Args:
        target: a client (only its DSN, schema, `prepare` and `reply_timeout` are used), a DSN, or
            None as in `Client`.
        handlers: what to run. The schedules that they declare are brought up to date when the
            worker starts.
        schema: the schema, unless a client says.
        queues: one queue, several, or a mapping of queues to weights: a queue of weight 3 is looked
            at first three times as often as one of weight 1. None of them starves. By default
            those that the kinds are registered with.
        concurrency: how many async handlers, and how many threads for sync ones.
        prefetch: how many jobs to hold ready beyond those that run; None: a tenth of a second's
            worth at the present rate, at most 2,000, and given back when they do not get their
            turn, so that slow jobs are left to other workers.
        lease: for how long a job stays ours after this worker is gone; while it lives it is
            renewed.
        processes: how many to run. With more than one they are forked: make no connections or
            threads before. One that dies is replaced.
        poll_interval: how often to look for jobs where notifications do not arrive, as through
            PgBouncer in transaction mode. Elsewhere an idle worker looks four times a minute, and
            when it is rung.
        shutdown_timeout: how long `stop` may take: four fifths of it running handlers may finish,
            then they are cancelled and their jobs given back.
        watchdog: end the process, at once and with exit code 1, when claiming has not moved for so
            long: because a handler blocks the event loop or keeps the GIL, or because of an error
            of ours. The stacks of all threads are written to stderr; jobs run elsewhere after
            their leases. Of several `processes` such a one is replaced; otherwise let systemd
            or the like start another. A minute or more is right, since an answer of the database
            is waited for so long. One such worker in a process. None: never.
        prepare: as in `Client`; None: as the client, if one is given.
        reply_timeout: as in `Client`; by default the client's, or 60 s. A connection on which the
            server is silent for so long is made anew, and what was under way is sent again. The
            heartbeat waits no longer than a third of the lease.
        name: the start of the names under which jobs show who ran them; the host's name by default.
        observers: each an `Observer`: metrics, alerts, or your own.

    Raises:
        ConfigurationError: an option cannot be, or there are no handlers.
    """

    def __init__(
        self,
        target: Client | AsyncClient | str | None,
        handlers: Handlers,
        *,
        schema: str | None = None,
        queues: str | Sequence[str] | Mapping[str, float] | None = None,
        concurrency: int = 20,
        prefetch: int | None = None,
        lease: timedelta = models.DEFAULT_LEASE,
        processes: int = 1,
        poll_interval: timedelta = timedelta(seconds=1),
        shutdown_timeout: timedelta = timedelta(seconds=30),
        watchdog: timedelta | None = None,
        prepare: bool | None = None,
        reply_timeout: timedelta | None = None,
        name: str | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        if target is not None and not isinstance(target, (Client, AsyncClient, str)):
            raise ConfigurationError(f"got a {type(target).__qualname__}; pass a client or a DSN")
        if not isinstance(handlers, Handlers):
            raise ConfigurationError(
                f"handlers is a {type(handlers).__qualname__}; pass a pgqueue.Handlers"
            )
        if not handlers.kinds:
            raise ConfigurationError(
                "there are no handlers; register some with @handlers.register(kind)"
            )
        if isinstance(target, (Client, AsyncClient)):
            schema = schema or target.schema
            prepare = target.driver.prepare if prepare is None else prepare
            reply_timeout = reply_timeout or target.driver.reply_timeout
        self._target = target
        self._statements = Statements(schema or DEFAULT_SCHEMA)
        self._handlers = handlers
        self._processes = whole(processes, "processes", 1)
        self._options = Options(
            queues=_queues_of(handlers) if queues is None else queues,
            concurrency=concurrency,
            prefetch=prefetch,
            lease=lease,
            poll_interval=poll_interval,
            shutdown_timeout=shutdown_timeout,
            watchdog=watchdog,
            prepare=prepare,
            reply_timeout=REPLY_TIMEOUT if reply_timeout is None else reply_timeout,
            name=name,
            observers=observers,
        )
        self._busy = threading.Lock()
        self._engine: Engine | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._supervisor: Supervisor | None = None
        self._stopped = False

    def run(self, *, until_idle: bool = False, loop_factory: LoopFactory | None = None) -> int:
        """Works until SIGTERM, SIGINT or `stop`, then ends in order; a second signal hurries it.

        In the main thread it handles those signals while it runs.

        Args:
            until_idle: end as soon as no job is ready or due, and all that were claimed have ended.
            loop_factory: makes the event loop of each process, as in `asyncio.Runner`:
                `uvloop.new_event_loop`, say; None: asyncio's own.

        Returns:
            An exit code: 0, or 1 if handlers had to be cancelled or endings could not be reported
            in time, or if one of several processes ended otherwise.

        Raises:
            DatabaseUnavailable: no connection at the start; later losses are waited out.
            SchemaMissing: run `migrate` first; likewise `SchemaOutdated`.
            ConfigurationError: this worker runs already.
        """
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop()
            raise ConfigurationError("an event loop runs here; use `await worker.run_async()`")
        with self._running():
            dsn = self._dsn()
            self._check(dsn)
            if self._processes == 1:
                with signals.handled(self.stop):
                    return _run_loop(self._work(dsn, until_idle=until_idle), loop_factory)
            self._supervisor = supervisor = Supervisor(
                partial(self._work_as_child, dsn, os.getpid(), loop_factory, until_idle=until_idle),
                self.stop,
                self._processes,
                patience=self._options.shutdown_timeout.total_seconds(),
            )
            if self._stopped:
                supervisor.stop()
            return supervisor.run(restart=not until_idle)

    async def run_async(self, *, until_idle: bool = False) -> int:
        """The same on the running event loop and in this process, without signal handlers.

        For use inside an app. Cancelled, it ends in order, and then lets the cancellation pass.
        """
        with self._running():
            dsn = self._dsn()
            await self._check_async(dsn)
            return await self._work(dsn, until_idle=until_idle)

    def stop(self) -> None:
        """Asks the worker to end in order, from any thread; a second call hurries it.

        It returns at once. Called before `run`, it ends that as soon as it begins.
        """
        self._stopped = True
        if self._supervisor is not None:
            self._supervisor.stop()
        elif self._loop is not None and self._engine is not None:
            with contextlib.suppress(RuntimeError):  # it has just ended by itself
                self._loop.call_soon_threadsafe(self._engine.stop)

    def health(self) -> Health | None:
        """How this process's worker is doing; None if none runs, or in processes of its own."""
        return None if self._engine is None else self._engine.health()

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            raise ConfigurationError("this worker runs already; make a second one to run beside it")
        try:
            yield
        finally:
            self._supervisor = None
            self._stopped = False
            self._busy.release()

    def _dsn(self) -> str:
        if isinstance(self._target, (Client, AsyncClient)):
            return self._target.dsn
        return resolve_dsn(self._target)

    def _client_options(self) -> dict[str, Any]:
        return {
            "schema": self._statements.schema,
            "prepare": self._options.prepare,
            "reply_timeout": self._options.reply_timeout,
        }

    def _check(self, dsn: str) -> None:
        """Finds out what is wrong while somebody looks. On one connection: a pool has threads."""
        with Client(dsn, **self._client_options()) as client:
            conn = client.driver.connect()
            try:
                client.schema_state(conn=conn).check()
                if self._handlers.declared_by is not None:
                    _tell(client.schedules.sync(*self._declared(), conn=conn))
                    conn.commit()
            finally:
                conn.close()

    def _declared(self) -> tuple[Sequence[Schedule], str]:
        return self._handlers.schedules, self._handlers.declared_by or ""

    async def _check_async(self, dsn: str) -> None:
        async with AsyncClient(dsn, **self._client_options()) as client:
            conn = await client.driver.connect()
            try:
                (await client.schema_state(conn=conn)).check()
                if self._handlers.declared_by is not None:
                    _tell(await client.schedules.sync(*self._declared(), conn=conn))
                    await conn.commit()
            finally:
                await conn.close()

    async def _work(self, dsn: str, *, until_idle: bool) -> int:
        self._loop = asyncio.get_running_loop()
        self._engine = engine = Engine(dsn, self._statements, self._handlers, self._options)
        if self._stopped:
            engine.stop()
        try:
            return 0 if await engine.run(until_idle=until_idle) else 1
        finally:
            self._engine = self._loop = None

    def _work_as_child(
        self, dsn: str, parent: int, loop_factory: LoopFactory | None, *, until_idle: bool
    ) -> int:
        self._supervisor = None
        return _run_loop(self._work_under(parent, dsn, until_idle=until_idle), loop_factory)

    async def _work_under(self, parent: int, dsn: str, *, until_idle: bool) -> int:
        watch = asyncio.create_task(self._end_with(parent))
        try:
            return await self._work(dsn, until_idle=until_idle)
        finally:
            watch.cancel()

    async def _end_with(self, parent: int) -> None:
        """Stops once the parent is gone: nobody else would tell us to."""
        while os.getppid() == parent:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(ORPHAN_CHECK_SECONDS)
        self.stop()


def _tell(changes: Sequence[ScheduleChange]) -> None:
    for change in changes:
        if change.outcome != "unchanged":
            logger.info("schedule %s: %s", change.name, change.outcome)


@contextlib.contextmanager
def _fewer_collections() -> Iterator[None]:
    """Lets more objects come between two looks of the garbage collector at the youngest."""
    young, *older = gc.get_threshold()
    if 0 < young < YOUNG_OBJECTS:
        gc.set_threshold(YOUNG_OBJECTS, *older)
    try:
        yield
    finally:
        gc.set_threshold(young, *older)


def _run_loop(main: Coroutine[Any, Any, int], factory: LoopFactory | None) -> int:
    """`asyncio.run`, which would wait for ever for what handlers left behind and will not end."""
    with _fewer_collections():
        return _run_to_the_end(main, factory or asyncio.new_event_loop)


def _run_to_the_end(main: Coroutine[Any, Any, int], factory: LoopFactory) -> int:
    loop = factory()
    try:
        asyncio.set_event_loop(loop)
        task = loop.create_task(main)
        try:
            return loop.run_until_complete(task)
        finally:
            _cancel(loop, {task}, None)  # first, so that it ends its parts in order
            _cancel(loop, asyncio.all_tasks(loop), LINGER_SECONDS)
            loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _cancel(
    loop: asyncio.AbstractEventLoop, tasks: set[asyncio.Task[Any]], timeout: float | None
) -> None:
    left = [task for task in tasks if not task.done()]
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left, timeout=timeout))


def _queues_of(handlers: Handlers) -> list[str]:
    return sorted({kind.queue for kind in handlers.kinds})
