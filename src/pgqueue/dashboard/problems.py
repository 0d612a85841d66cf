"""What wants attention, the worst first, each with what mends it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import attrs

from pgqueue.doctor import Finding, Level
from pgqueue.words import quantity, span

if TYPE_CHECKING:
    from pgqueue.dashboard.cache import Aged
    from pgqueue.dashboard.visit import Visit
    from pgqueue.models import QueueStats
    from pgqueue.registry import WorkerState

LONG_WAIT = timedelta(minutes=5)
_FOREVER = 9999
_OWN = {"paused", "died", "workers"}
"""Checks of the doctor's of which this page itself knows more, and sooner."""
_ORDER = list(Level)


@attrs.frozen
class Death:
    """Jobs of one kind that died lately of one error."""

    kind: str
    queue: str
    error_class: str | None
    count: int
    last: datetime


@attrs.frozen
class Act:
    """What can be done: a page to go to, or a form to be sent."""

    label: str
    url: str
    fields: dict[str, str] | None = None
    """None: a link."""


@attrs.frozen
class Problem:
    """One thing that wants attention."""

    level: Level
    title: str
    seen: str
    acts: Sequence[Act] = ()


def problems(
    visit: Visit,
    stats: Sequence[QueueStats],
    workers: Sequence[WorkerState] | None,
    examined: Aged[list[Finding]] | None,
    deaths: Sequence[Death],
    failed: Sequence[tuple[str, int, datetime]],
) -> list[Problem]:
    """All of them."""
    found = [
        *_nobody_works(visit, stats, workers),
        *_died(visit, deaths),
        *_queues(visit, stats),
        *_schedules(visit, failed),
        *_findings(visit, examined),
    ]
    return sorted(found, key=lambda each: -_ORDER.index(each.level))


def _nobody_works(
    visit: Visit, stats: Sequence[QueueStats], workers: Sequence[WorkerState] | None
) -> list[Problem]:
    waiting = sum(each.ready for each in stats)
    if workers is None or not waiting or any(each.alive and each.kinds for each in workers):
        return []
    gone = f"{quantity(len(workers), 'worker')} fell silent" if workers else "None is registered"
    return [
        Problem(
            Level.CRITICAL, "No worker is alive", f"{quantity(waiting, 'job')} wait. {gone}.",
            [Act("Workers", visit.url("workers"))],
        )
    ]  # fmt: skip


def _died(visit: Visit, deaths: Sequence[Death]) -> list[Problem]:
    found = []
    for each in deaths:
        query = {"state": "dead", "kind": each.kind, "queue": each.queue, "since": "1h"}
        if each.error_class and visit.desk.options.search_payloads:
            query["error_class"] = each.error_class
        acts = [Act("Look", visit.url("jobs", query))]
        if visit.operates:
            acts.append(Act("Retry all", visit.url("bulk", {**query, "action": "retry"})))
        seen = f"Of {each.error_class}" if each.error_class else "Without an error's class"
        found.append(
            Problem(
                Level.WARNING,
                f"{quantity(each.count, each.kind + ' job', each.kind + ' jobs')} died within the "
                "last hour",
                f"{seen}, the last {span(visit.now - each.last)} ago, in queue {each.queue}.",
                acts,
            )
        )
    return found


def _queues(visit: Visit, stats: Sequence[QueueStats]) -> list[Problem]:
    found = []
    for each in stats:
        look = Act("Look", visit.url("queue", name=each.queue))
        if each.paused_until is not None and each.ready:
            acts = [look]
            if visit.operates:
                acts.append(Act("Resume", visit.url("resume"), {"queue": each.queue}))
            ends = each.paused_until
            until = "" if ends.year >= _FOREVER else f", for {span(ends - visit.now)} more"
            found.append(
                Problem(
                    Level.WARNING, f"Queue {each.queue} is paused",
                    f"{quantity(each.ready, 'job')} wait in it{until}.", acts,
                )
            )  # fmt: skip
        elif each.oldest_wait is not None and each.oldest_wait > LONG_WAIT:
            found.append(
                Problem(
                    Level.WARNING, f"Queue {each.queue} is behind",
                    f"{quantity(each.ready, 'job')} wait, the oldest for {span(each.oldest_wait)}.",
                    [Act("Why?", visit.url("queue", name=each.queue))],
                )
            )  # fmt: skip
    return found


def _schedules(visit: Visit, failed: Sequence[tuple[str, int, datetime]]) -> list[Problem]:
    return [
        Problem(
            Level.WARNING, f"Schedule {name} cannot enqueue its job",
            f"{quantity(count, 'slot')} failed within a day, the last {span(visit.now - at)} ago.",
            [Act("Look", visit.url("schedule", name=name))],
        )
        for name, count, at in failed
    ]  # fmt: skip


def _findings(visit: Visit, examined: Aged[list[Finding]] | None) -> list[Problem]:
    if examined is None:
        return []
    return [
        Problem(each.level, f"Doctor: {each.check}", each.seen, [Act("Look", visit.url("doctor"))])
        for each in examined.value
        if each.level.needs_attention and each.check not in _OWN
    ]
