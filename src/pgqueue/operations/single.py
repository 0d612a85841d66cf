"""Actions on one job, or one queue: each with its entry in the audit log, in one transaction."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pgqueue import jsontext
from pgqueue.arguments import as_ids, checked_name, shown
from pgqueue.errors import InvalidJob
from pgqueue.models import JobState
from pgqueue.operations.statements import Note, Operator, details, reason_text
from pgqueue.operations.steps import Transaction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta

    from pgqueue.jsontext import Json
    from pgqueue.models import Job, JobControl
    from pgqueue.operations.statements import OperationStatements
    from pgqueue.statements import Statement, Steps

_ACTION = re.compile("[a-z_]{1,32}")


def _noted(
    statements: OperationStatements, statement: Statement[Any], note: Note, affected: int
) -> Transaction[Any]:
    note.operator.params()

    def steps() -> Steps[Any]:
        result = yield statement
        yield statements.note(note, affected)
        return result

    return Transaction(steps)


def run_now(statements: OperationStatements, job_id: int, operator: Operator) -> Transaction[None]:
    """Makes a waiting job ready."""
    note = Note(operator=operator, action="run_now", job_ids=as_ids(job_id))
    return _noted(statements, statements.run_now(job_id), note, 1)


def edit(
    statements: OperationStatements,
    job_id: int,
    run_at: datetime | None,
    priority: int | None,
    operator: Operator,
) -> Transaction[JobState]:
    """Changes a waiting job."""
    statement = statements.edit(job_id, run_at, priority)
    detail = details(run_at=run_at, priority=priority)
    note = Note(operator=operator, action="edit", job_ids=as_ids(job_id), detail=detail)
    return _noted(statements, statement, note, 1)


def claim_one(
    statements: OperationStatements,
    job_id: int,
    lease: timedelta,
    worker: str | None,
    control: JobControl | None,
    operator: Operator,
) -> Transaction[Job[Any]]:
    """Claims one job."""
    statement = statements.claim_one(job_id, lease, worker, control)
    note = Note(operator=operator, action="claim", job_ids=as_ids(job_id))
    return _noted(statements, statement, note, 1)


def pause(
    statements: OperationStatements,
    queue: str | None,
    until: datetime | None,
    reason: str | None,
    operator: Operator,
) -> Transaction[None]:
    """Pauses a queue, or all."""
    statement = statements.pause(queue, until, reason)
    detail = details(until=until, reason=reason_text(reason))
    note = Note(operator=operator, action="pause", queue=queue, detail=detail)
    return _noted(statements, statement, note, 0)


def resume(
    statements: OperationStatements, queue: str | None, operator: Operator
) -> Transaction[bool]:
    """Lets a queue, or all, go on."""
    note = Note(operator=operator, action="resume", queue=queue)
    return _noted(statements, statements.resume(queue), note, 0)


def note(
    operator: Operator,
    action: str,
    job_ids: Sequence[int] | None,
    queue: str | None,
    detail: Mapping[str, Json] | None,
) -> Note:
    """An entry of what was done by other means.

    Raises:
        InvalidJob: it cannot be stored.
    """
    if not _ACTION.fullmatch(action):
        raise InvalidJob(f"action is {shown(action)}; use 1 to 32 of a-z and _")
    return Note(
        operator=operator,
        action=action,
        job_ids=None if job_ids is None else as_ids(job_ids),
        queue=None if queue is None else checked_name(queue, "queue"),
        detail=None if detail is None else jsontext.dumps(dict(detail), "detail"),
    )
