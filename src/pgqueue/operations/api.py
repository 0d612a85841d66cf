"""`client.operations`: what operators see and do, for the dashboard, the command line, and code."""

from __future__ import annotations

import builtins
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from pgqueue import models
from pgqueue.arguments import checked_limit, checked_span
from pgqueue.operations import single
from pgqueue.operations.bulk import Bulk, narrowed
from pgqueue.operations.history import MINUTE, Minute, summed
from pgqueue.operations.models import JobFilter
from pgqueue.operations.statements import OperationStatements, Operator
from pgqueue.operations.steps import Reading

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgqueue.drivers import Driver
    from pgqueue.jsontext import Json
    from pgqueue.models import Job, JobControl, JobState
    from pgqueue.operations.bulk import Progress
    from pgqueue.operations.models import Action, AuditEntry, BulkResult, Count, Page, Pause
    from pgqueue.operations.steps import Dialogue, Transaction
    from pgqueue.statements import Statement

T = TypeVar("T")

ALL = JobFilter()
DEADLINE = timedelta(seconds=5)
"""After so long a search gives up."""
CHUNK = 1_000
"""Jobs that one transaction of a bulk action takes."""
HOUR = timedelta(hours=1)


class Operations:
    """What operators see and do: `client.operations`.

    What changes anything is written to the audit log, in the same transaction: as done by `actor`
    (None: the database's role), `via` "api", "cli" or "dashboard". Every operation takes `conn=`,
    and raises, as those of `Client` do. Those on one job raise `JobNotFound`, and `JobNotWaiting`
    where it is claimed or finished.
    """

    def __init__(self, driver: Driver, schema: str, control: JobControl | None = None) -> None:
        self.statements = OperationStatements(schema)
        self._driver = driver
        self._control = control

    def _run(self, statement: Statement[T], conn: Any) -> T:  # noqa: ANN401
        return self._driver.run(statement, conn)

    def _all(self, transaction: Transaction[T], conn: Any) -> T:  # noqa: ANN401
        try:
            return self._driver.run_all(transaction, conn)
        except psycopg.errors.QueryCanceled as error:
            raise transaction.meant(error) from error

    def _talk(self, dialogue: Dialogue[T], conn: Any) -> T:  # noqa: ANN401
        answer: Any = None
        while True:
            try:
                transaction = dialogue.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            answer = self._all(transaction, conn)

    # Look

    def search(
        self,
        filter: JobFilter = ALL,  # noqa: A002 - there is no better word
        *,
        after: str | None = None,
        limit: int = 50,
        deadline: timedelta = DEADLINE,
        conn: Any = None,  # noqa: ANN401
    ) -> Page:
        """Jobs that fit, without payloads, results and histories.

        Claimed ones come first, then ready ones, both in the order of claims, then scheduled ones,
        those due first, then finished ones, the latest first.

        Args:
            filter: which jobs.
            after: the `next` of the page before.
            limit: the most jobs.
            deadline: how long to look.
            conn: as in `Client.enqueue`.

        Raises:
            FilterTooBroad: it took longer than `deadline`.
        """
        reading = Reading(self.statements, checked_span(deadline, "deadline", zero=False))
        return self._all(reading.page(filter, after, checked_limit(limit)), conn)

    def count(
        self,
        filter: JobFilter = ALL,  # noqa: A002
        *,
        at_most: int = 10_000,
        deadline: timedelta = DEADLINE,
        conn: Any = None,  # noqa: ANN401
    ) -> Count:
        """How many jobs fit; beyond `at_most` it only says that there are more: `10,000+`.

        Raises:
            FilterTooBroad: it took longer than `deadline`.
        """
        reading = Reading(self.statements, checked_span(deadline, "deadline", zero=False))
        return self._all(reading.count(filter, checked_limit(at_most)), conn)

    def history(
        self,
        queue: str | None = None,
        *,
        since: datetime | timedelta = HOUR,
        until: datetime | None = None,
        every: timedelta = MINUTE,
        conn: Any = None,  # noqa: ANN401
    ) -> builtins.list[Minute]:
        """What happened in each minute, by queue, in their order: see `Minute`.

        A minute is there some 15 s after its end if anything happened in it, and is kept for a
        week. What was committed later than that is missing in it.

        Args:
            queue: only this one.
            since: from when on: a time, or a span before now.
            until: until just before this time.
            every: put together in spans so long, of whole minutes.
            conn: as in `Client.enqueue`.
        """
        found = self._run(self.statements.history(queue, since, until), conn)
        return summed(found, every)

    def audit(
        self,
        *,
        actor: str | None = None,
        action: str | None = None,
        before: int | None = None,
        limit: int = 50,
        conn: Any = None,  # noqa: ANN401
    ) -> builtins.list[AuditEntry]:
        """What operators did, the latest first. For the next page pass the last id as `before`."""
        return self._run(self.statements.audit(actor, action, before, limit), conn)

    def paused(self, *, conn: Any = None) -> Pause | None:  # noqa: ANN401
        """Whether all automatic processing is paused, and until when."""
        return self._run(self.statements.paused(), conn)

    # All jobs of a filter

    def preview(
        self,
        action: Action,
        filter: JobFilter,  # noqa: A002
        *,
        at_most: int = 10_000,
        deadline: timedelta = DEADLINE,
        conn: Any = None,  # noqa: ANN401
    ) -> Count:
        """How many jobs `cancel`, `retry` or `delete` would be tried on now."""
        reading = Reading(self.statements, checked_span(deadline, "deadline", zero=False))
        found = narrowed(action, filter)
        return self._all(reading.count(found, checked_limit(at_most)), conn)

    def cancel(
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
        """Cancels the unfinished jobs that fit: waiting ones at once, running ones when they heed.

        It is done chunk by chunk, each in a transaction of its own (all in that of `conn`), to the
        jobs that were there when it began. If it is interrupted, what was done stays done, and is
        in the audit log.

        Args:
            filter: which jobs; of its states, those that are unfinished.
            reason: goes to the jobs' histories and to the audit log.
            actor: who does it.
            via: by what means.
            chunk: how many jobs one transaction takes.
            on_progress: called after each chunk: how many jobs it was tried on so far, and to how
                many it was done.
            conn: as in `Client.enqueue`.

        Raises:
            FilterTooBroad: to find the jobs of a chunk took longer than 30 s.
        """
        bulk = Bulk(self.statements, "cancel", filter, operator_of(actor, via), reason, chunk)
        return self._talk(bulk.run(on_progress), conn)

    def retry(
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
        """Makes finished and scheduled jobs that fit run again now: see `cancel`, `Client.retry`.

        Without states in the filter, those that are dead.
        """
        bulk = Bulk(self.statements, "retry", filter, operator_of(actor, via), reason, chunk)
        return self._talk(bulk.run(on_progress), conn)

    def delete(
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
        """Deletes waiting and finished jobs that fit, for good: see `cancel`.

        The filter must have states.
        """
        bulk = Bulk(self.statements, "delete", filter, operator_of(actor, via), reason, chunk)
        return self._talk(bulk.run(on_progress), conn)

    # One job

    def run_now(
        self,
        job_id: int,
        *,
        actor: str | None = None,
        via: str = "api",
        conn: Any = None,  # noqa: ANN401
    ) -> None:
        """Makes a scheduled job ready now; one that is ready stays where it is.

        Raises:
            JobNotFound: there is no such job.
            JobNotWaiting: it is claimed, or finished (then `Client.retry` runs it again).
        """
        self._all(single.run_now(self.statements, job_id, operator_of(actor, via)), conn)

    def edit(
        self,
        job_id: int,
        *,
        run_at: datetime | None = None,
        priority: int | None = None,
        actor: str | None = None,
        via: str = "api",
        conn: Any = None,  # noqa: ANN401
    ) -> JobState:
        """Changes when a waiting job runs, or before which others; returns its state.

        A ready job whose priority changes keeps its age: it stands in its new lane where it would
        stand had it always been there. One whose `run_at` is to come waits for it; a scheduled one
        whose `run_at` is now or over is ready at once.

        Raises:
            JobNotFound: there is no such job.
            JobNotWaiting: it is claimed or finished.
        """
        operator = operator_of(actor, via)
        edit = single.edit(self.statements, job_id, run_at, priority, operator)
        return self._all(edit, conn)

    def claim_one(
        self,
        job_id: int,
        *,
        lease: timedelta = models.DEFAULT_LEASE,
        worker: str | None = None,
        actor: str | None = None,
        via: str = "api",
        conn: Any = None,  # noqa: ANN401
    ) -> Job[Any]:
        """Claims that waiting job, ready or not yet, even where its queue or all is paused.

        It is a claim as any other: end it, or extend its lease, in time.

        Raises:
            JobNotFound: there is no such job.
            JobNotWaiting: it is claimed or finished.
        """
        operator = operator_of(actor, via)
        claim = single.claim_one(self.statements, job_id, lease, worker, self._control, operator)
        return self._all(claim, conn)

    # Queues

    def pause(
        self,
        queue: str | None = None,
        *,
        until: datetime | None = None,
        reason: str | None = None,
        actor: str | None = None,
        via: str = "api",
        conn: Any = None,  # noqa: ANN401
    ) -> None:
        """Stops claims from a queue, until `resume` or until a time; without a queue, everything.

        While everything is paused, no worker and no endpoint gets a job, no schedule fires and no
        endpoint is poked. Running jobs go on, and what people do works: `Client.enqueue`, `retry`,
        `cancel`, `claim_one`, and to run a schedule by hand. What becomes of slots that pass
        meanwhile is up to the schedules' `catch_up`.
        """
        operator = operator_of(actor, via)
        self._all(single.pause(self.statements, queue, until, reason, operator), conn)

    def resume(
        self,
        queue: str | None = None,
        *,
        actor: str | None = None,
        via: str = "api",
        conn: Any = None,  # noqa: ANN401
    ) -> bool:
        """Lets claims from a queue, or everything, go on; returns whether it was paused.

        Queues that were paused one by one stay so when everything goes on.
        """
        return self._all(single.resume(self.statements, queue, operator_of(actor, via)), conn)

    # The audit log

    def record(
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
        """Writes an entry of what was done by other means, `Client.purge` say; returns its id.

        Pass the connection in whose transaction it was done.
        """
        note = single.note(operator_of(actor, via), action, job_ids, queue, detail)
        return self._run(self.statements.note(note, affected), conn)


def operator_of(actor: str | None, via: str) -> Operator:
    """Who does something, and by what means."""
    return Operator(actor=actor, via=via)
