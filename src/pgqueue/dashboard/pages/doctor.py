"""What ails the queue: `pgqueue doctor`'s findings, as old as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from pgqueue.doctor import Level

if TYPE_CHECKING:
    from pgqueue.dashboard.visit import Visit

ORDER = (Level.CRITICAL, Level.WARNING, Level.NOTICE, Level.OK)
_OLD_ENOUGH = 5.0
"""Seconds: who asks for a new examination sooner gets the last one."""


def doctor(visit: Visit) -> Response:
    """All findings, the worst first."""
    found = visit.desk.doctor.get()
    by_level = [(level, [f for f in found.value if f.level is level]) for level in ORDER]
    return visit.page("doctor.html", section="doctor", by_level=by_level, age=found.age)


def examine(visit: Visit) -> Response:
    """Examines anew, now."""
    known = visit.desk.doctor.peek()
    if known is None or known.age > _OLD_ENOUGH:
        visit.desk.doctor.forget()
        visit.desk.doctor.get()
    return visit.see(visit.url("doctor"))
