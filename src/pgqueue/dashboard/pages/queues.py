"""Queues: how deep they are, what becomes of their jobs, and the switches."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from starlette.responses import Response

from pgqueue.dashboard import forms
from pgqueue.dashboard.figures import SPANS, Figures, span_of
from pgqueue.models import QueueStats

if TYPE_CHECKING:
    from pgqueue.dashboard.visit import Visit

FOR = {
    "15m": ("for 15 minutes", timedelta(minutes=15)),
    "1h": ("for an hour", timedelta(hours=1)),
    "8h": ("for 8 hours", timedelta(hours=8)),
    "1d": ("for a day", timedelta(days=1)),
    "": ("until resumed", None),
}


def queues(visit: Visit) -> Response:
    """All queues, the busiest first."""
    span = span_of(visit.request.query_params.get("span"))
    stats = visit.desk.stats.get()
    figures = Figures.read(visit, span)
    rows = sorted(stats.value, key=lambda each: (-(each.ready + each.claimed), each.queue))
    return visit.page(
        "queues.html",
        section="queues",
        version=visit.version,
        rows=rows,
        counted=stats.age,
        figures=figures,
        span=span,
        spans=SPANS,
        reasons=visit.read(lambda conn: _reasons(visit, conn)),
    )


def _reasons(visit: Visit, conn: object) -> dict[str, tuple[datetime, datetime, str | None]]:
    """Of paused queues: since when, until when, and why."""
    rows = visit.desk.database.rows(
        "select name, paused_at, paused_until, pause_reason from @extschema@.queue "
        "where paused_until > clock_timestamp()",
        conn=conn,
    )
    return {name: (since, until, reason) for name, since, until, reason in rows}


def queue(visit: Visit) -> Response:
    """One queue."""
    name: str = visit.request.path_params["name"]
    span = span_of(visit.request.query_params.get("span"))
    client = visit.desk.client
    stats = visit.desk.stats.get()
    known = {each.queue: each for each in stats.value}
    reasons = visit.read(lambda conn: _reasons(visit, conn))
    return visit.page(
        "queue.html",
        section="queues",
        version=visit.version,
        name=name,
        stats=known.get(name, QueueStats(name, 0, 0, 0, 0, None, None)),
        known=name in known or name in reasons,
        counted=stats.age,
        paused=reasons.get(name),
        explained=visit.perhaps(lambda conn: client.why_queue(name, conn=conn)),
        figures=Figures.read(visit, span, name),
        span=span,
        spans=SPANS,
        choices=[(value, words) for value, (words, _) in FOR.items()],
        kinds=visit.read(lambda conn: _kinds(visit, name, conn)),
    )


def _kinds(visit: Visit, name: str, conn: object) -> list[tuple[str, int]]:
    """Of the jobs that are next in the queue, how many are of which kind."""
    return [
        (kind, count)
        for kind, count in visit.desk.database.rows(
            "select kind, count(*) from (select j.kind from @extschema@.job j "
            "where j.queue = %s and j.position is not null order by j.priority, j.position "
            "limit 1000) j group by kind order by count(*) desc, kind limit 12",
            name,
            conn=conn,
        )
    ]


def _until(visit: Visit) -> datetime | None:
    given = forms.moment(visit.form, "until", "until")
    if given is not None:
        return given
    span = FOR.get(visit.form.get("for", ""), FOR[""])[1]
    return None if span is None else visit.now + span


def pause(visit: Visit) -> Response:
    """Stops claims from a queue."""
    name = visit.form.get("queue", "")
    return _pause(visit, name, f"Queue {name} is paused. Running jobs go on.")


def pause_all(visit: Visit) -> Response:
    """Stops all automatic processing."""
    return _pause(visit, None, "All automatic processing is paused. Running jobs go on.")


def _pause(visit: Visit, queue_name: str | None, said: str) -> Response:
    operations = visit.desk.client.operations
    until, reason = _until(visit), forms.text(visit.form, "reason")
    visit.write(
        lambda conn: operations.pause(queue_name, until=until, reason=reason, conn=conn, **visit.by)
    )
    visit.desk.changed()
    return visit.see(visit.back(visit.url("queues")), said)


def resume(visit: Visit) -> Response:
    """Lets claims from a queue go on."""
    name = visit.form.get("queue", "")
    return _resume(visit, name, f"Queue {name} goes on.")


def resume_all(visit: Visit) -> Response:
    """Lets automatic processing go on."""
    return _resume(
        visit, None, "Processing goes on. Queues that were paused by themselves stay so."
    )


def _resume(visit: Visit, queue_name: str | None, said: str) -> Response:
    operations = visit.desk.client.operations
    was = visit.write(lambda conn: operations.resume(queue_name, conn=conn, **visit.by))
    visit.desk.changed()
    return visit.see(visit.back(visit.url("queues")), said if was else "It was not paused.")
