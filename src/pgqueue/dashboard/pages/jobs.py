"""Lists of jobs by filter, page by page. No payload is loaded for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from pgqueue.dashboard import forms
from pgqueue.dashboard.pages import filters
from pgqueue.errors import FilterTooBroad, InvalidJob
from pgqueue.models import JobState

if TYPE_CHECKING:
    from pgqueue.dashboard.visit import Visit
    from pgqueue.operations import Page

ROWS = 50
STATES = ("ready", "scheduled", "claimed", "dead", "succeeded", "cancelled", "skipped")


def jobs(visit: Visit) -> Response:
    """A page of jobs; a number alone leads to that job."""
    given = visit.request.query_params
    search = given.get("q", "").strip()
    if search and (found := forms.job_id(search)):
        return visit.see(visit.url("job", id=found))
    query = {**given, "kind": search} if search else dict(given)
    problem, page = "", None
    wanted: filters.Asked | None = None
    try:
        wanted = filters.asked(query, visit.desk.options, visit.now)
        page = _page(visit, wanted, given.get("after"))
    except (InvalidJob, FilterTooBroad) as error:
        problem = f"{error}."
    given_fields = wanted.query if wanted else query
    fields = {name: given_fields.get(name, "") for name in filters.FIELDS}
    return visit.page(
        "jobs.html",
        section="jobs",
        version=visit.version,
        rows=page.jobs if page else (),
        older=_link(visit, fields, page.next) if page and page.next else "",
        first=_link(visit, fields) if given.get("after") else "",
        fields=fields,
        words=wanted.words() if wanted else "",
        narrow=bool(wanted and wanted.narrow),
        filtered=any(fields.values()),
        problem=problem,
        states=STATES,
        spans=[("", "any time"), *((name, words) for name, (words, _) in filters.SPANS.items())],
        bulk=_bulk(fields),
        searchable=visit.desk.options.search_payloads,
        link=lambda **changes: _link(visit, {**fields, **changes}),
    )


def _page(visit: Visit, wanted: filters.Asked, after: str | None) -> Page:
    operations, deadline = visit.desk.client.operations, visit.desk.options.deadline
    return visit.read(
        lambda conn: operations.search(
            wanted.filter, after=after, limit=ROWS, deadline=deadline, conn=conn
        )
    )


def _link(visit: Visit, fields: dict[str, str], after: str | None = None) -> str:
    return visit.url("jobs", {**fields, "after": after})


def _bulk(fields: dict[str, str]) -> list[str]:
    """What can be done to all jobs of these states."""
    states = [each for each in fields["state"].split(",") if each]
    known = {state.value: state for state in JobState}
    chosen = [known[each] for each in states if each in known]
    actions = []
    if not chosen or any(s.finished or s is JobState.SCHEDULED for s in chosen):
        actions.append("retry")
    if not chosen or any(not s.finished for s in chosen):
        actions.append("cancel")
    if chosen and JobState.CLAIMED not in chosen:
        actions.append("delete")
    return actions
