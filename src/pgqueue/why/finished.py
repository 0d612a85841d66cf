"""A job that is finished: how, when and by whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgqueue.models import JobState
from pgqueue.why.facts import error_text, when
from pgqueue.why.models import Gate, GateCode, GateLevel
from pgqueue.words import span

if TYPE_CHECKING:
    from pgqueue.why.facts import Facts


def gates(state: JobState, facts: Facts) -> list[Gate]:
    """How it ended, and whether it could run again."""
    job = facts.of("job")
    found = [_ENDS[state](job, facts)]
    holder = job.of("key_holder")
    if state is not JobState.SUCCEEDED and holder.has("id") and not _superseded(job):
        found.append(_key_taken(job, holder))
    return found


def _end(job: Facts, facts: Facts) -> str:
    at = job.must("finished_at")
    by = f" on {job['worker']}" if job["worker"] else ""
    return f"{when(at, facts.now)}{by}"


def _facts(job: Facts) -> dict[str, object]:
    last = job.of("last")
    return {
        "finished_at": job.time("finished_at"),
        "claimed_at": job.time("claimed_at"),
        "worker": job["worker"],
        "attempt": job["attempt"],
        "max_attempts": job["max_attempts"],
        "outcome": last["outcome"],
        "error_class": last["error_class"],
        "error": last["error"],
    }


def _succeeded(job: Facts, facts: Facts) -> Gate:
    claimed_at = job.time("claimed_at")
    took = "" if claimed_at is None else f", after {span(job.must('finished_at') - claimed_at)}"
    return Gate(
        code=GateCode.SUCCEEDED,
        level=GateLevel.FINE,
        sentence=f"It has run, and succeeded {_end(job, facts)}{took}.",
        facts=_facts(job),
    )


def _superseded(job: Facts) -> bool:
    return bool(job.of("last")["outcome"] == "superseded")


def _skipped(job: Facts, facts: Facts) -> Gate:
    last = job.of("last")
    why = error_text(last)
    reason = f": {why}" if why else ""
    what = "gave way to another job" if _superseded(job) else "was skipped by its handler"
    return Gate(
        code=GateCode.SKIPPED,
        level=GateLevel.FINE,
        sentence=f"It {what} {_end(job, facts)}{reason}.",
        facts=_facts(job),
    )


def _cancelled(job: Facts, facts: Facts) -> Gate:
    why = error_text(job.of("last"))
    reason = f": {why}" if why else ", without a reason given"
    return Gate(
        code=GateCode.CANCELLED,
        level=GateLevel.FINE,
        sentence=f"It was cancelled {_end(job, facts)}{reason}.",
        action=f"to run it all the same: pgqueue retry {job['id']}",
        facts=_facts(job),
    )


def _dead(job: Facts, facts: Facts) -> Gate:
    last = job.of("last")
    error = error_text(last)
    told = f"; the last ended with {error}" if error else ""
    return Gate(
        code=GateCode.DEAD,
        level=GateLevel.BLOCKED,
        sentence=f"It died {_end(job, facts)}: its attempts are used up "
        f"({job['attempt']} of {job['max_attempts']}){told}.",
        action=f"mend the cause (pgqueue job {job['id']} shows it), then: "
        f"pgqueue retry {job['id']}",
        facts=_facts(job),
    )


def _key_taken(job: Facts, holder: Facts) -> Gate:
    return Gate(
        code=GateCode.KEY_TAKEN,
        level=GateLevel.FINE,
        sentence=f"A retry would be refused: job {holder['id']}, which is {holder['state']}, holds "
        f"its dedupe key {job['dedupe_key']!r}.",
        action=f"let job {holder['id']} end first: pgqueue why {holder['id']}",
        facts={"dedupe_key": job["dedupe_key"], "holder": dict(holder.given)},
    )


_ENDS = {
    JobState.SUCCEEDED: _succeeded,
    JobState.SKIPPED: _skipped,
    JobState.CANCELLED: _cancelled,
    JobState.DEAD: _dead,
}
