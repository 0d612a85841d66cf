"""Whether all is in place and works. Nothing is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgqueue import readers
from pgqueue.migrate import render
from pgqueue.pg_cron import health
from pgqueue.pg_cron.health import bad, good
from pgqueue.pg_cron.models import CronFailure, CronFinding
from pgqueue.pg_cron.script import HISTORY
from pgqueue.statements import Statement
from pgqueue.words import span

if TYPE_CHECKING:
    from pgqueue.client import Client
    from pgqueue.pg_cron.api import PgCron
    from pgqueue.pg_cron.models import CronJob
    from pgqueue.readers import Row

_FEW_JOBS = 10_000
"""So many are looked at, at most, to count them by kind."""


def findings(cron: PgCron) -> list[CronFinding]:
    """See `PgCron.verify`."""
    place = cron.place
    seen = f"pg_cron {place.version} in database {place.database!r}"
    found = [good("extension", seen)]
    missing = place.missing_rights()
    if missing:
        seen = f"role {place.user} may not use pg_cron"
        return [*found, bad("rights", seen, "; ".join(missing))]
    found.append(good("rights", f"role {place.user} may use pg_cron"))
    installed = cron.jobs()
    found += _jobs(cron, installed)
    found += _endpoints(cron.client, installed)
    return found + _queues(cron.client)


def _rows(client: Client, sql: str, *params: object) -> list[Row]:
    rows: list[Row] = client.driver.run(Statement(render(sql, client.schema), params, list))
    return rows


def _jobs(cron: PgCron, installed: list[CronJob]) -> list[CronFinding]:
    if all(job.name == HISTORY for job in installed):
        return [bad("job", "no job is installed", "run `pgqueue cron install`")]
    return [_job(cron, job) for job in installed]


def _job(cron: PgCron, job: CronJob) -> CronFinding:
    place = cron.place
    rows = place.driver.run(Statement(health.LAST_RUN, (job.id,), list))
    last = rows[0] if rows else None
    return health.job(job, last, place.version, cron.client.schema, place.user)


def _endpoints(client: Client, installed: list[CronJob]) -> list[CronFinding]:
    names = {job.name for job in installed}
    found = [health.endpoint(row, names) for row in _rows(client, health.ENDPOINTS)]
    return [*found, *(_net(client) if found else [])]


def sees_net(client: Client) -> bool:
    """Whether pg_net is there, and this role may look at its requests."""
    seen: bool = client.driver.run(Statement(health.SEES_NET, (), readers.one))
    return seen


def _net(client: Client) -> list[CronFinding]:
    if not sees_net(client):
        return [
            bad(
                "pg_net",
                "it is not here, or this role may not see its requests",
                "create extension pg_net; grant usage on schema net, and select on "
                "net.http_request_queue, net._http_response",
            )
        ]
    (row,) = _rows(client, health.REQUESTS)
    failed = failed_requests(client, health.LAST_REQUESTS)
    standing = health.standing(failed, _rows(client, health.MENDED)) if failed else []
    return [health.backlog(row), health.requests(row, failed, standing)]


def failed_requests(client: Client, limit: int) -> list[CronFailure]:
    """Those of the last `limit` requests of this queue that failed."""
    return [health.failure(row) for row in _rows(client, health.FAILURES, limit)]


def _queues(client: Client) -> list[CronFinding]:
    s = client.statements.quoted
    sql = (
        f"select j.queue, j.kind, j.state, count(*), {s}.clock() - min(j.at), "
        f"{s}.clock() - max(j.at) from ("
        f"(select queue, kind, state, enqueued_at as at from {s}.all_jobs "
        "where state in ('scheduled', 'ready', 'claimed') limit %s) union all "
        f"(select queue, kind, state, finished_at from {s}.all_jobs where state = 'dead' limit %s)"
        ") j group by 1, 2, 3 order by 1, 2, 3"
    )
    rows: list[Row] = client.driver.run(Statement(sql, (_FEW_JOBS, _FEW_JOBS), list))
    dead = [row for row in rows if row[2] == "dead"]
    return _counts([row for row in rows if row not in dead]) + _counts(dead)


def _counts(rows: list[Row]) -> list[CronFinding]:
    cut = "at least " if sum(row[3] for row in rows) >= _FEW_JOBS else ""
    found = []
    for queue, kind, state, count, oldest, newest in rows:
        what = "died" if state == "dead" else "enqueued"
        seen = f"{kind}: {cut}{count:,} {state}, {what} {span(oldest)} to {span(newest)} ago"
        help_with = f"see `pgqueue jobs --state dead`, and then `pgqueue redrive {queue}`"
        if state == "dead":
            found.append(bad(f"queue {queue}", seen, help_with))
        else:
            found.append(good(f"queue {queue}", seen))
    return found
