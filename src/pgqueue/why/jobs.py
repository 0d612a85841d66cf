"""A job: which gates it stands before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgqueue.models import JobState
from pgqueue.why import claimed, finished, missing, waiting
from pgqueue.why.models import Explanation

if TYPE_CHECKING:
    from pgqueue.why.facts import Facts
    from pgqueue.why.models import Gate


def explain(job_id: int, facts: Facts) -> Explanation:
    """What holds the job, by these facts."""
    job = facts.of("job")
    state = JobState(job["state"]) if facts.has("job") else None
    return Explanation(
        subject="job",
        name=str(job_id),
        at=facts.now,
        gates=tuple(_gates(job_id, state, facts)),
        job_id=job_id,
        state=state,
        queue=job["queue"],
        kind=job["kind"],
    )


def _gates(job_id: int, state: JobState | None, facts: Facts) -> list[Gate]:
    if not facts["sees_jobs"]:
        return [missing.no_rights(facts)]
    if state is None:
        return missing.gates(job_id, facts)
    if state.finished:
        return finished.gates(state, facts)
    if state is JobState.CLAIMED:
        return claimed.gates(facts)
    return waiting.gates(state, facts)
