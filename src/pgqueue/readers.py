"""How the rows of each statement are read: plain tuples in, values of `models` out."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import attrs

from pgqueue import jsontext, models
from pgqueue.errors import JobNotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgqueue.models import JobControl

Row = tuple[Any, ...]

SUMMARY = (
    "id, state, queue, kind, priority, attempt, max_attempts, run_at, enqueued_at, claimed_at, "
    "lease_until, finished_at, worker, cancel_requested, dedupe_key, tags, metadata, ref, tenant"
)
"""The columns of a job in lists."""


def one(rows: list[Row]) -> Any:  # noqa: ANN401
    """The one value."""
    return rows[0][0]


def none(_: list[Row]) -> None:
    """Nothing."""
    return


def first_column(rows: list[Row]) -> list[Any]:
    """The first column."""
    return [row[0] for row in rows]


def enqueued(rows: list[Row]) -> models.EnqueueResult:
    """The result of an enqueue."""
    return models.EnqueueResult(*rows[0])


def places(count: int, rows: list[Row]) -> list[Row]:
    """Pairs of id and position, from what `Statements.reserve` gives."""
    first_id, first_position, ids, positions = rows[0]
    if ids is None:
        ids = range(first_id, first_id + count)
        positions = range(first_position, first_position + count)
    return list(zip(ids, positions, strict=True))


def _in_claim_order(job: models.Job[Any]) -> tuple[int, int]:
    return (job.priority, job.position)


def _json(text: str | None) -> Any:  # noqa: ANN401 - JSON is whatever it is
    return None if text is None else jsontext.loads(text)


def claimed(control: JobControl | None, rows: list[Row]) -> list[models.Job[Any]]:
    """Claimed jobs, in the order in which to run them."""
    # JSON comes as text. One value that a driver's reader refuses would cost all jobs of the claim.
    # Each column by its name: with *columns it takes a third longer.
    loads, make = jsontext.loads, models.Job
    jobs = [
        make(
            job_id, token, queue, kind, loads(payload), priority, attempt, max_attempts, run_at,
            enqueued_at, claimed_at, lease_until, position, dedupe_key, tags,
            None if metadata is None else loads(metadata), ref, control,
        )
        for (
            job_id, token, queue, kind, payload, priority, attempt, max_attempts, run_at,
            enqueued_at, claimed_at, lease_until, position, dedupe_key, tags, metadata, ref,
        ) in rows
    ]  # fmt: skip
    if len(jobs) > 1:
        jobs.sort(key=_in_claim_order)
    return jobs


def _summary(row: Row) -> models.JobSummary:
    names = SUMMARY.split(", ")
    fields = dict(zip(names, row, strict=False))
    fields["state"] = models.JobState(fields["state"])
    fields["metadata"] = _json(fields["metadata"])
    return models.JobSummary(**fields)


def summaries(rows: list[Row]) -> list[models.JobSummary]:
    """Jobs as lists show them."""
    return [_summary(row) for row in rows]


def _attempt(entry: Mapping[str, Any]) -> models.Attempt:
    times = {name: moment(entry[name]) if name in entry else None for name in ("started", "ended")}
    return models.Attempt(**{**entry, **times})


def moment(text: str) -> datetime:
    """A time out of JSON, in UTC."""
    # Postgres leaves out zeros at the end of a fraction, which Python 3.10 does not read.
    full = re.sub(r"\.\d+", lambda fraction: fraction[0].ljust(7, "0"), text)
    return datetime.fromisoformat(full).astimezone(timezone.utc)


def detail(job_id: int, rows: list[Row]) -> models.JobDetail:
    """All that is stored of a job.

    Raises:
        JobNotFound: there is no such job.
    """
    if not rows:
        raise JobNotFound(job_id)
    *summary, payload, result, history = rows[0]
    return models.JobDetail(
        **attrs.asdict(_summary(tuple(summary)), recurse=False),
        payload=_json(payload),
        result=_json(result),
        history=tuple(_attempt(entry) for entry in history or ()),
    )


def states(rows: list[Row]) -> dict[int, models.JobState]:
    """States by id."""
    return {row[0]: models.JobState(row[1]) for row in rows}
