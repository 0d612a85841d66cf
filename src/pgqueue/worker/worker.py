"""The public Worker: its options, its signals, and one or several processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Union

from pgqueue import models
from pgqueue.aclient import AsyncClient
from pgqueue.client import Client
from pgqueue.connections import resolve_dsn
from pgqueue.errors import ConfigurationError
from pgqueue.statements import DEFAULT_SCHEMA, Statements
from pgqueue.worker.engine import Engine, Health
from pgqueue.worker.options import Options
from pgqueue.worker.processes import Supervisor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgqueue.handlers import Handlers

SIGNALS = (signal.SIGTERM, signal.SIGINT)
ORPHAN_CHECK_SECONDS = 1.0


class Worker:
    """Claims jobs of the kinds that `handlers` know, and runs them.

    Async handlers run on one event loop, sync ones in threads; up to `concurrency` of either at once, in each
    process. Leases are renewed from a thread of their own. A worker survives restarts of the server. It
    holds up to five connections per process: for each sort of handler one that claims and is woken, one that
    reports, one for the heartbeat, one for upkeep.

    Args:
        target: a client (only its DSN, schema and `prepare` are used), a DSN, or None as in `Client`.
        handlers: what to run.
        schema: the schema, unless a client says.
        queues: one queue, several, or a mapping of queues to weights: a queue of weight 3 is looked at first
            three times as often as one of weight 1. None of them starves.
        concurrency: how many async handlers, and how many threads for sync ones.
        prefetch: how many jobs to hold ready beyond those that run; None: a tenth of a second's worth at the
            present rate, at most 2,000, so that slow jobs are left to other workers.
        lease: for how long a job stays ours after this worker is gone; while it lives it is renewed.
        processes: how many to run. With more than one they are forked: make no connections or threads before.
        poll_interval: how often to look for jobs when the doorbell is silent.
        shutdown_timeout: how long `stop` may take: four fifths of it running handlers may finish, then they are
            cancelled and their jobs given back.
        prepare: as in `Client`.
        name: the start of the names under which jobs show who ran them; the host's name by default.
    """

    def __init__(  # noqa: PLR0913 - each is an option of a worker
        self,
        target: Union[Client, AsyncClient, str, None],
        handlers: Handlers,
        *,
        schema: str | None = None,
        queues: str | Sequence[str] | Mapping[str, float] = models.DEFAULT_QUEUE,
        concurrency: int = 20,
        prefetch: int | None = None,
        lease: timedelta = models.DEFAULT_LEASE,
        processes: int = 1,
        poll_interval: timedelta = timedelta(seconds=1),
        shutdown_timeout: timedelta = timedelta(seconds=30),
        prepare: bool = True,
        name: str | None = None,
    ) -> None:
        if not handlers.kinds:
            raise ConfigurationError("there are no handlers; register some with @handlers.register(kind)")
        if processes < 1:
            raise ConfigurationError(f"processes is {processes!r}; pass 1 or more")
        if isinstance(target, (Client, AsyncClient)):
            schema = schema or target.schema
            prepare = prepare and target.driver.prepare
        self._target = target
        self._statements = Statements(schema or DEFAULT_SCHEMA)
        self._handlers = handlers
        self._processes = processes
        self._options = Options(
            queues=queues, concurrency=concurrency, prefetch=prefetch, lease=lease,
            poll_interval=poll_interval, shutdown_timeout=shutdown_timeout, prepare=prepare, name=name,
        )  # fmt: skip
        self._engine: Engine | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._supervisor: Supervisor | None = None
        self._stopped = False

    def run(self, *, until_idle: bool = False) -> int:
        """Works until SIGTERM, SIGINT or `stop`, and then ends in order; a second signal hurries it.

        In the main thread it handles those signals while it runs.

        Args:
            until_idle: end as soon as no job is ready and all that were claimed have ended.

        Returns:
            An exit code: 0, or 1 if handlers had to be cancelled or endings could not be reported in time.

        Raises:
            DatabaseUnavailable: no connection at the start; later losses are waited out.
            SchemaMissing: run `migrate` first; likewise `SchemaOutdated`.
        """
        dsn = self._dsn()
        with Client(dsn, schema=self._statements.schema, prepare=self._options.prepare) as client:
            client.schema_state().check()
        if self._processes > 1:
            self._supervisor = Supervisor(partial(self._run_child, dsn, until_idle), self._processes)
            if self._stopped:
                return 0
            return self._supervisor.run(restart=not until_idle)
        return asyncio.run(self._main(dsn, until_idle=until_idle))

    async def run_async(self, *, until_idle: bool = False) -> int:
        """The same on the running event loop, in this process, without signal handlers: for use inside an app."""
        client = AsyncClient(self._dsn(), schema=self._statements.schema, prepare=self._options.prepare)
        async with client:
            (await client.schema_state()).check()
        return await self._work(self._dsn(), until_idle=until_idle)

    def stop(self) -> None:
        """Asks the worker to end in order; a second call hurries it. From any thread; returns at once."""
        self._stopped = True
        if self._supervisor is not None:
            self._supervisor.stop()
        elif self._loop is not None and self._engine is not None:
            with contextlib.suppress(RuntimeError):  # it has just ended by itself
                self._loop.call_soon_threadsafe(self._engine.stop)

    def health(self) -> Health | None:
        """How this process's worker is doing; None if it is not running, or runs in processes of its own."""
        return None if self._engine is None else self._engine.health()

    def _dsn(self) -> str:
        if isinstance(self._target, (Client, AsyncClient)):
            return self._target.dsn
        return resolve_dsn(self._target)

    async def _main(self, dsn: str, *, until_idle: bool) -> int:
        loop = asyncio.get_running_loop()
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread:
            for number in SIGNALS:
                loop.add_signal_handler(number, self.stop)
        try:
            return await self._work(dsn, until_idle=until_idle)
        finally:
            if in_main_thread:
                for number in SIGNALS:
                    loop.remove_signal_handler(number)

    async def _work(self, dsn: str, *, until_idle: bool) -> int:
        self._loop = asyncio.get_running_loop()
        self._engine = engine = Engine(dsn, self._statements, self._handlers, self._options)
        if self._stopped:
            engine.stop()
        try:
            clean = await engine.run(until_idle=until_idle)
        finally:
            self._engine = None
            self._stopped = False
        return 0 if clean else 1

    def _run_child(self, dsn: str, until_idle: bool) -> int:  # noqa: FBT001 - called through partial
        return asyncio.run(self._child(dsn, until_idle=until_idle))

    async def _child(self, dsn: str, *, until_idle: bool) -> int:
        # The parent hears Ctrl-C too and passes it on as SIGTERM: heard twice, it would hurry us.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.stop)
        watch = asyncio.create_task(self._end_with_parent(os.getppid()))
        self._supervisor = None
        try:
            return await self._work(dsn, until_idle=until_idle)
        finally:
            watch.cancel()

    async def _end_with_parent(self, parent: int) -> None:
        while os.getppid() == parent:
            await asyncio.sleep(ORPHAN_CHECK_SECONDS)
        self.stop()
