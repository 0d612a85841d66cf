"""What is looked at, and how it is judged: the same whether `verify` looks or the doctor does.

In the SQL @extschema@ is the schema of the queue. Values: by parameters.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pgqueue.pg_cron import advice
from pgqueue.pg_cron.models import CronFailure, CronFinding
from pgqueue.pg_cron.script import HISTORY, pace_of
from pgqueue.words import quantity, span

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pgqueue.pg_cron.models import CronJob
    from pgqueue.readers import Row

LAST_REQUESTS = 100
_LATE = timedelta(minutes=2)
"""How long a request may wait in pg_net's queue, and a run be late."""
_WITH_SECONDS = [1, 5]
LAST_RUN = """
select d.status, coalesce(d.return_message, ''), now() - d.start_time from cron.job_run_details d
where d.jobid = %s::bigint order by d.runid desc limit 1
"""
ENDPOINTS = """
select p.name, p.queue, p.url, p.secret, @extschema@._secret_place(p.secret)
from @extschema@.poke p order by p.name
"""
SEES_NET = """
select case when to_regclass('net.http_request_queue') is null then false
    when not has_schema_privilege('net', 'usage') then false
    else has_table_privilege('net.http_request_queue', 'select')
        and has_table_privilege('net._http_response', 'select') end
"""
REQUESTS = f"""
select (select count(*) from net.http_request_queue), count(q.id),
    coalesce(@extschema@.clock() - min(r.requested_at) filter (where q.id is not null), '0'),
    count(h.id) filter (where h.status_code between 200 and 299)
from (
    select * from @extschema@.poke_request order by requested_at desc limit {LAST_REQUESTS}
) r
left join net.http_request_queue q on q.id = r.request_id
left join net._http_response h on h.id = r.request_id
"""
FAILURES = """
select f.poke, f.requested_at, f.request_id, f.status, coalesce(f.error, ''), f.timed_out, p.secret
from @extschema@.poke_failures(%s) f
left join @extschema@.poke p on p.name = f.poke order by f.requested_at desc
"""
MENDED = """
select p.name, @extschema@._secret_changed_at(p.secret), (
    select max(r.requested_at) from @extschema@.poke_request r
    join net._http_response h on h.id = r.request_id
    where r.poke = p.name and h.status_code between 200 and 299
) from @extschema@.poke p
"""
MENDED_WITHOUT_SECRETS = MENDED.replace("@extschema@._secret_changed_at(p.secret)", "null")


def good(check: str, seen: str, help_with: str = "") -> CronFinding:
    """All is well; with advice: but worth knowing."""
    return CronFinding(check, seen, help_with, ok=True)


def bad(check: str, seen: str, help_with: str) -> CronFinding:
    """Something is wrong."""
    return CronFinding(check, seen, help_with, ok=False)


def job(job: CronJob, last: Row | None, version: str, schema: str, user: str) -> CronFinding:
    """How a job of pg_cron does, by its last run, if there was one (`LAST_RUN`)."""
    check = f"job {job.name}"
    active = "active" if job.active else "paused"
    seen = f"{job.schedule!r} in database {job.database!r} as {job.user!r}, {active}"
    if not job.active:
        return good(check, seen, f"`pgqueue cron resume {job.name}`")
    if last is None:
        return good(
            check,
            f"{seen}, has not run yet",
            ""
            if job.name == HISTORY
            else "if that stays so, pg_cron's own process does not run: "
            "is it in shared_preload_libraries?",
        )
    status, message, age = last
    seen += f", last run {span(age)} ago: {status}"
    if status == "failed":
        # What comes after it is where in our own functions it was raised.
        error = message.strip().partition("\n")[0]
        return bad(check, f"{seen}: {error}", advice.of_run(message, schema, user))
    pace = pace_of(job.schedule)
    if pace is not None and age > pace + _LATE:
        return bad(
            check,
            seen,
            "pg_cron starts it no more: see the server's log, and cron.launch_active_jobs",
        )
    if job.command.startswith("call ") and _numbers(version) >= _WITH_SECONDS:
        return good(
            check,
            seen,
            "this pg_cron knows seconds: `pgqueue cron install` again, and no connection is held",
        )
    return good(check, seen)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def endpoint(row: Row, jobs: Collection[str]) -> CronFinding:
    """Whether an endpoint (of `ENDPOINTS`) is poked by one of these jobs, and has its secret."""
    name, queue, url, secret, store = row
    check = f"endpoint {name}"
    seen = f"{url} for queue {queue!r}"
    if f"poke:{name}" not in jobs:
        help_with = f"run `pgqueue cron install --name {name} --url ...`"
        return bad(check, f"{seen}, but no job of this role pokes it", help_with)
    if secret is None:
        return good(check, f"{seen}, without a secret")
    if store is None:
        help_with = f"`pgqueue cron sync-secret {secret} --from-env VARIABLE`"
        return bad(check, f"{seen}; its secret {secret!r} is missing", help_with)
    where = "Vault" if store == "vault" else "table"
    return good(check, f"{seen}, with secret {secret!r} of {where}")


def backlog(row: Row) -> CronFinding:
    """Whether pg_net sends what it was given (`REQUESTS`)."""
    waiting, ours, oldest, *_ = row
    seen = (
        f"{quantity(waiting, 'request')} wait to be sent, {ours:,} of them of this queue, the "
        f"oldest for {span(oldest)}"
    )
    if ours and oldest > _LATE:
        help_with = "its process does not run or is behind: select net.worker_restart()"
        return bad("pg_net", seen, help_with)
    return good("pg_net", seen)


def standing(failed: Iterable[CronFailure], mended: Iterable[Row]) -> list[CronFailure]:
    """Failures that nothing has mended since (`MENDED`).

    A success does, and where it was refused a new secret.
    """
    since = {f"poke:{name}": (put, succeeded) for name, put, succeeded in mended}
    return [each for each in failed if each.job in since and _stands(each, *since[each.job])]


def _stands(failure: CronFailure, put: datetime | None, succeeded: datetime | None) -> bool:
    mended = [succeeded] if failure.status not in advice.REFUSED else [succeeded, put]
    return all(since is None or failure.at is None or since < failure.at for since in mended)


def requests(row: Row, failed: list[CronFailure], stand: list[CronFailure]) -> CronFinding:
    """How the last requests were answered (`REQUESTS`, `failure` of `FAILURES`, `standing`)."""
    *_, succeeded = row
    seen = f"of the last {LAST_REQUESTS}: {succeeded:,} succeeded, {len(failed):,} failed"
    if stand:
        last = stand[0]
        return bad("requests", f"{seen}; {last.job}: {told(last)}", last.advice)
    return good("requests", seen, "`pgqueue cron failures`" if failed else "")


def failure(row: Row) -> CronFailure:
    """A request that failed, of `FAILURES`."""
    name, at, request, status, error, timed_out, secret = row
    return CronFailure(
        job=f"poke:{name}", at=at, request_id=request, status=status,
        error=error or ("timeout" if timed_out else ""),
        advice=advice.of_request(status, error, secret, timed_out=timed_out),
    )  # fmt: skip


def told(failure: CronFailure) -> str:
    """What failed, in words."""
    status = "" if failure.status is None else f"HTTP {failure.status}"
    return ": ".join(filter(None, (status, failure.error)))
