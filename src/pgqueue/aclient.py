"""The asyncio client: `Client` with `await`. What each operation does is written there."""

from __future__ import annotations

import asyncio
import builtins
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from pgqueue import bulk, migrate, models
from pgqueue.arguments import as_ids, as_jobs, as_results, checked_names, checked_span
from pgqueue.bounded import REPLY_TIMEOUT, patient
from pgqueue.client import WAIT_FIRST, WAIT_MOST
from pgqueue.drivers import AsyncDriver
from pgqueue.errors import WaitTimeout
from pgqueue.floors import Floors
from pgqueue.guarded import unsynced
from pgqueue.migrate import SchemaState
from pgqueue.operations import AsyncOperations
from pgqueue.schedules import AsyncSchedules
from pgqueue.statements import (
    DEFAULT_SCHEMA,
    Statement,
    Statements,
    raise_lost,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from psycopg_pool import AsyncConnectionPool
    from typing_extensions import Self

    from pgqueue.copytext import BulkJob
    from pgqueue.events import EnqueueHook
    from pgqueue.jsontext import Json
    from pgqueue.models import DedupeUntil, Job, JobState, OnConflict
    from pgqueue.retry import RetryPolicy

T = TypeVar("T")


class AsyncClient:
    """A queue in a Postgres database, for asyncio: the operations of `Client`, awaited.

    `target` may be a `psycopg_pool.AsyncConnectionPool`, and `conn=` a psycopg `AsyncConnection` or
    a SQLAlchemy async session or connection over psycopg 3. One client serves one event
    loop at a time; in another one, when the first has ended, it connects anew.
    """

    def __init__(
        self,
        target: str | AsyncConnectionPool[Any] | None = None,
        *,
        schema: str = DEFAULT_SCHEMA,
        pool_size: int = 10,
        prepare: bool | None = None,
        reply_timeout: timedelta = REPLY_TIMEOUT,
    ) -> None:
        self.statements = Statements(schema)
        self.driver = AsyncDriver(
            target, schema, pool_size, prepare=prepare, reply_timeout=reply_timeout
        )
        self.enqueue_hook: EnqueueHook | None = None
        """Stands around each enqueue; `pgqueue.otel.instrument` sets it."""
        self._floors = Floors()
        self._schedules = AsyncSchedules(self.driver, schema)
        self._operations = AsyncOperations(self.driver, schema, self)

    @property
    def schema(self) -> str:
        """See `Client.schema`."""
        return self.statements.schema

    @property
    def dsn(self) -> str:
        """See `Client.dsn`."""
        return self.driver.dsn

    @property
    def schedules(self) -> AsyncSchedules:
        """See `Client.schedules`."""
        return self._schedules

    @property
    def operations(self) -> AsyncOperations:
        """What operators see and do: lists, figures, bulk actions, the switch, the audit log."""
        return self._operations

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """See `Client.close`."""
        await self.driver.close()

    async def _run(self, statement: Statement[T], conn: Any = None) -> T:  # noqa: ANN401
        return await self.driver.run(statement, conn)

    # The schema

    async def migrate(self) -> None:
        """See `Client.migrate`."""
        if (await self.schema_state()).current:
            return
        attempt = 0
        while True:
            try:
                async with self.driver.transaction() as conn:
                    with patient(conn, migrate.LONGEST):
                        await conn.execute("set local statement_timeout = 0")  # others may be at it
                        await self._run(migrate.lock(self.schema), conn)
                        state = await self.schema_state(conn=conn)
                        timeout = migrate.lock_timeout(attempt)
                        script = migrate.script(self.schema, after=state, lock_timeout=timeout)
                        await conn.execute(script.encode())
            except migrate.BLOCKED:  # noqa: PERF203 - the loop is there for it
                attempt += 1
                if attempt == migrate.ATTEMPTS:
                    raise
                await asyncio.sleep(migrate.PAUSE * attempt)
            else:
                return

    async def schema_state(self, *, conn: Any = None) -> SchemaState:  # noqa: ANN401
        """See `Client.schema_state`."""
        exists, what = migrate.read_state(self.schema)
        if not await self._run(exists, conn):
            return SchemaState(self.schema, 0, "")
        return await self._run(what, conn)

    # Enqueue

    async def enqueue(
        self,
        kind: str,
        payload: Json = None,
        *,
        queue: str = models.DEFAULT_QUEUE,
        priority: int = models.DEFAULT_PRIORITY,
        run_at: datetime | None = None,
        delay: timedelta | None = None,
        max_attempts: int | None = None,
        retry: RetryPolicy | None = None,
        dedupe_key: str | None = None,
        dedupe_until: DedupeUntil = "finish",
        on_conflict: OnConflict = "return",
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Json] | None = None,
        ref: str | None = None,
        conn: Any = None,  # noqa: ANN401
    ) -> models.EnqueueResult:
        """See `Client.enqueue`."""
        job = models.NewJob(
            kind, payload, queue=queue, priority=priority, run_at=run_at, delay=delay,
            max_attempts=max_attempts, retry=retry, dedupe_key=dedupe_key,
            dedupe_until=dedupe_until, on_conflict=on_conflict, tags=tags, metadata=metadata,
            ref=ref,
        )  # fmt: skip
        if self.enqueue_hook is None:
            return await self._run(self.statements.enqueue(job), conn)
        with self.enqueue_hook.one(job) as (hooked, enqueuing):
            result = await self._run(self.statements.enqueue(hooked), conn)
            enqueuing.done(result.id, 1, int(result.duplicate))
            return result

    async def enqueue_many(
        self,
        jobs: Iterable[BulkJob],
        *,
        queue: str = models.DEFAULT_QUEUE,
        conn: Any = None,  # noqa: ANN401
    ) -> models.EnqueueManyResult:
        """See `Client.enqueue_many`."""
        if self.enqueue_hook is None:
            storing = bulk.Bulk(self.statements, jobs, queue, overlap=conn is None)
            return await self.driver.run_all(storing, conn)
        with self.enqueue_hook.many(jobs, queue) as (hooked, enqueuing):
            storing = bulk.Bulk(self.statements, hooked, queue, overlap=conn is None)
            result = await self.driver.run_all(storing, conn)
            enqueuing.done(None, len(result.ids), result.duplicates)
            return result

    # Claim, and end what was claimed

    async def claim(
        self,
        queue: str | Sequence[str] = models.DEFAULT_QUEUE,
        *,
        limit: int = 1,
        lease: timedelta = models.DEFAULT_LEASE,
        kinds: Sequence[str] | None = None,
        worker: str | None = None,
        conn: Any = None,  # noqa: ANN401
    ) -> builtins.list[Job[Any]]:
        """See `Client.claim`."""
        queues = checked_names(queue, "queue")
        if kinds is not None:
            kinds = checked_names(kinds, "kind")
        if conn is not None:
            return await self._run(
                self.statements.claim(queues, limit, lease, kinds, worker, None, self), conn
            )
        claiming = self._floors.begin(None if kinds is None else tuple(kinds), queues)
        claim = self.statements.claim(queues, limit, lease, kinds, worker, claiming.floors, self)
        jobs: builtins.list[Job[Any]] = []
        try:
            jobs = await self._run(unsynced(claim))
        finally:
            self._floors.end(claiming, jobs)
        return jobs

    async def ack(
        self,
        job: Job[Any] | Sequence[Job[Any]],
        *,
        result: Json = None,
        results: Sequence[Json] | None = None,
        conn: Any = None,  # noqa: ANN401
    ) -> None:
        """See `Client.ack`."""
        jobs = as_jobs(job)
        await self._end(self.statements.ack(jobs, as_results(jobs, result, results)), conn)

    async def fail(
        self,
        job: Job[Any] | Sequence[Job[Any]],
        error: BaseException | str = "",
        *,
        retry_in: timedelta | None = None,
        conn: Any = None,  # noqa: ANN401
    ) -> None:
        """See `Client.fail`."""
        jobs = as_jobs(job)
        errors = [models.error_entry(error)] * len(jobs)
        delays = None if retry_in is None else [retry_in] * len(jobs)
        await self._end(self.statements.fail(jobs, errors, delays), conn)

    async def skip(
        self,
        job: Job[Any] | Sequence[Job[Any]],
        reason: str = "",
        *,
        conn: Any = None,  # noqa: ANN401
    ) -> None:
        """See `Client.skip`."""
        jobs = as_jobs(job)
        await self._end(self.statements.skip(jobs, [reason] * len(jobs)), conn)

    async def cancel_claimed(
        self,
        job: Job[Any] | Sequence[Job[Any]],
        reason: str = "",
        *,
        conn: Any = None,  # noqa: ANN401
    ) -> None:
        """See `Client.cancel_claimed`."""
        jobs = as_jobs(job)
        await self._end(self.statements.cancel_claimed(jobs, [reason] * len(jobs)), conn)

    async def snooze(
        self,
        job: Job[Any] | Sequence[Job[Any]],
        delay: timedelta,
        *,
        conn: Any = None,  # noqa: ANN401
    ) -> None:
        """See `Client.snooze`."""
        jobs = as_jobs(job)
        await self._end(self.statements.snooze(jobs, [delay] * len(jobs)), conn)

    async def release(self, job: Job[Any] | Sequence[Job[Any]], *, conn: Any = None) -> None:  # noqa: ANN401
        """See `Client.release`."""
        await self._end(self.statements.release(as_jobs(job)), conn)

    async def extend(
        self,
        job: Job[Any] | Sequence[Job[Any]],
        lease: timedelta = models.DEFAULT_LEASE,
        *,
        conn: Any = None,  # noqa: ANN401
    ) -> dict[int, bool]:
        """See `Client.extend`."""
        jobs = as_jobs(job)
        held = await self._run(self.statements.extend([(j.id, j.token) for j in jobs], lease), conn)
        raise_lost([j.id for j in jobs if j.id not in held])
        return held

    async def _end(self, statement: Statement[builtins.list[int]], conn: Any) -> None:  # noqa: ANN401
        lost = await self._run(statement, conn)
        raise_lost(lost)

    async def ack_in(self, job: Job[Any], conn: Any, result: Json) -> None:  # noqa: ANN401
        """See `Client.ack_in`."""
        await self.ack(job, result=result, conn=conn)

    def is_cancelled(self, job: Job[Any]) -> bool:
        """See `Client.is_cancelled`."""
        del job
        return False

    # Operate

    async def cancel(
        self,
        job_id: int | Sequence[int],
        reason: str | None = None,
        *,
        conn: Any = None,  # noqa: ANN401
    ) -> dict[int, JobState]:
        """See `Client.cancel`."""
        return await self._run(self.statements.cancel(as_ids(job_id), reason), conn)

    async def cancel_ref(self, ref: str, reason: str | None = None, *, conn: Any = None) -> int:  # noqa: ANN401
        """See `Client.cancel_ref`."""
        return await self._run(self.statements.cancel_ref(ref, reason), conn)

    async def retry(self, job_id: int | Sequence[int], *, conn: Any = None) -> builtins.list[int]:  # noqa: ANN401
        """See `Client.retry`."""
        return await self._run(self.statements.retry(as_ids(job_id)), conn)

    async def redrive(
        self,
        queue: str | None = None,
        *,
        kind: str | None = None,
        limit: int = 1000,
        conn: Any = None,  # noqa: ANN401
    ) -> int:
        """See `Client.redrive`."""
        return await self._run(self.statements.redrive(queue, kind, limit), conn)

    async def purge(
        self,
        queue: str,
        *,
        kind: str | None = None,
        limit: int = 10_000,
        conn: Any = None,  # noqa: ANN401
    ) -> int:
        """See `Client.purge`."""
        return await self._run(self.statements.purge(queue, kind, limit), conn)

    async def pause(
        self,
        queue: str,
        *,
        until: datetime | None = None,
        reason: str | None = None,
        conn: Any = None,  # noqa: ANN401
    ) -> None:
        """See `Client.pause`."""
        await self._run(self.statements.pause(queue, until, reason), conn)

    async def resume(self, queue: str, *, conn: Any = None) -> bool:  # noqa: ANN401
        """See `Client.resume`."""
        return await self._run(self.statements.resume(queue), conn)

    async def maintain(
        self,
        *,
        limit: int = models.DEFAULT_UPKEEP,
        conn: Any = None,  # noqa: ANN401
    ) -> models.Maintenance:
        """See `Client.maintain`."""
        return await self._run(self.statements.maintain(limit), conn)

    # Look

    async def get(self, job_id: int, *, conn: Any = None) -> models.JobDetail:  # noqa: ANN401
        """See `Client.get`."""
        return await self._run(self.statements.get(job_id), conn)

    async def list(
        self,
        *,
        queue: str | None = None,
        kind: str | None = None,
        state: JobState | str | None = None,
        tag: str | None = None,
        ref: str | None = None,
        before: int | None = None,
        limit: int = 50,
        conn: Any = None,  # noqa: ANN401
    ) -> builtins.list[models.JobSummary]:
        """See `Client.list`."""
        return await self._run(
            self.statements.list(queue, kind, state, tag, ref, before, limit), conn
        )

    async def stats(self, *, conn: Any = None) -> builtins.list[models.QueueStats]:  # noqa: ANN401
        """See `Client.stats`."""
        return await self._run(self.statements.stats(), conn)

    async def wait(self, job_id: int, *, timeout: timedelta) -> models.JobDetail:
        """See `Client.wait`."""
        deadline = time.monotonic() + checked_span(timeout, "timeout").total_seconds()
        pause = WAIT_FIRST
        while not (await self._run(self.statements.state(job_id))).finished:
            left = deadline - time.monotonic()
            if left <= 0:
                raise WaitTimeout(job_id, timeout.total_seconds())
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 2, WAIT_MOST)
        return await self.get(job_id)
