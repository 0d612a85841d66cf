"""A job that waits: for its time, for somebody who takes it, or for its turn."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from pgqueue.models import JobState
from pgqueue.why import missing, takers, turn
from pgqueue.why.facts import absolute, error_text, when
from pgqueue.why.models import Gate, GateCode, GateLevel
from pgqueue.words import span

if TYPE_CHECKING:
    from pgqueue.why.facts import Facts

PROMOTED_WITHIN = timedelta(seconds=2)
"""Of its run_at, where upkeep is done."""
UPKEEP_RESTS = timedelta(seconds=15)
"""Since the last upkeep, from which on nobody is taken to do it."""
OLD_SNAPSHOT = 300.0
"""Seconds."""


def gates(state: JobState, facts: Facts) -> list[Gate]:
    """What holds it, in the order in which it has to pass."""
    job = facts.of("job")
    found = []
    if state is JobState.SCHEDULED:
        found.append(_until_its_time(job, facts))
    if (gate := locked(job)) is not None:
        found.append(gate)
    found += takers.gates(facts, job["queue"], job["kind"])
    if state is JobState.READY:
        found += turn.gates(job, facts, held=bool(found))
    if not facts["sees_workers"]:
        found.append(missing.no_rights_to_workers(facts))
    holder = job.of("key_holder")
    if job["dedupe_key"] is not None and holder.has("id"):
        found.append(_without_key(job, holder))
    if (gate := horizon(facts)) is not None:
        found.append(gate)
    return found


def _until_its_time(job: Facts, facts: Facts) -> Gate:
    now, run_at, last = facts.now, job.must("run_at"), job.of("last")
    if run_at <= now:
        return _promotion_overdue(job, facts)
    told = {
        "run_at": run_at,
        "attempt": job["attempt"],
        "max_attempts": job["max_attempts"],
        "outcome": last["outcome"],
        "error_class": last["error_class"],
        "error": last["error"],
    }
    action = f"to run it at once: pgqueue retry {job['id']}"
    if last["outcome"] in ("failed", "expired"):
        attempt = f"attempt {job['attempt'] + 1} of {job['max_attempts']}"
        error = error_text(last) or last["outcome"]
        return Gate(
            code=GateCode.BACKING_OFF, level=GateLevel.WAITS, opens_at=run_at, action=action,
            sentence=f"It backs off: {attempt} begins {when(run_at, now)}; the last one ended with "
            f"{error}.",
            facts=told,
        )  # fmt: skip
    if last["outcome"] == "snoozed":
        return Gate(
            code=GateCode.SNOOZED, level=GateLevel.WAITS, opens_at=run_at, action=action,
            sentence=f"Its handler put it off: it runs again {when(run_at, now)}.",
            facts=told,
        )  # fmt: skip
    return Gate(
        code=GateCode.SCHEDULED, level=GateLevel.WAITS, opens_at=run_at, action=action,
        sentence=f"It is scheduled to run {when(run_at, now)}.",
        facts=told,
    )  # fmt: skip


def _promotion_overdue(job: Facts, facts: Facts) -> Gate:
    now, run_at = facts.now, job.must("run_at")
    late = now - run_at > PROMOTED_WITHIN
    rests = upkeep_rests(facts)
    return Gate(
        code=GateCode.PROMOTION_OVERDUE,
        level=GateLevel.BLOCKED if late and rests else GateLevel.WAITS,
        sentence=f"Its time came {when(run_at, now)}, and upkeep has not made it ready yet. "
        f"{upkeep_words(facts)}",
        action="run a worker, or: pgqueue maintain --every 1s" if late else None,
        facts={"run_at": run_at, "upkeep_at": facts.time("upkeep_at")},
    )


def upkeep_rests(facts: Facts) -> bool:
    """Whether nobody does the upkeep, as far as is known."""
    if not facts["sees_upkeep"]:
        return False
    at = facts.time("upkeep_at")
    return at is None or facts.now - at > UPKEEP_RESTS


def upkeep_words(facts: Facts) -> str:
    """When upkeep was last done."""
    if not facts["sees_upkeep"]:
        return "When upkeep was last done, this role may not know."
    at = facts.time("upkeep_at")
    if at is None:
        return "Upkeep was never done: no worker has run yet."
    if facts.now - at > UPKEEP_RESTS:
        return f"Upkeep was last done {when(at, facts.now)}: no worker runs."
    return "Upkeep is being done."


def locked(job: Facts) -> Gate | None:
    """Somebody's open transaction has the row locked, and claims pass over it."""
    by = job.of("locked_by")
    if not by.has("pid"):
        return None
    since = by.time("since")
    age = "" if since is None else f" since {absolute(since)}"
    name = by["program"] or by["user"] or "a session"
    state = f", {by['state']}" if by["state"] else ""
    return Gate(
        code=GateCode.ROW_LOCKED,
        level=GateLevel.BLOCKED if by["state"] == "idle in transaction" else GateLevel.WAITS,
        sentence=f"Its row is locked by an open transaction of pid {by['pid']} ({name}{state})"
        f"{age}: a claim, cancel or ack that is not committed, for instance. Nobody else can take "
        "it meanwhile.",
        action=f"commit or roll back there; else: select pg_terminate_backend({by['pid']})",
        facts={**by.given, "since": since},
    )


def _without_key(job: Facts, holder: Facts) -> Gate:
    return Gate(
        code=GateCode.KEY_TAKEN,
        level=GateLevel.FINE,
        sentence=f"It waits without its dedupe key {job['dedupe_key']!r}, which job {holder['id']} "
        f"took while it ran; should it have to wait again, it gives way to that one.",
        action=f"pgqueue why {holder['id']}",
        facts={"dedupe_key": job["dedupe_key"], "holder": dict(holder.given)},
    )


def horizon(facts: Facts) -> Gate | None:
    """An old snapshot keeps dead rows, through which each claim has to find its way."""
    old = [h for h in facts.all_of("holders") if (h["seconds"] or 0.0) >= OLD_SNAPSHOT]
    if not old:
        return None
    worst = old[0]
    age = span(timedelta(seconds=worst["seconds"]))
    return Gate(
        code=GateCode.HORIZON,
        level=GateLevel.WAITS,
        sentence=f"Claims may be slow: pid {worst['pid']} ({worst['program'] or worst['user']}) "
        f"has held a snapshot for {age}, so that vacuum removes no dead rows.",
        action=f"pgqueue doctor; or: select pg_terminate_backend({worst['pid']})",
        facts={"pid": worst["pid"], "seconds": worst["seconds"], "xids": worst["xids"],
               "sessions": len(old)},
    )  # fmt: skip
