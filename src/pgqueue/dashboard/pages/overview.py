"""The first page: what is wrong, if anything is, and how it goes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import attrs
from starlette.responses import Response

from pgqueue.dashboard.figures import SPANS, Figures, span_of
from pgqueue.dashboard.problems import Death, problems
from pgqueue.models import QueueStats

if TYPE_CHECKING:
    from pgqueue.dashboard.visit import Visit
    from pgqueue.schedules import ScheduleState

QUEUES = 12
NEXT = 6
_MOST_DEATHS = 2000
# Only the latest are looked at: an hour in which everything dies must not make this page slow.
_DEATHS = """
select kind, queue, error_class, count(*), max(finished_at) from (
    select a.kind, a.queue, a.history -> -1 ->> 'error_class' as error_class, a.finished_at
    from @extschema@.archive a
    where a.state = 'dead' and a.finished_at > clock_timestamp() - interval '1 hour'
    order by a.finished_at desc limit %s
) a group by kind, queue, error_class order by count(*) desc, kind limit 5
"""
_FAILED_RUNS = """
select s.name, count(*), max(r.fired_at) from @extschema@.schedule_run r
join @extschema@.schedule s on s.id = r.schedule_id
where r.outcome = 'failed' and r.fired_at > clock_timestamp() - interval '1 day'
group by s.name order by count(*) desc limit 5
"""
_NEXT = """
select name from @extschema@.schedule where next_run_at is not null order by next_run_at limit %s
"""


@attrs.frozen
class Totals:
    """All queues together."""

    ready: int
    scheduled: int
    claimed: int
    dead: int
    oldest_wait: timedelta | None


def _totals(stats: Sequence[QueueStats]) -> Totals:
    waits = [each.oldest_wait for each in stats if each.oldest_wait is not None]
    return Totals(
        ready=sum(each.ready for each in stats),
        scheduled=sum(each.scheduled for each in stats),
        claimed=sum(each.claimed for each in stats),
        dead=sum(each.dead for each in stats),
        oldest_wait=max(waits, default=None),
    )


def overview(visit: Visit) -> Response:
    """What an operator sees first."""
    client = visit.desk.client
    span = span_of(visit.request.query_params.get("span"))
    version = visit.version
    stats = visit.desk.stats.get()
    workers = visit.perhaps(lambda conn: client.workers(conn=conn))
    examined = visit.desk.doctor.peek()
    deaths, failed = visit.read(lambda conn: _gone_wrong(visit, conn))
    totals = _totals(stats.value)
    rows = sorted(stats.value, key=lambda each: (-(each.ready + each.claimed), each.queue))
    return visit.page(
        "overview.html",
        section="overview",
        version=version,
        problems=problems(visit, stats.value, workers, examined, deaths, failed),
        examined=examined,
        totals=totals,
        counted=stats.age,
        rows=rows[:QUEUES],
        more=max(len(rows) - QUEUES, 0),
        workers=workers,
        figures=Figures.read(visit, span),
        span=span,
        spans=SPANS,
        schedules=visit.perhaps(lambda conn: _next(visit, conn)) or [],
    )


def _gone_wrong(visit: Visit, conn: object) -> tuple[list[Death], list[tuple[str, int, datetime]]]:
    rows = visit.desk.database.rows(_DEATHS, _MOST_DEATHS, conn=conn)
    failed = visit.desk.database.rows(_FAILED_RUNS, conn=conn)
    return [Death(*row) for row in rows], [(name, count, at) for name, count, at in failed]


def _next(visit: Visit, conn: object) -> list[ScheduleState]:
    """The schedules that are next."""
    rows = visit.desk.database.rows(_NEXT, NEXT, conn=conn)
    schedules = visit.desk.client.schedules
    return [schedules.get(name, conn=conn) for (name,) in rows]
