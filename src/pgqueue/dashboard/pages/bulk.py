"""What is done to all jobs of a filter: first how many that would be, then that."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

from starlette.responses import Response

from pgqueue.dashboard import forms
from pgqueue.dashboard.guard import Refused
from pgqueue.dashboard.pages import filters
from pgqueue.errors import FilterTooBroad
from pgqueue.words import quantity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgqueue.dashboard.visit import Visit
    from pgqueue.operations import Action

ACTIONS = {"retry": "Retry", "cancel": "Cancel", "delete": "Delete"}
DONE = {"retry": "retried", "cancel": "cancelled", "delete": "deleted"}
SHOWN = 8
LONGEST = 20.0
"""Seconds that one request goes on; a proxy gives up after 30 or 60."""
MOST_COUNTED = 10_000


class _Enough(Exception):
    """What was done stays done; the rest is another request's."""


def _wanted(visit: Visit, given: Mapping[str, str]) -> tuple[Action, filters.Asked]:
    action = given.get("action", "")
    if action not in ACTIONS:
        raise Refused(422, "This cannot be", f"There is no action {action!r:.50}.")
    wanted = filters.asked(given, visit.desk.options, visit.now)
    if action == "delete" and not wanted.query.get("state") and not wanted.query.get("ids"):
        raise Refused(422, "This cannot be", "Choose a state, or jobs, before you delete.")
    return cast("Action", action), wanted


def preview(visit: Visit) -> Response:
    """How many jobs it would be, and some of them. Nothing is done yet."""
    query = visit.request.query_params
    # Each selected row has a field of its own.
    action, wanted = _wanted(visit, {**query, "ids": ",".join(query.getlist("ids"))})
    operations, deadline = visit.desk.client.operations, visit.desk.options.deadline
    count, problem = None, ""
    try:
        count = visit.read(
            lambda conn: operations.preview(
                action, wanted.filter, at_most=MOST_COUNTED, deadline=deadline, conn=conn
            )
        )
        rows = visit.read(
            lambda conn: (
                operations.search(wanted.filter, limit=SHOWN, deadline=deadline, conn=conn).jobs
            )
        )
    except FilterTooBroad as error:
        rows, problem = (), f"{error}."
    return visit.page(
        "bulk.html",
        section="jobs",
        show_live=False,
        action=action,
        verb=ACTIONS[action],
        count=count,
        rows=rows,
        problem=problem,
        wanted=wanted,
        back=visit.url("jobs", wanted.query),
    )


def perform(visit: Visit) -> Response:
    """Does it, chunk by chunk, for as long as a request may last."""
    action, wanted = _wanted(visit, visit.form)
    until = time.monotonic() + LONGEST
    done = 0

    def progress(_: int, affected: int) -> None:
        nonlocal done
        done = affected
        if time.monotonic() > until:
            raise _Enough

    perform_all = getattr(visit.desk.client.operations, action)
    more = ""
    try:
        result = perform_all(
            wanted.filter,
            reason=forms.text(visit.form, "reason"),
            on_progress=progress,
            **visit.by,
        )
        done = result.affected
        if result.matched > done:
            left = quantity(result.matched - done, "job")
            more = f" {left} had changed meanwhile, or another job holds their dedupe key."
    except _Enough:
        more = " There are more: it was stopped after 20 seconds. Do it again for the rest."
    visit.desk.changed()
    said = f"{quantity(done, 'job')} {DONE[action]}.{more}"
    return visit.see(visit.url("jobs", wanted.query if "ids" not in wanted.query else {}), said)
