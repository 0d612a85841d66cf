"""What is asked about besides jobs: queues, dedupe keys and schedules."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from pgqueue.why import missing, schedule, takers, turn
from pgqueue.why.facts import when
from pgqueue.why.models import Explanation, Gate, GateCode, GateLevel
from pgqueue.why.waiting import horizon, upkeep_rests, upkeep_words
from pgqueue.words import quantity

if TYPE_CHECKING:
    from pgqueue.why.facts import Facts


def explain_queue(queue: str, facts: Facts) -> Explanation:
    """What holds up a queue."""
    gates = _queue(queue, facts) if facts["sees_jobs"] else [missing.no_rights(facts)]
    return Explanation(subject="queue", name=queue, at=facts.now, gates=tuple(gates), queue=queue)


def _queue(queue: str, facts: Facts) -> list[Gate]:
    ready, claimed = _ready(facts), facts.number("claimed")
    overdue = facts.number("overdue")
    found = []
    if overdue:
        found.append(_overdue(overdue, facts))
    found += takers.gates(facts, queue, None)
    if ready:
        found.append(_backlog(queue, ready, facts))
        if (gate := horizon(facts)) is not None:
            found.append(gate)
    elif not facts["known"] and not claimed and not overdue and facts.time("next_run_at") is None:
        found = [gate for gate in found if gate.code is not GateCode.NO_WORKER]
        found.append(_unknown(queue, facts))
    else:
        found.insert(0, _empty(queue, claimed, facts))
    if not facts["sees_workers"]:
        found.append(missing.no_rights_to_workers(facts))
    return found


def _ready(facts: Facts) -> int:
    return facts.of("ahead").number("higher")


def _overdue(count: int, facts: Facts) -> Gate:
    return Gate(
        code=GateCode.PROMOTION_OVERDUE,
        level=GateLevel.BLOCKED if upkeep_rests(facts) else GateLevel.WAITS,
        sentence=f"{quantity(count, 'job')} of it {'is' if count == 1 else 'are'} due, and not "
        f"made ready yet. {upkeep_words(facts)}",
        action="run a worker, or: pgqueue maintain --every 1s",
        facts={"jobs": count, "upkeep_at": facts.time("upkeep_at")},
    )


def _backlog(queue: str, ready: int, facts: Facts) -> Gate:
    ahead = facts.of("ahead")
    counted = bool(ahead["counted"])
    many = f"{ready:,}" if counted else f"{ready:,}+"
    oldest = facts.time("oldest")
    since = f", the oldest due {when(oldest, facts.now)}" if oldest else ""
    runnable = ahead.number("higher_runnable")
    return Gate(
        code=GateCode.BEHIND,
        level=GateLevel.WAITS,
        sentence=f"{many} {'job is' if ready == 1 else 'jobs are'} ready in queue {queue}{since}; "
        f"{turn.pace_words(runnable, facts)}.",
        opens_at=turn.estimate(runnable, facts) if counted else None,
        estimated=True,
        facts={
            "ready": ready,
            "counted": counted,
            "oldest_run_at": oldest,
            "claimed": facts.number("claimed"),
            "lanes": [dict(lane.given) for lane in ahead.all_of("lanes")],
            **turn.rate_facts(facts),
        },
    )


def _empty(queue: str, claimed: int, facts: Facts) -> Gate:
    following = facts.time("next_run_at")
    then = f"; the next one is due {when(following, facts.now)}" if following else ""
    runs = (
        f"{quantity(claimed, 'job')} of it {'runs' if claimed == 1 else 'run'}" if claimed else ""
    )
    return Gate(
        code=GateCode.EMPTY,
        level=GateLevel.FINE,
        sentence=f"No job is ready in queue {queue}{f', {runs}' if runs else ''}{then}.",
        opens_at=following,
        facts={"claimed": claimed, "next_run_at": following},
    )


def _unknown(queue: str, facts: Facts) -> Gate:
    workers = facts.of("workers").number("on_queue")
    who = f"; {quantity(workers, 'worker')} would take its jobs" if workers else ""
    return Gate(
        code=GateCode.UNKNOWN_QUEUE,
        level=GateLevel.FINE,
        sentence=f"Queue {queue} has no unfinished job, and was not in use lately{who}.",
        action="look whether its name is right: pgqueue stats",
        facts={"queue": queue, "workers": workers},
    )


def explain_key(key: str, facts: Facts) -> Explanation:
    """Who holds a dedupe key."""
    holder = facts.of("key_holder")
    if not facts["sees_jobs"]:
        gate = missing.no_rights(facts)
    else:
        gate = _held(key, holder, facts) if holder.has("id") else _free(key, facts)
    return Explanation(
        subject="dedupe key",
        name=key,
        at=facts.now,
        gates=(gate,),
        job_id=holder["id"],
        queue=holder["queue"],
        kind=holder["kind"],
    )


def _held(key: str, holder: Facts, facts: Facts) -> Gate:
    until = "starts" if holder["dedupe_until"] == "start" else "is finished"
    since = when(holder.must("enqueued_at"), facts.now)
    return Gate(
        code=GateCode.KEY_HELD,
        level=GateLevel.FINE,
        sentence=f"Job {holder['id']} of kind {holder['kind']} in queue {holder['queue']}, which "
        f"is {holder['state']}, took the key {key!r} {since}: until it {until}, an enqueue "
        f"of that kind with this key adds no job, and is answered with number {holder['id']}.",
        action=f"pgqueue why {holder['id']}",
        facts={**holder.given, "enqueued_at": holder.time("enqueued_at"),
               "run_at": holder.time("run_at")},
    )  # fmt: skip


def _free(key: str, facts: Facts) -> Gate:
    kinds = facts["kinds"] or []
    shown = ", ".join(kinds[:_SHOWN]) + (", ..." if len(kinds) > _SHOWN else "")
    among = f"Among the kinds {shown}, no" if len(kinds) > 1 else f"Of kind {shown}, no"
    return Gate(
        code=GateCode.KEY_FREE,
        level=GateLevel.FINE,
        sentence=f"{among if kinds else 'No'} unfinished job holds the key {key!r}: the next "
        "enqueue with it adds a job.",
        action=None if len(kinds) == 1 else "keys belong to a kind: pass it, with --kind",
        facts={"kinds": list(kinds)},
    )


_SHOWN = 10
JUST_NOW = timedelta(seconds=2)


def explain_schedule(name: str, facts: Facts) -> Explanation:
    """Why a schedule enqueues nothing."""
    found = facts.of("schedule")
    gates = schedule.gates(name, facts) if facts["sees_jobs"] else [missing.no_rights(facts)]
    return Explanation(
        subject="schedule",
        name=name,
        at=facts.now,
        gates=tuple(gates),
        job_id=found["last_job_id"],
        queue=found["queue"],
        kind=found["kind"],
    )
