"""`client.operations` of `AsyncClient`: the operations of `Operations`, awaited."""

from __future__ import annotations

import builtins
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from pgqueue import models
from pgqueue.arguments import checked_limit, checked_span
from pgqueue.operations import single
from pgqueue.operations.api import ALL, CHUNK, DEADLINE, HOUR, operator_of
from pgqueue.operations.bulk import Bulk, narrowed
from pgqueue.operations.history import MINUTE, Minute, summed
from pgqueue.operations.models import JobFilter
from pgqueue.operations.statements import OperationStatements
from pgqueue.operations.steps import Reading

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgqueue.drivers import AsyncDriver
    from pgqueue.jsontext import Json
    from pgqueue.models import Job, JobControl, JobState
    from pgqueue.operations.bulk import Progress
    from pgqueue.operations.models import Action, AuditEntry, BulkResult, Count, Page, Pause
    from pgqueue.operations.steps import Dialogue, Transaction
    from pgqueue.statements import Statement

T = TypeVar("T")


class AsyncOperations:
    """What operators see and do, for asyncio: the operations of `Operations`, awaited."""

    def __init__(self, driver: AsyncDriver, schema: str, control: JobControl | None = None) -> None:
        self.statements = OperationStatements(schema)
        self._driver = driver
        self._control = control

    async def _run(self, statement: Statement[T], conn: Any) -> T:  # noqa: ANN401
        return await self._driver.run(statement, conn)

    async def _all(self, transaction: Transaction[T], conn: Any) -> T:  # noqa: ANN401
        try:
            return await self._driver.run_all(transaction, conn)
        except psycopg.errors.QueryCanceled as error:
            raise transaction.meant(error) from error

    async def _talk(self, dialogue: Dialogue[T], conn: Any) -> T:  # noqa: ANN401
        answer: Any = None
        while True:
            try:
                transaction = dialogue.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            answer = await self._all(transaction, conn)

    # Look

    async def search(
        self,
        filter: JobFilter = ALL,  # noqa: A002 - there is no better word
        *,
        after: str | None = None,
        limit: int = 50,
        deadline: timedelta = DEADLINE,
        conn: Any = None,  # noqa: ANN401
    ) -> Page:
        """See `Operations.search`."""
        reading = Reading(self.statements, checked_span(deadline, "deadline", zero=False))
        return await self._all(reading.page(filter, after, checked_limit(limit)), conn)

    async def count(
        self,
        filter: JobFilter = ALL,  # noqa: A002
        *,
        at_most: int = 10_000,
        deadline: timedelta = DEADLINE,
        conn: Any = None,  # noqa: ANN401
    ) -> Count:
        """See `Operations.count`."""
        reading = Reading(self.statements, checked_span(deadline, "deadline", zero=False))
        return await self._all(reading.count(filter, checked_limit(at_most)), conn)

    async def history(
        self,
        queue: str | None = None,
        *,
        since: datetime | timedelta = HOUR,
        until: datetime | None = None,
        every: timedelta = MINUTE,
        conn: Any = None,  # noqa: ANN401
    ) -> builtins.list[Minute]:
        """See `Operations.history`."""
        found = await self._run(self.statements.history(queue, since, until), conn)
        return summed(found, every)

    async def audit(
        self,
        *,
        actor: str | None = None,
        action: str | None = None,
        before: int | None = None,
        limit: int = 50,
        conn: Any = None,  # noqa: ANN401
    ) -> builtins.list[AuditEntry]:
        """See `Operations.audit`."""
        return await self._run(self.statements.audit(actor, action, before, limit), conn)

    async def paused(self, *, conn: Any = None) -> Pause | None:  # noqa: ANN401
        """See `Operations.paused`."""
        return await self._run(self.statements.paused(), conn)

    # All jobs of a filter

    async def preview(
        self,
        action: Action,
        filter: JobFilter,  # noqa: A002
        *,
        at_most: int = 10_000,
        deadline: timedelta = DEADLINE,
        conn: Any = None,  # noqa: ANN401
    ) -> Count:
        """See `Operations.preview`."""
        reading = Reading(self.statements, checked_span(deadline, "deadline", zero=False))
        found = narrowed(action, filter)
        return await self._all(reading.count(found, checked_limit(at_most)), conn)

    async def cancel(
        self,
        filter: JobFilter,  # noqa: A002
        *,
        reason: str | None = None,
        actor: str | None = None,
        via: str = "api",
        chunk: int = CHUNK,
        on_progress: Progress | None = None,
        conn: Any = None,  # noqa: ANN401
    ) -> BulkResult:
        """See `Operations.cancel`."""
        bulk = Bulk(self.statements, "cancel", filter, operator_of(actor, via), reason, chunk)
        return await self._talk(bulk.run(on_progress), conn)

    async def retry(
        self,
        filter: JobFilter,  # noqa: A002
        *,
        reason: str | None = None,
        actor: str | None = None,
        via: str = "api",
        chunk: int = CHUNK,
        on_progress: Progress | None = None,
        conn: Any = None,  # noqa: ANN401
    ) -> BulkResult:
        """See `Operations.retry`."""
        bulk = Bulk(self.statements, "retry", filter, operator_of(actor, via), reason, chunk)
        return await self._talk(bulk.run(on_progress), conn)

    async def delete(
        self,
        filter: JobFilter,  # noqa: A002
        *,
        reason: str | None = None,
        actor: str | None = None,
        via: str = "api",
        chunk: int = CHUNK,
        on_progress: Progress | None = None,
        conn: Any = None,  # noqa: ANN401
    ) -> BulkResult:
        """See `Operations.delete`."""
        bulk = Bulk(self.statements, "delete", filter, operator_of(actor, via), reason, chunk)
        return await self._talk(bulk.run(on_progress), conn)

    # One job

    async def run_now(
        self,
        job_id: int,
        *,
        actor: str | None = None,
        via: str = "api",
        conn: Any = None,  # noqa: ANN401
    ) -> None:
        """See `Operations.run_now`."""
        await self._all(single.run_now(self.statements, job_id, operator_of(actor, via)), conn)

    async def edit(
        self,
        job_id: int,
        *,
        run_at: datetime | None = None,
        priority: int | None = None,
        actor: str | None = None,
        via: str = "api",
        conn: Any = None,  # noqa: ANN401
    ) -> JobState:
        """See `Operations.edit`."""
        operator = operator_of(actor, via)
        edit = single.edit(self.statements, job_id, run_at, priority, operator)
        return await self._all(edit, conn)

    async def claim_one(
        self,
        job_id: int,
        *,
        lease: timedelta = models.DEFAULT_LEASE,
        worker: str | None = None,
        actor: str | None = None,
        via: str = "api",
        conn: Any = None,  # noqa: ANN401
    ) -> Job[Any]:
        """See `Operations.claim_one`."""
        operator = operator_of(actor, via)
        claim = single.claim_one(self.statements, job_id, lease, worker, self._control, operator)
        return await self._all(claim, conn)

    # Queues

    async def pause(
        self,
        queue: str | None = None,
        *,
        until: datetime | None = None,
        reason: str | None = None,
        actor: str | None = None,
        via: str = "api",
        conn: Any = None,  # noqa: ANN401
    ) -> None:
        """See `Operations.pause`."""
        operator = operator_of(actor, via)
        await self._all(single.pause(self.statements, queue, until, reason, operator), conn)

    async def resume(
        self,
        queue: str | None = None,
        *,
        actor: str | None = None,
        via: str = "api",
        conn: Any = None,  # noqa: ANN401
    ) -> bool:
        """See `Operations.resume`."""
        return await self._all(single.resume(self.statements, queue, operator_of(actor, via)), conn)

    # The audit log

    async def record(
        self,
        action: str,
        *,
        job_ids: builtins.list[int] | None = None,
        queue: str | None = None,
        detail: Mapping[str, Json] | None = None,
        affected: int = 0,
        actor: str | None = None,
        via: str = "api",
        conn: Any = None,  # noqa: ANN401
    ) -> int:
        """See `Operations.record`."""
        note = single.note(operator_of(actor, via), action, job_ids, queue, detail)
        return await self._run(self.statements.note(note, affected), conn)
