"""Runs jobs inline: in the calling thread or task, one after another, without a worker."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import attrs

from pgqueue.arguments import checked_limit, checked_names
from pgqueue.events import AttemptEnded, Outcome
from pgqueue.statements import Statement
from pgqueue.worker import report, runner

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from pgqueue.aclient import AsyncClient
    from pgqueue.client import Client
    from pgqueue.handlers import Handlers, Kind
    from pgqueue.models import Job
    from pgqueue.worker.runner import Ending

T = TypeVar("T")

LEASE = timedelta(days=1)
"""Nothing renews it, so that a debugger may stop in a handler."""
NOWHERE = 2**63 - 1
"""A floor above all positions: no job of that lane is claimed."""


@attrs.frozen
class Unit:
    """What one call of a handler takes."""

    kind: Kind[Any]
    jobs: Sequence[Job[Any]]


Steps: TypeAlias = "Generator[Statement[Any] | Unit, Any, list[AttemptEnded]]"
"""Asks for statements to be executed and units to be run, and is sent what came of each."""


def run_pending(
    client: Client,
    handlers: Handlers,
    *,
    queues: str | Sequence[str] | None = None,
    limit: int | None = None,
    scheduled: bool = False,
    reraise: bool = True,
) -> list[AttemptEnded]:
    """Runs the ready jobs until none is left, those included that the handlers enqueue meanwhile.

    They run in the order of priority and age, each to its end before the next one is claimed, with
    the handlers, payload types, middleware and observers that a worker would run them with;
    timeouts are not enforced. Async handlers run in an event loop of their own: from within one
    use `arun_pending`.

    Args:
        client: where the queue is.
        handlers: what to run; jobs of other kinds are left alone.
        queues: one queue, or several, the first ones first; None: all.
        limit: the most jobs to run; None: no limit.
        scheduled: whether to run those, too, that now wait for their time or their backoff.
        reraise: whether a handler's exception comes out, after its job has been failed. If not,
            the job just waits for its next attempt, as in a worker.

    Returns:
        What became of each job, in order.

    Raises:
        Exception: the first one that a handler raised, unless `reraise` is false.
    """
    steps = _steps(client, handlers, queues, limit, scheduled=scheduled, reraise=reraise)
    answer: Any = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as stop:
            return cast("list[AttemptEnded]", stop.value)
        if isinstance(step, Statement):
            answer = client.driver.run(step)
        elif step.kind.is_async:
            answer = asyncio.run(runner.arun(handlers, step.kind, step.jobs))
        else:
            answer = runner.run(handlers, step.kind, step.jobs)


async def arun_pending(
    client: AsyncClient,
    handlers: Handlers,
    *,
    queues: str | Sequence[str] | None = None,
    limit: int | None = None,
    scheduled: bool = False,
    reraise: bool = True,
) -> list[AttemptEnded]:
    """Does what `run_pending` does, in this task; sync handlers hold up the event loop."""
    steps = _steps(client, handlers, queues, limit, scheduled=scheduled, reraise=reraise)
    answer: Any = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as stop:
            return cast("list[AttemptEnded]", stop.value)
        if isinstance(step, Statement):
            answer = await client.driver.run(step)
        elif step.kind.is_async:
            answer = await runner.arun(handlers, step.kind, step.jobs)
        else:
            answer = runner.run(handlers, step.kind, step.jobs)


def _steps(
    client: Client | AsyncClient,
    handlers: Handlers,
    queues: str | Sequence[str] | None,
    limit: int | None,
    *,
    scheduled: bool,
    reraise: bool,
) -> Steps:
    pending = _Pending(client, handlers, queues)
    left = NOWHERE if limit is None else checked_limit(limit)
    ended: list[AttemptEnded] = []
    yield client.statements.maintain()  # what is due by now
    if scheduled:
        for job_id in (yield pending.waiting()):
            yield client.statements.retry([job_id])
    while left > 0 and (found := (yield pending.next())):
        kind = handlers[found[0][1]]
        count = min(kind.batch or 1, left)
        jobs = yield pending.claim(*found[0], count=count)
        endings = yield Unit(kind, jobs)
        left -= len(jobs)
        for ending in endings:
            lost = yield report.statement(
                client.statements, ending.outcome, [ending], handlers.redacted
            )
            event = _event(ending, lost=bool(lost))
            handlers.tell(event)
            ended.append(event)
        if reraise:
            for ending in endings:
                if ending.error is not None:
                    raise ending.error
    return ended


def _event(ending: Ending, *, lost: bool) -> AttemptEnded:
    outcome = ending.outcome
    if lost:
        outcome = Outcome.LOST
    elif outcome is Outcome.FAILED and ending.job.attempt >= ending.job.max_attempts:
        outcome = Outcome.DEAD
    return AttemptEnded(ending.job, outcome, timedelta(seconds=ending.duration), ending.error)


class _Pending:
    """The jobs that the handlers could run."""

    def __init__(
        self, client: Client | AsyncClient, handlers: Handlers, queues: str | Sequence[str] | None
    ) -> None:
        self._client = client
        self._kinds = [kind.name for kind in handlers.kinds]
        self._queues = None if queues is None else checked_names(queues, "queue")

    def waiting(self) -> Statement[list[int]]:
        """The ids of those that wait for their time."""
        schema = self._client.statements.quoted
        sql = (
            f"select id from {schema}.job where position is null and kind = any(%s) "
            "and (%s::text[] is null or queue = any(%s::text[])) order by run_at, id"
        )
        params = (self._kinds, self._queues, self._queues)
        return Statement(sql, params, lambda rows: [row[0] for row in rows])

    def next(self) -> Statement[list[tuple[Any, ...]]]:
        """Queue, kind, priority and position of the one to run next, if there is any."""
        schema = self._client.statements.quoted
        sql = (
            f"select queue, kind, priority, position from {schema}.job j "
            "where position is not null and lease_until is null and kind = any(%s) "
            "and (%s::text[] is null or queue = any(%s::text[])) and not exists (select "
            f"from {schema}.queue q where q.name in (j.queue, '*') "
            f"and paused_until > {schema}.clock()) "
            "order by array_position(%s::text[], queue), priority, position limit 1"
        )
        return Statement(sql, (self._kinds, self._queues, self._queues, self._queues), list)

    def claim(
        self, queue: str, kind: str, priority: int, position: int, *, count: int
    ) -> Statement[list[Job[Any]]]:
        """Claims exactly that one, and up to `count` of its kind that come after it in its lane."""
        floors = [NOWHERE] * 10
        floors[priority] = position
        text = "{" + ",".join(map(str, floors)) + "}"
        statements = self._client.statements
        return statements.claim([queue], count, LEASE, [kind], "inline", text, self._client)
