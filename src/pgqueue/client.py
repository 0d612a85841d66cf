"""The synchronous client. Every operation is one SQL call: see `statements`."""

from __future__ import annotations

import builtins
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from pgqueue import bulk, migrate, models
from pgqueue.arguments import as_ids, as_jobs, as_results, checked_names, checked_span
from pgqueue.bounded import REPLY_TIMEOUT, patient
from pgqueue.drivers import Driver
from pgqueue.errors import WaitTimeout
from pgqueue.floors import Floors
from pgqueue.guarded import unsynced
from pgqueue.migrate import SchemaState
from pgqueue.operations import Operations
from pgqueue.schedules import Schedules
from pgqueue.statements import (
    DEFAULT_SCHEMA,
    Statement,
    Statements,
    raise_lost,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from psycopg_pool import ConnectionPool
    from typing_extensions import Self

    from pgqueue.copytext import BulkJob
    from pgqueue.events import EnqueueHook
    from pgqueue.jsontext import Json
    from pgqueue.models import DedupeUntil, Job, JobState, OnConflict
    from pgqueue.retry import RetryPolicy

T = TypeVar("T")
WAIT_FIRST = 0.005
WAIT_MOST = 0.5
"""Seconds between two looks at a job that is waited for: from the first, doubling, to the most."""


class Client:
    """A queue in a Postgres database, for synchronous code. Safe to share between threads.

    `target` is a DSN, a `psycopg_pool.ConnectionPool`, or None: then PGQUEUE_DSN decides, then
    libpq's own variables, and without any an embedded server is started (extra `embedded`). Nothing
    is connected before the first operation. After a fork the child makes its own
    connections; a pool that was given must be made after it.

    Every operation takes `conn=`, a connection of the caller's: psycopg's, or a SQLAlchemy session
    or connection, or Django's, over psycopg 3. It then joins the caller's transaction: it happens
    if and only if that commits. Without it, each operation is its own transaction.

    Every operation may raise `DatabaseUnavailable`, `SchemaMissing`, `SchemaOutdated` and
    `PermissionDenied`, and `InvalidJob` for arguments that cannot be; other errors of psycopg pass
    through. One that meets a read-only server, a former primary say, leaves it and is tried again,
    up to three times in all; of `enqueue_many` that is up to you.

    Args:
        target: where the queue is.
        schema: the schema that holds pgqueue's tables.
        pool_size: the most connections to hold at once.
        prepare: whether to use prepared statements; None: unless a pooler is in between. Pass True
            for one that keeps track of them, as PgBouncer does from 1.21 on if it is so configured.
            In a pool of yours that is up to you.
        reply_timeout: an operation raises `DatabaseUnavailable` when the server, while it is to
            answer, says nothing for so long; it may have been done, or be done yet. Connections of
            a pool, or passed as `conn`, wait as they were made to.
    """

    def __init__(
        self,
        target: str | ConnectionPool[Any] | None = None,
        *,
        schema: str = DEFAULT_SCHEMA,
        pool_size: int = 10,
        prepare: bool | None = None,
        reply_timeout: timedelta = REPLY_TIMEOUT,
    ) -> None:
        self.statements = Statements(schema)
        self.driver = Driver(
            target, schema, pool_size, prepare=prepare, reply_timeout=reply_timeout
        )
        self.enqueue_hook: EnqueueHook | None = None
        """Stands around each enqueue; `pgqueue.otel.instrument` sets it."""
        self._floors = Floors()
        self._schedules = Schedules(self.driver, schema)
        self._operations = Operations(self.driver, schema, self)

    @property
    def schema(self) -> str:
        """The schema that holds pgqueue's tables."""
        return self.statements.schema

    @property
    def dsn(self) -> str:
        """Where the queue is; resolves it, and so may start the embedded server."""
        return self.driver.dsn

    @property
    def schedules(self) -> Schedules:
        """The operations on schedules: recurring enqueues."""
        return self._schedules

    @property
    def operations(self) -> Operations:
        """What operators see and do: lists, figures, bulk actions, the switch, the audit log."""
        return self._operations

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections, unless the pool was given. Used again, the client reconnects."""
        self.driver.close()

    def _run(self, statement: Statement[T], conn: Any = None) -> T:  # noqa: ANN401
        return self.driver.run(statement, conn)

    # The schema

    def migrate(self) -> None:
        """Installs pgqueue in the schema, or brings it up to date; does nothing if it is.

        One transaction, one at a time; it may run while workers do. It never holds them up for
        long: where it finds a table locked for 0.5 s (1.5 s in the end), by a long transaction for
        instance, it lets go of all it has and tries again, ten times within 40 s.

        Raises:
            psycopg.errors.LockNotAvailable: somebody kept a table locked all the time; nothing was
                changed.
        """
        if self.schema_state().current:
            return
        attempt = 0
        while True:
            try:
                with self.driver.transaction() as conn, patient(conn, migrate.LONGEST):
                    conn.execute("set local statement_timeout = 0")  # others may be at it
                    self._run(migrate.lock(self.schema), conn)
                    state = self.schema_state(conn=conn)
                    timeout = migrate.lock_timeout(attempt)
                    script = migrate.script(self.schema, after=state, lock_timeout=timeout)
                    conn.execute(script.encode())
            except migrate.BLOCKED:  # noqa: PERF203 - the loop is there for it
                attempt += 1
                if attempt == migrate.ATTEMPTS:
                    raise
                time.sleep(migrate.PAUSE * attempt)
            else:
                return

    def schema_state(self, *, conn: Any = None) -> SchemaState:  # noqa: ANN401
        """What is installed; `.check()` raises if it is not what this version needs."""
        exists, what = migrate.read_state(self.schema)
        if not self._run(exists, conn):
            return SchemaState(self.schema, 0, "")
        return self._run(what, conn)

    # Enqueue

    def enqueue(
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
        """Stores a job. Once that is committed it is never lost, and runs at least once.

        Args:
            kind: selects the handler.
            payload: JSON, at most 256 KiB unless the schema is set otherwise; None stores {}.
            queue: jobs of one queue are claimed together.
            priority: 0 (first) to 9; within a priority, first in, first out.
            run_at: the earliest start, an aware datetime.
            delay: the same, from now on, by the database's clock.
            max_attempts: after so many the job is dead; None is the schema's default, 20.
            retry: how long to wait between attempts; None is the schema's default (see
                `Exponential`).
            dedupe_key: at most one job of this kind holds a key.
            dedupe_until: until when it does: "finish", or "start": then a next one may wait while
                it runs.
            on_conflict: if the key is held: "return" the holder; "replace" its payload, time and
                options if it still waits (debounce); "raise" `DuplicateJob`.
            tags: words to filter by.
            metadata: a JSON object that travels with the job; no larger than a payload may be.
            ref: what in the application the job is about; see `cancel_ref`.
            conn: a connection of the caller's, to join its transaction.

        Raises:
            InvalidJob: an argument that cannot be stored; `PayloadError` and `PayloadTooLarge` are
                kinds of it.
            DuplicateJob: the key is held and `on_conflict` is "raise".
        """
        job = models.NewJob(
            kind, payload, queue=queue, priority=priority, run_at=run_at, delay=delay,
            max_attempts=max_attempts, retry=retry, dedupe_key=dedupe_key,
            dedupe_until=dedupe_until, on_conflict=on_conflict, tags=tags, metadata=metadata,
            ref=ref,
        )  # fmt: skip
        if self.enqueue_hook is None:
            return self._run(self.statements.enqueue(job), conn)
        with self.enqueue_hook.one(job) as (hooked, enqueuing):
            result = self._run(self.statements.enqueue(hooked), conn)
            enqueuing.done(result.id, 1, int(result.duplicate))
            return result

    def enqueue_many(
        self,
        jobs: Iterable[BulkJob],
        *,
        queue: str = models.DEFAULT_QUEUE,
        conn: Any = None,  # noqa: ANN401
    ) -> models.EnqueueManyResult:
        """Stores many jobs in one transaction: all of them, or none if any cannot be stored.

        A deadlock is tried again, as in every operation, unless `conn` is given or `jobs` is an
        iterator from which more than one batch was taken: then psycopg's error comes out.

        Args:
            jobs: an iterable of `NewJob` or of pairs (kind, payload); it is streamed in batches of
                2,000.
            queue: the queue of the pairs.
            conn: as in `enqueue`.

        Raises:
            InvalidJob: as in `enqueue`.
            DuplicateJob: as in `enqueue`.
        """
        if self.enqueue_hook is None:
            storing = bulk.Bulk(self.statements, jobs, queue, overlap=conn is None)
            return self.driver.run_all(storing, conn)
        with self.enqueue_hook.many(jobs, queue) as (hooked, enqueuing):
            storing = bulk.Bulk(self.statements, hooked, queue, overlap=conn is None)
            result = self.driver.run_all(storing, conn)
            enqueuing.done(None, len(result.ids), result.duplicates)
            return result

    # Claim, and end what was claimed

    def claim(
        self,
        queue: str | Sequence[str] = models.DEFAULT_QUEUE,
        *,
        limit: int = 1,
        lease: timedelta = models.DEFAULT_LEASE,
        kinds: Sequence[str] | None = None,
        worker: str | None = None,
        conn: Any = None,  # noqa: ANN401
    ) -> builtins.list[Job[Any]]:
        """Takes up to `limit` ready jobs, most urgent first; an empty list if nothing is ready.

        The attempt is counted.
        A job is ours for `lease`. End it with `ack`, `fail`, `skip`, `snooze` or `release` before
        that, or `extend` the lease; otherwise it runs again elsewhere, and what this claim still
        says is refused (`LeaseLost`).

        Args:
            queue: one queue, or several in the order in which to serve them.
            limit: the most jobs to take.
            lease: for how long.
            kinds: only these; None takes any.
            worker: a name to be shown.
            conn: as in `enqueue`: the claim is undone if that transaction rolls back.
        """
        queues = checked_names(queue, "queue")
        if kinds is not None:
            kinds = checked_names(kinds, "kind")
        if conn is not None:
            return self._run(
                self.statements.claim(queues, limit, lease, kinds, worker, None, self), conn
            )
        claiming = self._floors.begin(None if kinds is None else tuple(kinds), queues)
        claim = self.statements.claim(queues, limit, lease, kinds, worker, claiming.floors, self)
        jobs: builtins.list[Job[Any]] = []
        try:
            jobs = self._run(unsynced(claim))
        finally:
            self._floors.end(claiming, jobs)
        return jobs

    def ack(
        self,
        job: Job[Any] | Sequence[Job[Any]],
        *,
        result: Json = None,
        results: Sequence[Json] | None = None,
        conn: Any = None,  # noqa: ANN401
    ) -> None:
        """Ends jobs well: those still ours, in one statement. Repeating an ack is harmless.

        Args:
            job: one job or several.
            result: JSON to keep, of one job.
            results: the same of several, in their order.
            conn: as in `enqueue`. The handler's writes and the ack then happen together, exactly
                once.

        Raises:
            LeaseLost: names the jobs that were not ours any more; the others are acked.
            PayloadError: a result is not JSON; no job was acked.
        """
        jobs = as_jobs(job)
        self._end(self.statements.ack(jobs, as_results(jobs, result, results)), conn)

    def fail(
        self,
        job: Job[Any] | Sequence[Job[Any]],
        error: BaseException | str = "",
        *,
        retry_in: timedelta | None = None,
        conn: Any = None,  # noqa: ANN401
    ) -> None:
        """Ends this attempt badly: the job backs off and runs again, or is dead after its last.

        Args:
            job: one job or several.
            error: an exception or a message; kept in the job's history (bounded).
            retry_in: the delay, instead of the one by the job's retry policy.
            conn: as in `enqueue`.

        Raises:
            LeaseLost: names the jobs that were not ours any more; the others are failed.
        """
        jobs = as_jobs(job)
        errors = [models.error_entry(error)] * len(jobs)
        delays = None if retry_in is None else [retry_in] * len(jobs)
        self._end(self.statements.fail(jobs, errors, delays), conn)

    def skip(
        self,
        job: Job[Any] | Sequence[Job[Any]],
        reason: str = "",
        *,
        conn: Any = None,  # noqa: ANN401
    ) -> None:
        """Ends jobs as skipped: nothing was to be done. Raises as `ack` does."""
        jobs = as_jobs(job)
        self._end(self.statements.skip(jobs, [reason] * len(jobs)), conn)

    def cancel_claimed(
        self,
        job: Job[Any] | Sequence[Job[Any]],
        reason: str = "",
        *,
        conn: Any = None,  # noqa: ANN401
    ) -> None:
        """Ends jobs that we hold as cancelled: they cannot succeed, or were asked to stop.

        Raises as `ack` does.
        """
        jobs = as_jobs(job)
        self._end(self.statements.cancel_claimed(jobs, [reason] * len(jobs)), conn)

    def snooze(
        self,
        job: Job[Any] | Sequence[Job[Any]],
        delay: timedelta,
        *,
        conn: Any = None,  # noqa: ANN401
    ) -> None:
        """Puts jobs back for `delay` without counting the attempt. Raises as `ack` does."""
        jobs = as_jobs(job)
        self._end(self.statements.snooze(jobs, [delay] * len(jobs)), conn)

    def release(self, job: Job[Any] | Sequence[Job[Any]], *, conn: Any = None) -> None:  # noqa: ANN401
        """Gives jobs back: ready at once, in their old places, the attempt not counted.

        Raises as `ack` does.
        """
        self._end(self.statements.release(as_jobs(job)), conn)

    def extend(
        self,
        job: Job[Any] | Sequence[Job[Any]],
        lease: timedelta = models.DEFAULT_LEASE,
        *,
        conn: Any = None,  # noqa: ANN401
    ) -> dict[int, bool]:
        """Renews leases, to `lease` from now.

        Returns:
            By id, whether the job's cancellation was asked for.

        Raises:
            LeaseLost: names the jobs that were not ours any more; the others are renewed.
        """
        jobs = as_jobs(job)
        held = self._run(self.statements.extend([(j.id, j.token) for j in jobs], lease), conn)
        raise_lost([j.id for j in jobs if j.id not in held])
        return held

    def _end(self, statement: Statement[builtins.list[int]], conn: Any) -> None:  # noqa: ANN401
        lost = self._run(statement, conn)
        raise_lost(lost)

    def ack_in(self, job: Job[Any], conn: Any, result: Json) -> None:  # noqa: ANN401
        """What `Job.ack` calls."""
        self.ack(job, result=result, conn=conn)

    def is_cancelled(self, job: Job[Any]) -> bool:
        """What `Job.cancel_requested` asks; a plain client learns of it from `extend` only."""
        del job
        return False

    # Operate

    def cancel(
        self,
        job_id: int | Sequence[int],
        reason: str | None = None,
        *,
        conn: Any = None,  # noqa: ANN401
    ) -> dict[int, JobState]:
        """Cancels jobs, whoever has them: waiting ones at once, running ones when they heed it.

        Returns:
            Of those that were unfinished, the state now: cancelled, or claimed while it stops.
        """
        return self._run(self.statements.cancel(as_ids(job_id), reason), conn)

    def cancel_ref(self, ref: str, reason: str | None = None, *, conn: Any = None) -> int:  # noqa: ANN401
        """Cancels all unfinished jobs with this `ref`, say of a deleted row; returns how many."""
        return self._run(self.statements.cancel_ref(ref, reason), conn)

    def retry(self, job_id: int | Sequence[int], *, conn: Any = None) -> builtins.list[int]:  # noqa: ANN401
        """Makes jobs run again now: finished ones with all their attempts, waiting ones at once.

        Returns:
            The ids that will run; not among them: claimed or unknown jobs, and those whose dedupe
            key another job holds.
        """
        return self._run(self.statements.retry(as_ids(job_id)), conn)

    def redrive(
        self,
        queue: str | None = None,
        *,
        kind: str | None = None,
        limit: int = 1000,
        conn: Any = None,  # noqa: ANN401
    ) -> int:
        """Retries up to `limit` dead jobs, the longest dead first; returns how many."""
        return self._run(self.statements.redrive(queue, kind, limit), conn)

    def purge(
        self,
        queue: str,
        *,
        kind: str | None = None,
        limit: int = 10_000,
        conn: Any = None,  # noqa: ANN401
    ) -> int:
        """Deletes up to `limit` waiting jobs of a queue for good; returns how many."""
        return self._run(self.statements.purge(queue, kind, limit), conn)

    def pause(
        self,
        queue: str,
        *,
        until: datetime | None = None,
        reason: str | None = None,
        conn: Any = None,  # noqa: ANN401
    ) -> None:
        """Stops claims from a queue, until `resume` or until a time.

        Running jobs go on, enqueues are stored.
        """
        self._run(self.statements.pause(queue, until, reason), conn)

    def resume(self, queue: str, *, conn: Any = None) -> bool:  # noqa: ANN401
        """Lets claims go on; returns whether the queue was paused."""
        return self._run(self.statements.resume(queue), conn)

    def maintain(
        self,
        *,
        limit: int = models.DEFAULT_UPKEEP,
        conn: Any = None,  # noqa: ANN401
    ) -> models.Maintenance:
        """One round of upkeep: promotes due jobs, ends expired claims, keeps lanes and partitions.

        Workers do it all the time. Without any worker, call it every second or so, from cron for
        instance.

        Args:
            limit: how many jobs to promote, and to reap, at most; fewer where a statement_timeout
                would end the statement (workers see to that by themselves).
            conn: the caller's connection, in whose transaction this happens.
        """
        return self._run(self.statements.maintain(limit), conn)

    # Look

    def get(self, job_id: int, *, conn: Any = None) -> models.JobDetail:  # noqa: ANN401
        """All that is stored of a job, unfinished or finished.

        Raises:
            JobNotFound: there is none, or its retention is over.
        """
        return self._run(self.statements.get(job_id), conn)

    def list(
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
        """Jobs that fit all the filters, newest first, without payloads.

        For the next page pass the last id as `before`.
        """
        return self._run(self.statements.list(queue, kind, state, tag, ref, before, limit), conn)

    def stats(self, *, conn: Any = None) -> builtins.list[models.QueueStats]:  # noqa: ANN401
        """Counts per queue. It counts rows: a second per few million."""
        return self._run(self.statements.stats(), conn)

    def wait(self, job_id: int, *, timeout: timedelta) -> models.JobDetail:
        """Waits until a job is finished, well or badly: see its `state`, `result` and `history`.

        Raises:
            WaitTimeout: it was not finished in time.
            JobNotFound: there is none (with retention 0, finished jobs are not kept).
        """
        deadline = time.monotonic() + checked_span(timeout, "timeout").total_seconds()
        pause = WAIT_FIRST
        while not self._run(self.statements.state(job_id)).finished:
            left = deadline - time.monotonic()
            if left <= 0:
                raise WaitTimeout(job_id, timeout.total_seconds())
            time.sleep(min(pause, left))
            pause = min(pause * 2, WAIT_MOST)
        return self.get(job_id)
