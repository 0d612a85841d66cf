"""A ready job's turn: how many stand before it, and when it may come."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pgqueue.why.facts import when
from pgqueue.why.models import Gate, GateCode, GateLevel
from pgqueue.words import quantity, span

if TYPE_CHECKING:
    from pgqueue.why.facts import Facts

TAKEN_WITHIN = timedelta(seconds=15)
"""A job that is next and waits for longer, with room in a worker, is held by something unseen."""
FEWEST_FINISHED = 10
"""Finished jobs from which on a rate is told."""
STALLED_SECONDS = 5.0
"""Since the last job that was finished, at least, when there is no present rate any more; of a slow
queue ten times as long as it took per job."""
FARTHEST = timedelta(days=3650)


def gates(job: Facts, facts: Facts, *, held: bool) -> list[Gate]:
    """What stands before it in its queue; `held`: whether something else holds it anyway."""
    ahead = facts.of("ahead")
    if not ahead.has("own"):
        return [_unmarked(job)]
    found = []
    if ahead.number("higher"):
        found.append(_priority(job, facts))
    if ahead.of("own").number("jobs"):
        found.append(_behind(job, facts))
    if not found and not held and facts.has("workers"):
        found.append(_next(job, facts))
    elif not found and not held:
        found.append(_first(job, facts))
    return found


def _unmarked(job: Facts) -> Gate:
    return Gate(
        code=GateCode.UNMARKED,
        level=GateLevel.WAITS,
        sentence=f"Lane {job['queue']}/{job['priority']} is not in the list of lanes, since its "
        "job was committed long after its enqueue; upkeep finds it within some ten seconds.",
        action="run a worker, or: pgqueue maintain",
        facts={"queue": job["queue"], "priority": job["priority"]},
    )


def rate(facts: Facts) -> tuple[float, timedelta] | None:
    """Jobs of the queue finished in a second, and over how long that was measured."""
    pace = facts.of("pace")
    since = pace.time("since")
    if since is None or pace.number("finished") < FEWEST_FINISHED:
        return None
    length = max(facts.now - since, timedelta(milliseconds=10))
    per_second = pace.number("finished") / length.total_seconds()
    last = pace.time("last_finished_at")
    if last is None or (facts.now - last).total_seconds() > max(STALLED_SECONDS, 10 / per_second):
        return None
    return per_second, length


def estimate(jobs: int, facts: Facts) -> datetime | None:
    """When so many jobs are done at the present rate."""
    if (found := rate(facts)) is None:
        return None
    return facts.now + min(FARTHEST, timedelta(seconds=min(1e9, jobs / found[0])))


def pace_words(jobs: int, facts: Facts) -> str:
    """What the rate says of `jobs` jobs, and how sure that is."""
    found, at = rate(facts), estimate(jobs, facts)
    if found is None or at is None:
        last = facts.of("pace").time("last_finished_at")
        told = "few were finished lately"
        if last is not None:
            told = f"the last one was finished {when(last, facts.now)}"
        return f"how fast they are done is not known: {told}"
    per_second, length = found
    return (
        f"at the present rate ({_per(per_second)}, over the last {span(length)}) that is done in "
        f"about {span(at - facts.now)}, later if more of higher priority come"
    )


def _per(per_second: float) -> str:
    return f"{per_second:,.0f}/s" if per_second >= _MANY else f"{per_second * 60:,.1f}/min"


_MANY = 10


def _before(ahead: Facts) -> int:
    """Jobs that run before it: without those that no worker here has a handler for."""
    own = ahead.of("own")
    share = own.number("runnable") / max(1, own.number("jobs"))
    return round(own.number("about") * share) + ahead.number("higher_runnable")


def _count(jobs: int, *, counted: bool) -> str:
    return f"{jobs:,}" if counted else f"{jobs:,}+"


def _behind(job: Facts, facts: Facts) -> Gate:
    ahead = facts.of("ahead")
    own, before = ahead.of("own"), _before(ahead)
    jobs, counted = own.number("jobs"), bool(own["counted"])
    about = "" if counted else f" (about {own.number('about'):,})"
    unrunnable = jobs - own.number("runnable")
    passed = (
        f"; {unrunnable:,} of those counted are of kinds that no worker here has, and are passed "
        "over"
        if unrunnable
        else ""
    )
    what = "job stands" if jobs == 1 else "jobs stand"
    return Gate(
        code=GateCode.BEHIND,
        level=GateLevel.WAITS,
        sentence=f"{_count(jobs, counted=counted)}{about} {what} before it in its lane "
        f"({job['queue']}, priority {job['priority']}){passed}; {pace_words(before, facts)}.",
        opens_at=estimate(before, facts),
        estimated=True,
        facts={
            "ahead": jobs,
            "counted": counted,
            "about": own.number("about"),
            "runnable": own.number("runnable"),
            "before": before,
            **rate_facts(facts),
        },
    )


def rate_facts(facts: Facts) -> dict[str, object]:
    """The rate as data."""
    found = rate(facts)
    return {
        "per_second": None if found is None else found[0],
        "over_seconds": None if found is None else found[1].total_seconds(),
        "finished": facts.of("pace").number("finished"),
        "last_finished_at": facts.of("pace").time("last_finished_at"),
    }


def _priority(job: Facts, facts: Facts) -> Gate:
    ahead = facts.of("ahead")
    jobs, counted = ahead.number("higher"), bool(ahead["counted"])
    lanes = [lane for lane in ahead.all_of("lanes") if lane["priority"] < job["priority"]]
    them = ", ".join(
        f"{lane.number('jobs'):,} of priority {lane['priority']}"
        for lane in sorted(lanes, key=lambda lane: lane.number("priority"))
    )
    return Gate(
        code=GateCode.PRIORITY,
        level=GateLevel.WAITS,
        sentence=f"{_count(jobs, counted=counted)} ready {'job goes' if jobs == 1 else 'jobs go'} "
        f"before priority {job['priority']} ({them}); yet one claim in sixteen serves the lane "
        "with the oldest job first, so that none starves.",
        opens_at=estimate(ahead.number("higher_runnable"), facts),
        estimated=True,
        facts={"ahead": jobs, "counted": counted,
               "lanes": [dict(lane.given) for lane in lanes]},
    )  # fmt: skip


def _next(job: Facts, facts: Facts) -> Gate:
    waited = facts.now - max(job.must("run_at"), job.must("enqueued_at"))
    workers = facts.of("workers")
    room = workers.number("room") or facts.number("sleepers")
    who = f"{quantity(room, 'worker')} {'has' if room == 1 else 'have'} room for it"
    told = {"room": room, "idle": facts.number("sleepers"), "seconds": waited.total_seconds()}
    if waited <= TAKEN_WITHIN:
        return Gate(
            code=GateCode.NEXT,
            level=GateLevel.FINE,
            sentence=f"Nothing holds it: no job stands before it, and {who}; it is taken at the "
            "next claim.",
            facts=told,
        )
    return Gate(
        code=GateCode.NOT_TAKEN,
        level=GateLevel.BLOCKED,
        sentence=f"Nothing is seen that holds it, and yet it has been there for {span(waited)}, "
        f"although {who}: claims may fail, or a worker's loop be blocked.",
        action="look at the workers' logs, and: pgqueue doctor",
        facts=told,
    )


def _first(job: Facts, facts: Facts) -> Gate:
    waited = facts.now - max(job.must("run_at"), job.must("enqueued_at"))
    return Gate(
        code=GateCode.NEXT,
        level=GateLevel.FINE,
        sentence=f"It is the first of its queue, ready {when(facts.now - waited, facts.now)}.",
        facts={"seconds": waited.total_seconds()},
    )
