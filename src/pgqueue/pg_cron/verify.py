"""Whether all is in place and works. Nothing is written."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pgqueue import readers
from pgqueue.pg_cron import advice
from pgqueue.pg_cron.models import CronFailure, CronFinding
from pgqueue.pg_cron.script import HISTORY, pace_of
from pgqueue.statements import Statement
from pgqueue.words import quantity, span

if TYPE_CHECKING:
    from pgqueue.client import Client
    from pgqueue.pg_cron.api import PgCron
    from pgqueue.pg_cron.models import CronJob
    from pgqueue.readers import Row

_LATE = timedelta(minutes=2)
"""How long a request may wait in pg_net's queue, and a run be late."""
_WITH_SECONDS = [1, 5]
_LAST_REQUESTS = 100
_FEW_JOBS = 10_000
"""So many are looked at, at most, to count them by kind."""
_SEES_NET = """
select case when to_regclass('net.http_request_queue') is null then false
    when not has_schema_privilege('net', 'usage') then false
    else has_table_privilege('net.http_request_queue', 'select')
        and has_table_privilege('net._http_response', 'select') end
"""
_LAST_RUN = """
select d.status, coalesce(d.return_message, ''), now() - d.start_time from cron.job_run_details d
where d.jobid = %s::bigint order by d.runid desc limit 1
"""


def _good(check: str, seen: str, advice: str = "") -> CronFinding:
    return CronFinding(check, seen, advice, ok=True)


def _bad(check: str, seen: str, advice: str) -> CronFinding:
    return CronFinding(check, seen, advice, ok=False)


def findings(cron: PgCron) -> list[CronFinding]:
    """See `PgCron.verify`."""
    place = cron.place
    seen = f"pg_cron {place.version} in database {place.database!r}"
    found = [_good("extension", seen)]
    missing = place.missing_rights()
    if missing:
        seen = f"role {place.user} may not use pg_cron"
        return [*found, _bad("rights", seen, "; ".join(missing))]
    found.append(_good("rights", f"role {place.user} may use pg_cron"))
    installed = cron.jobs()
    found += _jobs(cron, installed)
    found += _endpoints(cron.client, installed)
    return found + _queues(cron.client)


def _jobs(cron: PgCron, installed: list[CronJob]) -> list[CronFinding]:
    if all(job.name == HISTORY for job in installed):
        return [_bad("job", "no job is installed", "run `pgqueue cron install`")]
    return [_job(cron, job) for job in installed]


def _job(cron: PgCron, job: CronJob) -> CronFinding:
    check = f"job {job.name}"
    active = "active" if job.active else "paused"
    seen = f"{job.schedule!r} in database {job.database!r} as {job.user!r}, {active}"
    if not job.active:
        return _good(check, seen, f"`pgqueue cron resume {job.name}`")
    rows = cron.place.driver.run(Statement(_LAST_RUN, (job.id,), list))
    if not rows:
        return _good(
            check,
            f"{seen}, has not run yet",
            ""
            if job.name == HISTORY
            else "if that stays so, pg_cron's own process does not run: "
            "is it in shared_preload_libraries?",
        )
    status, message, age = rows[0]
    seen += f", last run {span(age)} ago: {status}"
    if status == "failed":
        help_with = advice.of_run(message, cron.client.schema, cron.place.user)
        return _bad(check, f"{seen}: {message.strip()}", help_with)
    pace = pace_of(job.schedule)
    if pace is not None and age > pace + _LATE:
        return _bad(
            check,
            seen,
            "pg_cron starts it no more: see the server's log, and cron.launch_active_jobs",
        )
    if job.command.startswith("call ") and _numbers(cron.place.version) >= _WITH_SECONDS:
        return _good(
            check,
            seen,
            "this pg_cron knows seconds: `pgqueue cron install` again, and no connection is held",
        )
    return _good(check, seen)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def _endpoints(client: Client, installed: list[CronJob]) -> list[CronFinding]:
    s = client.statements.quoted
    sql = (
        f"select p.name, p.queue, p.url, p.secret, {s}._secret_place(p.secret) "
        f"from {s}.poke p order by p.name"
    )
    endpoints = client.driver.run(Statement(sql, (), list))
    names = {job.name for job in installed}
    found = []
    for name, queue, url, secret, store in endpoints:
        check = f"endpoint {name}"
        seen = f"{url} for queue {queue!r}"
        if f"poke:{name}" not in names:
            found.append(
                _bad(
                    check,
                    f"{seen}, but no job of this role pokes it",
                    f"run `pgqueue cron install --name {name} --url ...`",
                )
            )
        elif secret is None:
            found.append(_good(check, f"{seen}, without a secret"))
        elif store is None:
            found.append(
                _bad(
                    check,
                    f"{seen}; its secret {secret!r} is missing",
                    f"`pgqueue cron sync-secret {secret} --from-env VARIABLE`",
                )
            )
        else:
            where = "Vault" if store == "vault" else "table"
            found.append(_good(check, f"{seen}, with secret {secret!r} of {where}"))
    return [*found, *(_net(client) if endpoints else [])]


def sees_net(client: Client) -> bool:
    """Whether pg_net is there, and this role may look at its requests."""
    seen: bool = client.driver.run(Statement(_SEES_NET, (), readers.one))
    return seen


def _net(client: Client) -> list[CronFinding]:
    if not sees_net(client):
        return [
            _bad(
                "pg_net",
                "it is not here, or this role may not see its requests",
                "create extension pg_net; grant usage on schema net, and select on "
                "net.http_request_queue, net._http_response",
            )
        ]
    s = client.statements.quoted
    sql = (
        "select (select count(*) from net.http_request_queue), count(q.id), "
        f"coalesce({s}.clock() - min(r.requested_at) filter (where q.id is not null), '0'), "
        "count(h.id) filter (where h.status_code between 200 and 299) "
        f"from (select * from {s}.poke_request order by requested_at desc limit %s) r "
        "left join net.http_request_queue q on q.id = r.request_id "
        "left join net._http_response h on h.id = r.request_id"
    )
    (row,) = client.driver.run(Statement(sql, (_LAST_REQUESTS,), list))
    waiting, ours, oldest, succeeded = row
    seen = (
        f"{quantity(waiting, 'request')} wait to be sent, {ours:,} of them of this queue, the "
        f"oldest for {span(oldest)}"
    )
    backlog = _good("pg_net", seen)
    if ours and oldest > _LATE:
        help_with = "its process does not run or is behind: select net.worker_restart()"
        backlog = _bad("pg_net", seen, help_with)
    failed = failed_requests(client, _LAST_REQUESTS)
    seen = f"of the last {_LAST_REQUESTS}: {succeeded:,} succeeded, {len(failed):,} failed"
    if standing := _standing(client, failed):
        last = standing[0]
        return [backlog, _bad("requests", f"{seen}; {last.job}: {told(last)}", last.advice)]
    return [backlog, _good("requests", seen, "`pgqueue cron failures`" if failed else "")]


def _standing(client: Client, failed: list[CronFailure]) -> list[CronFailure]:
    """Failures that nothing has mended since: no success, and, if it was refused, no new secret."""
    s = client.statements.quoted
    sql = (
        f"select p.name, {s}._secret_changed_at(p.secret), (select max(r.requested_at) "
        f"from {s}.poke_request r join net._http_response h on h.id = r.request_id "
        f"where r.poke = p.name and h.status_code between 200 and 299) from {s}.poke p"
    )
    rows = client.driver.run(Statement(sql, (), list))
    since = {f"poke:{name}": (put, succeeded) for name, put, succeeded in rows}
    return [each for each in failed if each.job in since and _stands(each, *since[each.job])]


def _stands(failure: CronFailure, put: datetime | None, succeeded: datetime | None) -> bool:
    mended = [succeeded] if failure.status not in advice.REFUSED else [succeeded, put]
    return all(since is None or failure.at is None or since < failure.at for since in mended)


def told(failure: CronFailure) -> str:
    """What failed, in words."""
    status = "" if failure.status is None else f"HTTP {failure.status}"
    return ": ".join(filter(None, (status, failure.error)))


def failed_requests(client: Client, limit: int) -> list[CronFailure]:
    """Those of the last `limit` requests of this queue that failed."""
    s = client.statements.quoted
    sql = (
        "select f.poke, f.requested_at, f.request_id, f.status, coalesce(f.error, ''), "
        f"f.timed_out, p.secret from {s}.poke_failures(%s) f "
        f"left join {s}.poke p on p.name = f.poke order by f.requested_at desc"
    )
    rows = client.driver.run(Statement(sql, (limit,), list))
    return [
        CronFailure(
            job=f"poke:{name}", at=at, request_id=request, status=status,
            error=error or ("timeout" if timed_out else ""),
            advice=advice.of_request(status, error, secret, timed_out=timed_out),
        )
        for name, at, request, status, error, timed_out, secret in rows
    ]  # fmt: skip


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
            found.append(_bad(f"queue {queue}", seen, help_with))
        else:
            found.append(_good(f"queue {queue}", seen))
    return found
