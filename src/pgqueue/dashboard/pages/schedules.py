"""Schedules: when they run next, what became of their slots, and what is done to them by hand."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from starlette.responses import Response

from pgqueue.dashboard import forms
from pgqueue.dashboard.guard import Refused

if TYPE_CHECKING:
    from pgqueue.dashboard.visit import Visit

ROWS = 100
RUNS = 30
SLOTS = 5
ACTIONS = ("run", "enable", "disable", "remove")


def schedules(visit: Visit) -> Response:
    """A page of schedules, by name."""
    after = forms.text(visit.request.query_params, "after")
    client = visit.desk.client
    rows = visit.read(lambda conn: client.schedules.list(after=after, limit=ROWS + 1, conn=conn))
    more = len(rows) > ROWS
    return visit.page(
        "schedules.html",
        section="schedules",
        version=visit.version,
        rows=rows[:ROWS],
        older=visit.url("schedules", {"after": rows[ROWS - 1].name}) if more else "",
        first=visit.url("schedules") if after else "",
    )


def schedule(visit: Visit) -> Response:
    """One schedule."""
    name: str = visit.request.path_params["name"]
    client = visit.desk.client
    before = forms.moment(visit.request.query_params, "before", "before")
    state = visit.read(lambda conn: client.schedules.get(name, conn=conn))
    runs = visit.read(
        lambda conn: client.schedules.runs(name, before=before, limit=RUNS + 1, conn=conn)
    )
    return visit.page(
        "schedule.html",
        section="schedules",
        version=visit.version,
        state=state,
        schedule=state.schedule,
        hidden=visit.desk.options.redact is not None,
        runs=runs[:RUNS],
        slots=visit.perhaps(lambda conn: client.schedules.preview(name, SLOTS, conn=conn)) or [],
        explained=visit.perhaps(lambda conn: client.why_schedule(name, conn=conn)),
        older=_older(visit, name, runs[RUNS - 1].slot if len(runs) > RUNS else None),
        first=visit.url("schedule", name=name) if before else "",
    )


def _older(visit: Visit, name: str, slot: datetime | None) -> str:
    return visit.url("schedule", {"before": slot.isoformat()}, name=name) if slot else ""


def act(visit: Visit) -> Response:
    """Runs, rests, wakes or removes a schedule."""
    action, name = visit.request.path_params["action"], visit.form.get("name", "")
    if action not in ACTIONS:
        raise Refused(404, "Not here", "There is no such action.")
    page = visit.back(visit.url("schedule", name=name))
    client = visit.desk.client
    said = ""

    def perform(conn: object) -> None:
        nonlocal said
        jobs = None
        if action == "run":
            jobs = [client.schedules.run_now(name, conn=conn)]
            said = f"Schedule {name} was run by hand: job {jobs[0]}."
        elif action == "enable":
            client.schedules.enable(name, conn=conn)
            said = f"Schedule {name} goes on."
        elif action == "disable":
            client.schedules.disable(name, conn=conn)
            said = f"Schedule {name} rests; what comes due meanwhile is not made up for."
        else:
            client.schedules.get(name, conn=conn)  # raises if there is none
            client.schedules.remove(name, conn=conn)
            said = f"Schedule {name} is removed. Jobs that it enqueued stay."
        client.operations.record(
            f"schedule_{action}", job_ids=jobs, detail={"schedule": name}, affected=1, conn=conn,
            **visit.by,
        )  # fmt: skip

    visit.write(perform)
    visit.desk.changed()
    return visit.see(visit.url("schedules") if action == "remove" else page, said)
