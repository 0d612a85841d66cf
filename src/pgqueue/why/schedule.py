"""A schedule: when it fires next, and what keeps it from firing."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from pgqueue.why import takers
from pgqueue.why.facts import when
from pgqueue.why.models import Gate, GateCode, GateLevel
from pgqueue.why.waiting import upkeep_rests, upkeep_words

if TYPE_CHECKING:
    from datetime import datetime

    from pgqueue.why.facts import Facts

FIRED_WITHIN = timedelta(seconds=2)
"""Of its slot, where a worker or scheduler runs."""


def gates(name: str, facts: Facts) -> list[Gate]:
    """What holds it, the most important first."""
    if not facts.has("schedule"):
        return [_unknown(name, facts)]
    found = facts.of("schedule")
    gates = [*takers.all_paused(facts), _when(name, found, facts)]
    job, run = found.of("job"), found.of("run")
    if found["overlap"] == "skip" and job.has("id"):
        gates.append(_overlap(job))
    if run["outcome"] == "failed":
        gates.insert(0, _failed(run, facts))
    return gates


def _unknown(name: str, facts: Facts) -> Gate:
    tenant = facts["tenant"]
    whose = f" of tenant {tenant}" if tenant else ""
    return Gate(
        code=GateCode.NO_SCHEDULE,
        level=GateLevel.BLOCKED,
        sentence=f"There is no schedule {name}{whose}.",
        action="pgqueue schedules lists them; one that is declared in code comes with the start of "
        "a worker that declares it",
        facts={"tenant": tenant},
    )


def _when(name: str, found: Facts, facts: Facts) -> Gate:
    now, following = facts.now, found.time("next_run_at")
    told = _facts(found)
    if not found["enabled"]:
        return Gate(
            code=GateCode.DISABLED, level=GateLevel.BLOCKED, facts=told,
            sentence=f"Schedule {name} is disabled{_last(found, now)}.",
            action=f"pgqueue schedule enable {name}",
        )  # fmt: skip
    if following is None:
        ends = found.time("ends_at")
        over = f" {when(ends, now)}" if ends is not None else ", since no slot is left"
        return Gate(
            code=GateCode.ENDED, level=GateLevel.BLOCKED, facts=told,
            sentence=f"Schedule {name} has ended{over}{_last(found, now)}.",
            action="give it a later end, or none, with `pgqueue schedule`",
        )  # fmt: skip
    if now - following > FIRED_WITHIN:
        rests = upkeep_rests(facts)
        return Gate(
            code=GateCode.TICK_OVERDUE,
            level=GateLevel.BLOCKED if rests else GateLevel.WAITS,
            sentence=f"Its slot {when(following, now)} was not fired yet. {upkeep_words(facts)}",
            action="run a worker, or: pgqueue scheduler",
            facts={**told, "upkeep_at": facts.time("upkeep_at")},
        )
    return Gate(
        code=GateCode.NEXT_SLOT, level=GateLevel.FINE, opens_at=following, facts=told,
        sentence=f"Its next slot is {when(following, now)}{_window(found)}{_last(found, now)}.",
    )  # fmt: skip


def _window(found: Facts) -> str:
    if not found.has("window_start"):
        return ""
    hours = f"{found['window_start'][:5]} to {found['window_end'][:5]}"
    return f", within its window from {hours} ({found['timezone']})"


def _last(found: Facts, now: datetime) -> str:
    last = found.time("last_run_at")
    return f"; the last one was {when(last, now)}" if last is not None else "; none was fired yet"


def _facts(found: Facts) -> dict[str, object]:
    names = ("cron", "every", "timezone", "window_start", "window_end", "overlap", "last_job_id")
    times = ("next_run_at", "last_run_at", "starts_at", "ends_at")
    return {
        "enabled": found["enabled"],
        **{name: found[name] for name in names},
        **{name: found.time(name) for name in times},
        "last_outcome": found.of("run")["outcome"],
    }


def _overlap(job: Facts) -> Gate:
    return Gate(
        code=GateCode.OVERLAP,
        level=GateLevel.WAITS,
        sentence=f"Job {job['id']} of an earlier slot is {job['state']}, and the schedule skips "
        "its slots until that is finished (overlap: skip).",
        action=f"pgqueue why {job['id']}",
        facts=dict(job.given),
    )


def _failed(run: Facts, facts: Facts) -> Gate:
    return Gate(
        code=GateCode.SLOT_FAILED,
        level=GateLevel.BLOCKED,
        sentence=f"Its slot {when(run.must('slot'), facts.now)} could not be enqueued: "
        f"{run['error']}.",
        action="mend the schedule; `pgqueue schedule` shows it",
        facts={"slot": run.time("slot"), "error": run["error"]},
    )
