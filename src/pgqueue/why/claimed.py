"""A job that somebody has claimed: whether it runs as it should."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from pgqueue.why.facts import when
from pgqueue.why.models import Gate, GateCode, GateLevel
from pgqueue.why.waiting import locked, upkeep_rests, upkeep_words
from pgqueue.words import span

if TYPE_CHECKING:
    from pgqueue.why.facts import Facts

FEWEST_RUNS = 20
"""Finished jobs of a kind from which on it is said what is usual."""
REAPED_WITHIN = timedelta(seconds=2)
"""Of the end of a lease, where upkeep is done."""


def gates(facts: Facts) -> list[Gate]:
    """What is to be known of the claim, what matters most first."""
    job = facts.of("job")
    now, lease_until = facts.now, job.must("lease_until")
    found = []
    overdue = lease_until < now
    if overdue:
        found.append(_overdue(job, facts))
        if (gate := locked(job)) is not None:
            found.insert(0, gate)
    if job["cancel_requested"]:
        found.append(_cancel_requested(job))
    holder = facts.of("holder")
    if not overdue and holder.has("id") and not holder["alive"]:
        found.append(_silent(job, holder, facts))
    if (gate := _slow(job, facts)) is not None:
        found.append(gate)
    if not overdue:
        found.append(_running(job, holder, facts))
    return found


def _who(job: Facts) -> str:
    return f"worker {job['worker']}" if job["worker"] else "a worker without a name"


def _ran(job: Facts, facts: Facts) -> timedelta:
    return facts.now - job.must("claimed_at")


def _claim(job: Facts) -> dict[str, object]:
    return {
        "worker": job["worker"],
        "claimed_at": job.time("claimed_at"),
        "lease_until": job.time("lease_until"),
        "attempt": job["attempt"],
        "max_attempts": job["max_attempts"],
    }


def _overdue(job: Facts, facts: Facts) -> Gate:
    now, lease_until = facts.now, job.must("lease_until")
    last = job["attempt"] >= job["max_attempts"]
    then = "is dead, this having been its last attempt" if last else "backs off and runs again"
    rests = upkeep_rests(facts)
    return Gate(
        code=GateCode.LEASE_OVERDUE,
        level=GateLevel.BLOCKED if rests else GateLevel.WAITS,
        sentence=f"Its lease by {_who(job)} ended {when(lease_until, now)}, so the worker is dead, "
        f"stuck or cut off; upkeep ends the claim, and then the job {then}. "
        f"{upkeep_words(facts)}",
        opens_at=None if rests else facts.time("reap_at"),
        action="run a worker, or: pgqueue maintain --every 1s" if rests else None,
        facts={**_claim(job), "upkeep_at": facts.time("upkeep_at")},
    )


def _cancel_requested(job: Facts) -> Gate:
    return Gate(
        code=GateCode.CANCEL_REQUESTED,
        level=GateLevel.WAITS,
        sentence=f"Its cancellation was asked for, and {_who(job)} has not ended it yet: it is "
        "told within five seconds, and a sync handler has to look at job.cancel_requested.",
        action="give the handler a timeout, or have it look at job.cancel_requested",
        facts=_claim(job),
    )


def _silent(job: Facts, holder: Facts, facts: Facts) -> Gate:
    now, lease_until = facts.now, job.must("lease_until")
    beat = when(holder.must("beat_at"), now)
    return Gate(
        code=GateCode.WORKER_SILENT,
        level=GateLevel.WAITS,
        sentence=f"{_who(job).capitalize()} holds it, and was last heard of {beat}; unless it "
        f"renews its lease, the job is taken from it {when(lease_until, now)}.",
        opens_at=lease_until,
        action=f"look at process {holder['pid']} on {holder['host']}",
        facts={**_claim(job), "beat_at": holder.time("beat_at"), "host": holder["host"],
               "pid": holder["pid"]},
    )  # fmt: skip


def _slow(job: Facts, facts: Facts) -> Gate | None:
    pace = facts.of("pace")
    if pace.number("runs") < FEWEST_RUNS or pace["p99"] is None:
        return None
    usual, ran = timedelta(seconds=float(pace["p99"])), _ran(job, facts)
    if ran <= max(usual, timedelta(seconds=1)):
        return None
    median = timedelta(seconds=float(pace["median"]))
    return Gate(
        code=GateCode.SLOW,
        level=GateLevel.WAITS,
        sentence=f"It has run for {span(ran)}, longer than usual: of the last {pace['runs']} jobs "
        f"of kind {job['kind']} 99 in 100 took at most {span(usual)}, half of them {span(median)}.",
        action=f"if it hangs: pgqueue cancel {job['id']}, and give its handler a timeout",
        facts={
            "seconds": ran.total_seconds(),
            "p99_seconds": usual.total_seconds(),
            "median_seconds": median.total_seconds(),
            "jobs": pace["runs"],
        },
    )


def _running(job: Facts, holder: Facts, facts: Facts) -> Gate:
    now = facts.now
    alive = ""
    if holder.has("id"):
        alive = f", which last beat {when(holder.must('beat_at'), now)}" if holder["alive"] else ""
    elif facts["sees_workers"]:
        alive = ", which is not in the list of workers (an endpoint, or a loop of your own)"
    return Gate(
        code=GateCode.RUNNING,
        level=GateLevel.FINE,
        sentence=f"It was claimed {when(job.must('claimed_at'), now)}, attempt {job['attempt']} of "
        f"{job['max_attempts']}, and runs on {_who(job)}{alive}; its lease is renewed until it "
        "ends.",
        facts={**_claim(job), "beat_at": holder.time("beat_at"), "registered": holder.has("id")},
    )
