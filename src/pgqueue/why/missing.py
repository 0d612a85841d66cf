"""A job that is not there, or that this role does not see."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from pgqueue.why.models import Gate, GateCode, GateLevel
from pgqueue.words import quantity, span

if TYPE_CHECKING:
    from pgqueue.why.facts import Facts


def gates(job_id: int, facts: Facts) -> list[Gate]:
    """Why there is no such job."""
    last = facts["last_id"]
    if last is not None and job_id > last:
        return [_never(job_id, last)]
    found = []
    if facts["row_security"]:
        found.append(_hidden(job_id, facts))
    # Numbers are drawn at once, and jobs are seen at the commit.
    if writers := [holder for holder in facts.all_of("holders") if holder["writes"]]:
        found.append(_uncommitted(job_id, writers))
    return [*found, _gone(job_id, facts)]


def no_rights(facts: Facts) -> Gate:
    """This role may not look."""
    role = facts["role"]
    return Gate(
        code=GateCode.NO_RIGHTS,
        level=GateLevel.BLOCKED,
        sentence=f"Role {role} may not read jobs, so it is not told why they do not run.",
        action=f"ask as another role, or: pgqueue grant {role} viewer",
        facts={"role": role},
    )


def no_rights_to_workers(facts: Facts) -> Gate:
    """This role may not see who works."""
    role = facts["role"]
    return Gate(
        code=GateCode.NO_RIGHTS,
        level=GateLevel.FINE,
        sentence=f"Role {role} may not read the table of workers, so whether one is there that "
        "takes this job is not known here.",
        action="ask as the owner, or as a role with `pgqueue grant ROLE viewer`",
        facts={"role": role},
    )


def _never(job_id: int, last: int) -> Gate:
    return Gate(
        code=GateCode.NEVER_EXISTED,
        level=GateLevel.BLOCKED,
        sentence=f"There never was a job {job_id}: the last number that was given to one is "
        f"{last}.",
        action="look whether the number is right, and of this database and schema",
        facts={"last_id": last},
    )


def _hidden(job_id: int, facts: Facts) -> Gate:
    tenant, role = facts["tenant"], facts["role"]
    sees = f"the jobs of tenant {tenant}" if tenant else "no job, since pgqueue.tenant is not set"
    return Gate(
        code=GateCode.HIDDEN,
        level=GateLevel.BLOCKED,
        sentence=f"Row security lets role {role} see {sees} alone; job {job_id} may be another's.",
        action="set pgqueue.tenant to the job's tenant, or ask as a role that sees all of them",
        facts={"tenant": tenant, "role": role},
    )


def _uncommitted(job_id: int, writers: list[Facts]) -> Gate:
    shown = ", ".join(_session(holder) for holder in writers[:_SHOWN])
    return Gate(
        code=GateCode.UNCOMMITTED,
        level=GateLevel.WAITS,
        sentence=f"Job {job_id} may have been enqueued in a transaction that has not committed: "
        f"{quantity(len(writers), 'session')} that wrote something "
        f"{'is' if len(writers) == 1 else 'are'} still open ({shown}).",
        action="commit there; what is left idle in a transaction: "
        f"select pg_terminate_backend({writers[0]['pid']})",
        facts={
            "sessions": [
                {name: holder[name] for name in ("pid", "program", "user", "state", "seconds")}
                for holder in writers[:_SHOWN]
            ],
            "count": len(writers),
        },
    )


_SHOWN = 5


def _session(holder: Facts) -> str:
    seconds = holder["seconds"]
    age = f" for {span(timedelta(seconds=seconds))}" if seconds is not None else ""
    return f"pid {holder['pid']}, {holder['state'] or 'in a transaction'}{age}"


def _gone(job_id: int, facts: Facts) -> Gate:
    kept = timedelta(seconds=float(facts["retention"] or 0))
    dead = timedelta(seconds=float(facts["dead_retention"] or 0))
    keeps = f"for {span(kept)} after their end" if kept else "not at all (retention 0)"
    return Gate(
        code=GateCode.GONE,
        level=GateLevel.BLOCKED,
        sentence=f"There is no job {job_id} any more: finished jobs are kept {keeps}, dead ones "
        f"for {span(dead)}; or it was purged, or its enqueue was rolled back.",
        facts={"retention_seconds": kept.total_seconds(), "dead_seconds": dead.total_seconds()},
    )
