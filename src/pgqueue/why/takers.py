"""Whether anybody takes jobs of a queue, and of a kind in it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import attrs

from pgqueue.why.facts import when
from pgqueue.why.models import Gate, GateCode, GateLevel
from pgqueue.words import quantity, span

if TYPE_CHECKING:
    from pgqueue.why.facts import Facts

FOREVER = 9999
"""The year until which a queue is paused that has to be resumed by hand."""


def gates(facts: Facts, queue: str, kind: str | None) -> list[Gate]:
    """A pause, no worker, none with the kind, or none with room."""
    found = all_paused(facts)
    if facts.has("pause"):
        paused = _paused(facts.of("pause"), facts.now, f"Queue {queue} was", GateCode.PAUSED)
        found.append(attrs.evolve(paused, action=f"pgqueue resume {queue}"))
    if (gate := _nobody(facts, queue, kind)) is not None:
        found.append(gate)
    return found


def all_paused(facts: Facts) -> list[Gate]:
    """The switch that stops all automatic processing, if it is thrown."""
    if not facts.has("pause_all"):
        return []
    pause = facts.of("pause_all")
    gate = _paused(pause, facts.now, "All automatic processing was", GateCode.ALL_PAUSED)
    return [attrs.evolve(gate, action="pgqueue resume --all")]


def _paused(pause: Facts, now: datetime, what: str, code: GateCode) -> Gate:
    since, until = pause.time("since"), pause.must("until")
    ends = until if until.year < FOREVER else None
    reason = f" ({pause['reason']})" if pause["reason"] else ", without a reason given"
    began = f" {when(since, now)}" if since else ""
    return Gate(
        code=code,
        level=GateLevel.WAITS if ends else GateLevel.BLOCKED,
        sentence=f"{what} paused{began}"
        f"{f', and goes on {when(ends, now)}' if ends else ', until it is resumed'}{reason}.",
        opens_at=ends,
        facts={"since": since, "until": ends, "reason": pause["reason"]},
    )


def _nobody(facts: Facts, queue: str, kind: str | None) -> Gate | None:
    workers = facts.of("workers")
    if not facts.has("workers"):
        return None
    if workers.number("room"):
        return None
    if workers.number("able"):
        return _full(workers, facts, queue)
    # One that could not register, or is of another release, may sleep all the same.
    if facts.number("sleepers"):
        return None
    if workers.number("on_queue"):
        return _no_kind(workers, queue, str(kind))
    return _no_worker(workers, facts, queue, kind)


def _no_worker(workers: Facts, facts: Facts, queue: str, kind: str | None) -> Gate:
    now = facts.now
    told = f"No live worker takes jobs of queue {queue}"
    silent_since = workers.time("silent_since")
    if workers.number("stopping"):
        told += f"; {quantity(workers.number('stopping'), 'worker')} of it are about to stop"
    if silent_since is not None:
        told += f"; the last one that did was last heard of {when(silent_since, now)}"
    elsewhere = [worker["id"] for worker in workers.all_of("elsewhere")]
    if elsewhere:
        told += f"; kind {kind} is run on other queues, by {', '.join(elsewhere)}"
    others = [stranger["worker"] or "without a name" for stranger in facts.all_of("strangers")]
    last = facts.of("pace").time("last_finished_at")
    recent = facts.of("pace").number("finished") > 0 and last is not None
    if others:
        told += f"; claims are held by {', '.join(others)}, not registered: an endpoint, or a loop "
        told += "of your own"
    elif recent and last is not None:
        told += f"; yet a job of it was finished {when(last, now)}, by an endpoint or a loop of "
        told += "your own, which do not register"
    return Gate(
        code=GateCode.NO_WORKER,
        level=GateLevel.WAITS if others or recent else GateLevel.BLOCKED,
        sentence=f"{told}.",
        action=f"pgqueue worker MODULE:HANDLERS -q {queue}"
        + (f", with a handler for {kind}" if kind else ""),
        facts={
            "queue": queue,
            "kind": kind,
            "stopping": workers.number("stopping"),
            "silent": workers.number("silent"),
            "silent_since": silent_since,
            "on_other_queues": _plain(workers, "elsewhere"),
            "unregistered": others,
            "last_finished_at": last,
        },
    )


def _no_kind(workers: Facts, queue: str, kind: str) -> Gate:
    count = workers.number("on_queue")
    told = f"{quantity(count, 'live worker')} {_takes(count)} jobs of queue {queue}, none of kind "
    told += f"{kind}"
    if kinds := workers["kinds"]:
        told += f" (they have {', '.join(kinds)})"
    elsewhere = workers.all_of("elsewhere")
    if elsewhere:
        them = ", ".join(f"{w['id']} on {', '.join(w['queues'])}" for w in elsewhere)
        told += f"; it is run on other queues, by {them}"
    return Gate(
        code=GateCode.NO_KIND,
        level=GateLevel.BLOCKED,
        sentence=f"{told}.",
        action=f"register a handler for {kind} and deploy it, or let a worker that has one take "
        f"queue {queue}, too",
        facts={
            "queue": queue,
            "kind": kind,
            "workers": count,
            "kinds": list(kinds or ()),
            "on_this_queue": _plain(workers, "here"),
            "on_other_queues": _plain(workers, "elsewhere"),
        },
    )


def _takes(count: int) -> str:
    return "takes" if count == 1 else "take"


def _full(workers: Facts, facts: Facts, queue: str) -> Gate:
    count = workers.number("able")
    busy = facts.all_of("busy_with")
    them = ", ".join(
        f"{quantity(b['jobs'], 'job')} of {b['kind']}, the first for "
        f"{span(max(timedelta(0), facts.now - b.must('since')))}"
        for b in busy
    )
    who = "The only worker" if count == 1 else f"All {count} workers"
    return Gate(
        code=GateCode.FULL,
        level=GateLevel.WAITS,
        sentence=f"{who} that would take it {'is' if count == 1 else 'are'} at full concurrency "
        f"({workers.number('running')} of {workers.number('concurrency')})"
        f"{f', busy with {them}' if them else ''}.",
        action=f"more workers on queue {queue}, or a greater --concurrency",
        facts={
            "queue": queue,
            "workers": count,
            "running": workers.number("running"),
            "concurrency": workers.number("concurrency"),
            "busy_with": [{**b.given, "since": b.time("since")} for b in busy],
        },
    )


def _plain(workers: Facts, name: str) -> list[dict[str, Any]]:
    return [dict(worker.given) for worker in workers.all_of(name)]
