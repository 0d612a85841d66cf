"""One job: what it is, what became of it, why it does not run, and what can be done."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import attrs
from starlette.responses import Response

from pgqueue import jsontext
from pgqueue.dashboard import charts, forms
from pgqueue.dashboard.guard import Refused
from pgqueue.errors import InvalidJob
from pgqueue.models import JobDetail, JobState
from pgqueue.operations import JobFilter
from pgqueue.statements import DEFAULT_SCHEMA
from pgqueue.why import GateCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgqueue.dashboard.visit import Visit
    from pgqueue.why import Explanation

_FAILED = "<left out: redact failed>"
_LONGEST_COMMAND = 2000
_QUOTING = {
    GateCode.BACKING_OFF, GateCode.SNOOZED, GateCode.SKIPPED, GateCode.CANCELLED, GateCode.DEAD,
    GateCode.KEY_TAKEN, GateCode.KEY_HELD,
}  # fmt: skip
"""Gates whose sentences quote errors, reasons or dedupe keys."""


def job(visit: Visit) -> Response:
    """The page of a job."""
    number: int = visit.request.path_params["id"]
    client = visit.desk.client
    found = visit.read(lambda conn: client.get(number, conn=conn))
    explained = visit.perhaps(lambda conn: client.why(number, conn=conn))
    seen = _seen(visit, found)
    metadata = seen.metadata if isinstance(seen.metadata, Mapping) else {}
    return visit.page(
        "job.html",
        section="jobs",
        version=visit.version,
        job=seen,
        waits=seen.state in (JobState.READY, JobState.SCHEDULED),
        hidden=visit.desk.options.redact is not None,
        explained=_discreet(visit, explained),
        schedule=_text(metadata.get("schedule")),
        slot=_text(metadata.get("slot")),
        parent=_parent(metadata),
        timeline=charts.timeline(seen, visit.now),
        commands=_commands(visit, seen),
    )


def _discreet(visit: Visit, explained: Explanation | None) -> Explanation | None:
    """Why, without what the app's rule hides: how attempts ended, and keys."""
    if explained is None or visit.desk.options.redact is None:
        return explained
    gates = [
        attrs.evolve(each, sentence=f"{str(each.code).replace('_', ' ').capitalize()}.")
        if each.code in _QUOTING
        else each
        for each in explained.gates
    ]
    return attrs.evolve(explained, gates=gates)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _parent(metadata: Mapping[str, Any]) -> int | None:
    value = metadata.get("parent")
    return value if isinstance(value, int) and value > 0 else None


def _seen(visit: Visit, found: JobDetail) -> JobDetail:
    """The job as it may be seen; where the app's rule fails, nothing of what it is about."""
    redact = visit.desk.options.redact
    if redact is None:
        return found
    try:
        seen = attrs.evolve(redact(found))  # raises where it is no job
    except Exception:  # noqa: BLE001 - whatever the app's rule does
        return attrs.evolve(
            found, payload=_FAILED, result=_FAILED, metadata=None, history=(), tags=None,
            ref=None, dedupe_key=None,
        )  # fmt: skip
    return seen


def _commands(visit: Visit, seen: JobDetail) -> list[tuple[str, str]]:
    """The same from a shell."""
    schema = visit.desk.client.schema
    more = "" if schema == DEFAULT_SCHEMA else f" --schema {schema}"
    found = [("Show", f"pgqueue job {seen.id}{more}")]
    if seen.state.finished:
        found.append(("Retry", f"pgqueue retry {seen.id}{more}"))
    else:
        found.append(("Cancel", f"pgqueue cancel {seen.id}{more}"))
    if visit.desk.options.redact is None:
        payload = shlex.quote(jsontext.dumps(seen.payload))
        again = f"pgqueue enqueue {seen.kind} {payload} -q {seen.queue}{more}"
        if len(again) < _LONGEST_COMMAND:
            found.append(("Enqueue one like it", again))
    return found


def act(visit: Visit) -> Response:
    """Does something to a job."""
    number: int = visit.request.path_params["id"]
    perform = _ACTIONS.get(visit.request.path_params["action"])
    if perform is None:
        raise Refused(404, "Not here", "There is no such action.")
    page = visit.back(visit.url("job", id=number))
    try:
        said, tone = perform(visit, number)
    except InvalidJob as error:
        return visit.see(page, f"{error}.", "problem")
    visit.desk.changed()
    return visit.see(page, said, tone)


def _retry(visit: Visit, number: int) -> tuple[str, str]:
    operations = visit.desk.client.operations
    states = [state for state in JobState if state.finished or state is JobState.SCHEDULED]
    result = visit.write(
        lambda conn: operations.retry(JobFilter(ids=[number], state=states), conn=conn, **visit.by)
    )
    if result.affected:
        return f"Job {number} runs again.", "done"
    why = "it is claimed or ready already, or another job holds its dedupe key"
    return f"Job {number} was not retried: {why}.", "problem"


def _cancel(visit: Visit, number: int) -> tuple[str, str]:
    operations = visit.desk.client.operations
    reason = forms.text(visit.form, "reason")
    result = visit.write(
        lambda conn: operations.cancel(
            JobFilter(ids=[number]), reason=reason, conn=conn, **visit.by
        )
    )
    if not result.affected:
        return f"Job {number} was not cancelled: it is finished, or asked to stop.", "problem"
    return f"Job {number} is cancelled, or ends as soon as its handler heeds that.", "done"


def _delete(visit: Visit, number: int) -> tuple[str, str]:
    operations = visit.desk.client.operations
    states = [state for state in JobState if state is not JobState.CLAIMED]
    result = visit.write(
        lambda conn: operations.delete(JobFilter(ids=[number], state=states), conn=conn, **visit.by)
    )
    if not result.affected:
        return f"Job {number} was not deleted: it is claimed, or gone already.", "problem"
    return f"Job {number} is deleted.", "done"


def _run_now(visit: Visit, number: int) -> tuple[str, str]:
    operations = visit.desk.client.operations
    visit.write(lambda conn: operations.run_now(number, conn=conn, **visit.by))
    return f"Job {number} is ready now.", "done"


def _edit(visit: Visit, number: int) -> tuple[str, str]:
    operations = visit.desk.client.operations
    run_at = _run_at(visit)
    priority = forms.whole(visit.form, "priority", "priority")
    if run_at is None and priority is None:
        return "Nothing was changed: neither a time nor a priority was given.", "problem"
    state = visit.write(
        lambda conn: operations.edit(
            number, run_at=run_at, priority=priority, conn=conn, **visit.by
        )
    )
    return f"Job {number} is changed, and {state} now.", "done"


def _run_at(visit: Visit) -> datetime | None:
    delay = forms.whole(visit.form, "in_minutes", "the delay")
    if delay is not None:
        return visit.now + timedelta(minutes=delay)
    return forms.moment(visit.form, "run_at", "run_at")


_ACTIONS: dict[str, Callable[[Visit, int], tuple[str, str]]] = {
    "retry": _retry,
    "cancel": _cancel,
    "delete": _delete,
    "run-now": _run_now,
    "edit": _edit,
}
