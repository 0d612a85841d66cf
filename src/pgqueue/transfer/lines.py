"""What stands in a file of jobs: a header, then a JSON object for each job.

The objects are made and read by the database, so that no number of a payload passes through
Python's floats. Their keys are the parameters of the SQL function `enqueue`; besides, for people,
`id`, `enqueued_at` and `attempt`.
"""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timezone
from typing import Any

from pgqueue.version import __version__

FORMAT = 1
_KEY = "pgqueue_export"
_NO_HEADER = "it does not begin with the header of `pgqueue export`"


def header(queue: str) -> str:
    """The first line of a new file."""
    named = {
        _KEY: FORMAT,
        "export_id": str(uuid.uuid4()),
        "queue": queue,
        "exported_at": datetime.now(timezone.utc).isoformat(),
        "version": __version__,
    }
    return json.dumps(named)


def export_id(line: str) -> str:
    """The id in a header.

    Raises:
        ValueError: it is no header, or that of a format to come; the message says which.
    """
    try:
        found: Any = json.loads(line)
    except ValueError as error:
        raise ValueError(_NO_HEADER) from error
    known = found.get("export_id") if isinstance(found, dict) else None
    if not isinstance(known, str):
        raise ValueError(_NO_HEADER)  # noqa: TRY004 - a value in a file, no argument
    if found.get(_KEY) != FORMAT:
        raise ValueError(
            f"its format is {found.get(_KEY)}; this version reads {FORMAT}: upgrade pgqueue"
        )
    return known


def job_as_json(alias: str) -> str:
    """SQL that makes the line of a row of the table of jobs."""
    a = alias
    return (
        f"json_build_object('kind', {a}.kind, 'payload', {a}.payload, 'queue', {a}.queue, "
        f"'priority', {a}.priority, "
        # A ready job's time is over; without it, the job is ready when it comes back.
        f"'run_at', case when {a}.position is null then {a}.run_at end, "
        f"'max_attempts', {a}.max_attempts, 'backoff', {a}.backoff, "
        f"'dedupe_key', {a}.dedupe_key, 'dedupe_until', {a}.dedupe_until, 'tags', {a}.tags, "
        f"'metadata', {a}.metadata, 'ref', {a}.ref, 'tenant', {a}.tenant, 'id', {a}.id, "
        f"'enqueued_at', {a}.enqueued_at, 'attempt', {a}.attempt)::text"
    )
