"""Who did what, when, and by what means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from pgqueue.dashboard import forms

if TYPE_CHECKING:
    from pgqueue.dashboard.visit import Visit

ROWS = 50


def audit(visit: Visit) -> Response:
    """A page of the log, the latest first."""
    given = visit.request.query_params
    actor, action = forms.text(given, "actor"), forms.text(given, "action")
    before = forms.job_id(given.get("before", ""))
    operations = visit.desk.client.operations
    rows = visit.read(
        lambda conn: operations.audit(
            actor=actor, action=action, before=before, limit=ROWS + 1, conn=conn
        )
    )
    fields = {"actor": actor, "action": action}
    more = len(rows) > ROWS
    return visit.page(
        "audit.html",
        section="audit",
        version=visit.version,
        rows=rows[:ROWS],
        fields=fields,
        older=visit.url("audit", {**fields, "before": rows[ROWS - 1].id}) if more else "",
        first=visit.url("audit", fields) if before else "",
    )
