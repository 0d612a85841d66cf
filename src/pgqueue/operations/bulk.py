"""Actions on all jobs of a filter: chunk by chunk, each in a transaction of its own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import attrs

from pgqueue import jsontext
from pgqueue.arguments import shown, whole
from pgqueue.errors import InvalidJob
from pgqueue.models import JobState
from pgqueue.operations import search
from pgqueue.operations.conditions import Conditions, checked_filter
from pgqueue.operations.models import Action, BulkResult, JobFilter
from pgqueue.operations.search import Place, Search
from pgqueue.operations.statements import Note, Operator, details
from pgqueue.operations.steps import Dialogue, Reading, Transaction

if TYPE_CHECKING:
    from pgqueue.operations.statements import OperationStatements
    from pgqueue.statements import Steps

MOST_AT_ONCE = 10_000
DEADLINE = timedelta(seconds=30)
"""How long to look for the jobs of one chunk."""
_WAITING = (JobState.READY, JobState.SCHEDULED)
_FINISHED = tuple(state for state in JobState if state.finished)
STATES: dict[str, tuple[JobState, ...]] = {
    "cancel": (JobState.CLAIMED, *_WAITING),
    "retry": (JobState.SCHEDULED, *_FINISHED),
    "delete": (*_WAITING, *_FINISHED),
}
"""Which jobs each action can be done to."""

Progress = Callable[[int, int], None]
"""Called after each chunk: how many jobs were tried so far, and to how many it was done."""


def narrowed(action: Action, wanted: JobFilter) -> JobFilter:
    """The filter, with the states that the action is for.

    Without states, a retry is of dead jobs. A delete must have them.

    Raises:
        InvalidJob: there is no such action, or none of the states fits it.
    """
    checked_filter(wanted)
    if action not in STATES:
        raise InvalidJob(f"action is {shown(action)}; pass one of {', '.join(STATES)}")
    fit = STATES[action]
    if wanted.state is None:
        if action == "delete":
            raise InvalidJob("a delete needs the states of the jobs to delete; give `state`")
        fit = (JobState.DEAD,) if action == "retry" else fit
    states = tuple(state for state in wanted.states if state in fit)
    if not states:
        named = ", ".join(state.value for state in STATES[action])
        raise InvalidJob(f"nothing of this filter can be done a {action} to; give a state: {named}")
    return attrs.evolve(wanted, state=states)


@attrs.frozen
class Chunk:
    """What became of one."""

    matched: int
    affected: int
    after: Place | None
    audit_id: int | None


class Bulk:
    """One action on a filter."""

    def __init__(
        self,
        statements: OperationStatements,
        action: Action,
        wanted: JobFilter,
        operator: Operator,
        reason: str | None,
        size: int,
    ) -> None:
        self.wanted = narrowed(action, wanted)
        self._statements = statements
        self._action = action
        self._reason = reason
        self._size = whole(size, "chunk", 1, MOST_AT_ONCE)
        self._reading = Reading(statements, DEADLINE)
        self._note = Note(
            operator=operator,
            action=action,
            filter=jsontext.dumps(self.wanted.as_dict(), "filter"),
            detail=details(reason=reason),
        )
        operator.params()

    def run(self, progress: Progress | None) -> Dialogue[BulkResult]:
        """All chunks: of the jobs that were there when it began."""
        last_id: int = yield Transaction(self._last_id)
        matched = affected = 0
        audit_id: int | None = None
        after: Place | None = None
        while True:
            chunk: Chunk = yield self._chunk(last_id, after, audit_id)
            matched, affected = matched + chunk.matched, affected + chunk.affected
            audit_id = chunk.audit_id
            if chunk.matched and progress is not None:
                progress(matched, affected)
            after = chunk.after
            if after is None:
                return BulkResult(
                    action=self._action, matched=matched, affected=affected, audit_id=audit_id
                )

    def _last_id(self) -> Steps[int]:
        last_id: int = yield self._statements.last_id()
        return last_id

    def _chunk(self, last_id: int, after: Place | None, audit_id: int | None) -> Transaction[Chunk]:
        found = Search(
            self._statements.quoted,
            self.wanted,
            more=Conditions(" and id <= %s", (last_id,)),
            unasked=self._action == "cancel",
        )

        def acting() -> Steps[Chunk]:
            rows, following = yield from self._reading.some(found, after, self._size)
            if not rows:
                return Chunk(0, 0, following, audit_id)
            ids = sorted(search.job_id(row) for row in rows)
            affected: int = yield self._statements.act(self._action, ids, self._reason)
            noted = audit_id
            if noted is None:
                noted = yield self._statements.note(self._note, affected)
            elif affected:
                yield self._statements.note_more(noted, affected)
            return Chunk(len(rows), affected, following, noted)

        return Transaction(acting, DEADLINE)
