"""The pages: which path leads to which view, and who may."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from pgqueue.dashboard.guard import Guarded
from pgqueue.dashboard.pages import (
    audit,
    bulk,
    doctor,
    job,
    jobs,
    overview,
    queues,
    schedule,
    schedules,
    session,
    workers,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response

    from pgqueue.dashboard.desk import Desk
    from pgqueue.dashboard.guard import Needs
    from pgqueue.dashboard.visit import Visit

    View = Callable[[Visit], Response]

# Name, path, view. Of what changes nothing, and who may see it:
_LOOK: tuple[tuple[str, str, View, Needs], ...] = (
    ("static", "/static/{name}", session.static, "nobody"),
    ("health", "/health", session.health, "nobody"),
    ("login", "/login", session.login_form, "nobody"),
    ("live", "/live", session.live, "viewer"),
    ("overview", "/", overview.overview, "viewer"),
    ("jobs", "/jobs", jobs.jobs, "viewer"),
    ("bulk", "/jobs/bulk", bulk.preview, "operator"),
    ("job", "/jobs/{id:int}", job.job, "viewer"),
    ("queues", "/queues", queues.queues, "viewer"),
    ("queue", "/queues/{name:path}", queues.queue, "viewer"),
    ("schedules", "/schedules", schedules.schedules, "viewer"),
    ("schedule_new", "/schedule-new", schedule.new, "operator"),
    ("schedule_edit", "/schedule-edit/{name:path}", schedule.edit, "operator"),
    ("schedule", "/schedules/{name:path}", schedules.schedule, "viewer"),
    ("workers", "/workers", workers.workers, "viewer"),
    ("audit", "/audit", audit.audit, "viewer"),
    ("doctor", "/doctor", doctor.doctor, "viewer"),
)
# Of what does; each but the first three is in the audit log.
_ACT: tuple[tuple[str, str, View, Needs], ...] = (
    ("login_post", "/login", session.login, "nobody"),
    ("logout", "/logout", session.logout, "viewer"),
    ("theme", "/theme", session.theme, "viewer"),
    ("examine", "/doctor/examine", doctor.examine, "viewer"),
    ("bulk_do", "/jobs/bulk", bulk.perform, "operator"),
    ("job_do", "/jobs/{id:int}/{action}", job.act, "operator"),
    ("pause", "/pause", queues.pause, "operator"),
    ("resume", "/resume", queues.resume, "operator"),
    ("pause_all", "/pause-all", queues.pause_all, "operator"),
    ("resume_all", "/resume-all", queues.resume_all, "operator"),
    ("schedule_put", "/schedule-put", schedule.put, "operator"),
    ("schedule_do", "/schedule-do/{action}", schedules.act, "operator"),
)


def routes(desk: Desk) -> list[Route]:
    """All of them."""
    look = [
        Route(path, Guarded(desk, view, needs).answer, name=name, methods=["GET"])
        for name, path, view, needs in _LOOK
    ]
    act = [
        Route(path, Guarded(desk, view, needs).answer, name=name, methods=["POST"])
        for name, path, view, needs in _ACT
    ]
    return look + act
