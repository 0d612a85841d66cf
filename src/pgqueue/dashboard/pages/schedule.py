"""The form in which a schedule is made and changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import attrs
import psycopg
from starlette.responses import Response

from pgqueue.dashboard import forms
from pgqueue.errors import InvalidJob, InvalidSchedule, ScheduleNotFound
from pgqueue.schedules import Schedule

if TYPE_CHECKING:
    from pgqueue.dashboard.visit import Visit
    from pgqueue.schedules import ScheduleState

SLOTS = 5
OVERLAPS = (
    ("queue", "enqueue it all the same"),
    ("skip", "skip the slot"),
    ("replace", "cancel the earlier job"),
)
_BLANK = {
    "name": "", "kind": "", "queue": "default", "payload": "", "when": "cron", "cron": "",
    "every": "", "every_unit": "minutes", "timezone": "UTC", "window_start": "", "window_end": "",
    "overlap": "queue", "catch_up": "1", "grace": "10", "grace_unit": "minutes", "jitter": "",
    "jitter_unit": "seconds", "priority": "5", "max_attempts": "", "tags": "", "ref": "",
}  # fmt: skip


def new(visit: Visit) -> Response:
    """An empty form."""
    return _form(visit, dict(_BLANK))


def edit(visit: Visit) -> Response:
    """The form of a schedule."""
    name: str = visit.request.path_params["name"]
    state = visit.read(lambda conn: visit.desk.client.schedules.get(name, conn=conn))
    return _form(visit, _fields(visit, state.schedule), state)


def put(visit: Visit) -> Response:
    """Stores a schedule, or shows when it would run."""
    client, form = visit.desk.client, visit.form
    fields = {name: form.get(name, text) for name, text in _BLANK.items()}
    known = _known(visit, form.get("editing", ""))
    try:
        schedule = _schedule(visit, form, known.schedule if known else None)
        slots = visit.read(lambda conn: client.schedules.preview(schedule, SLOTS, conn=conn))
        if "preview" in form:
            return _form(visit, fields, known, slots=slots)
        if known is None and _known(visit, schedule.name) is not None:
            raise InvalidSchedule(f"there is a schedule {schedule.name!r} already; edit that one")
        visit.write(lambda conn: _store(visit, schedule, conn))
    except (InvalidJob, psycopg.DataError) as error:
        return _form(visit, fields, known, problem=f"{_first(error)}.", status=422)
    visit.desk.changed()
    done = "changed" if known else "made"
    return visit.see(
        visit.url("schedule", name=schedule.name), f"Schedule {schedule.name} is {done}."
    )


def _first(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".")


def _known(visit: Visit, name: str) -> ScheduleState | None:
    try:
        return visit.read(lambda conn: visit.desk.client.schedules.get(name, conn=conn))
    except (ScheduleNotFound, InvalidSchedule):
        return None


def _store(visit: Visit, schedule: Schedule, conn: object) -> None:
    client = visit.desk.client
    change = client.schedules.put(schedule, conn=conn)
    client.operations.record(
        "schedule_put",
        queue=schedule.queue,
        detail={"schedule": schedule.name, "outcome": change.outcome, "runs": schedule.describe()},
        affected=int(change.outcome != "unchanged"),
        conn=conn,
        **visit.by,
    )


def _schedule(visit: Visit, form: Mapping[str, str], known: Schedule | None) -> Schedule:
    """The schedule that a form describes; what it has no field for stays as it is."""
    by_cron = form.get("when") != "every"
    opens = forms.clock(form, "window_start", "the window's start")
    closes = forms.clock(form, "window_end", "the window's end")
    if (opens is None) is not (closes is None):
        raise InvalidSchedule("a window needs a start and an end; fill in both, or neither")
    payload = forms.value(form, "payload", "the payload")
    if known is not None and visit.desk.options.redact is not None and payload is None:
        payload = known.payload
    catch_up = forms.whole(form, "catch_up", "catch_up")
    priority = forms.whole(form, "priority", "the priority")
    made = Schedule(
        known.name if known else form.get("name", "").strip(),
        form.get("kind", "").strip(),
        payload,
        cron=forms.text(form, "cron") if by_cron else None,
        every=None if by_cron else forms.span(form, "every", "every"),
        timezone=forms.text(form, "timezone") or "UTC",
        window=None if opens is None or closes is None else (opens, closes),
        overlap=form.get("overlap", "queue"),  # type: ignore[arg-type] # it is checked
        catch_up=1 if catch_up is None else catch_up,
        grace=forms.span(form, "grace", "grace") or timedelta(0),
        jitter=forms.span(form, "jitter", "jitter") or timedelta(0),
        queue=forms.text(form, "queue") or "default",
        priority=5 if priority is None else priority,
        max_attempts=forms.whole(form, "max_attempts", "max_attempts"),
        tags=forms.words(form, "tags"),
        ref=forms.text(form, "ref"),
    )
    if known is None:
        return made
    return attrs.evolve(
        made, starts_at=known.starts_at, ends_at=known.ends_at, retry=known.retry,
        metadata=known.metadata,
    )  # fmt: skip


def _fields(visit: Visit, schedule: Schedule) -> dict[str, str]:
    """The fields of a form, as a schedule fills them."""
    hidden = visit.desk.options.redact is not None
    every, every_unit = forms.span_fields(schedule.every)
    grace, grace_unit = forms.span_fields(schedule.grace)
    jitter, jitter_unit = forms.span_fields(schedule.jitter or None)
    window = schedule.window
    return {
        "name": schedule.name,
        "kind": schedule.kind,
        "queue": schedule.queue,
        "payload": "" if hidden else json.dumps(schedule.payload, indent=2, ensure_ascii=False),
        "when": "cron" if schedule.every is None else "every",
        "cron": schedule.cron or "",
        "every": every,
        "every_unit": every_unit,
        "timezone": schedule.timezone,
        "window_start": f"{window[0]:%H:%M}" if window else "",
        "window_end": f"{window[1]:%H:%M}" if window else "",
        "overlap": schedule.overlap,
        "catch_up": str(schedule.catch_up),
        "grace": grace,
        "grace_unit": grace_unit,
        "jitter": jitter,
        "jitter_unit": jitter_unit,
        "priority": str(schedule.priority),
        "max_attempts": "" if schedule.max_attempts is None else str(schedule.max_attempts),
        "tags": ", ".join(schedule.tags or ()),
        "ref": schedule.ref or "",
    }


def _form(
    visit: Visit,
    fields: dict[str, str],
    known: ScheduleState | None = None,
    *,
    slots: list[datetime] | None = None,
    problem: str = "",
    status: int = 200,
) -> Response:
    return visit.page(
        "schedule_form.html",
        status,
        section="schedules",
        show_live=False,
        fields=fields,
        known=known,
        slots=slots,
        problem=problem,
        overlaps=OVERLAPS,
        units=[(unit, unit) for unit in forms.UNITS],
        hidden=visit.desk.options.redact is not None,
    )
