"""The SQL that says what is in place, for where there is only an SQL editor."""

from __future__ import annotations

from pgqueue.arguments import checked_schema
from pgqueue.pg_cron.script import MISSING, literal, ours
from pgqueue.statements import DEFAULT_SCHEMA

_JOBS = """do $pgqueue$
begin
    if to_regnamespace('cron') is null then
        raise exception '%', {missing} using errcode = 'PQ010';
    end if;
end
$pgqueue$;

select 'extension' as "check", 'pg_cron ' || e.extversion as seen, true as ok
from pg_catalog.pg_extension e where e.extname = 'pg_cron'
union all
select 'job ' || j.jobname,
    format('%L in database %s as %s, %s, last run %s', j.schedule, j.database, j.username,
        case when j.active then 'active' else 'paused' end,
        case when r.runid is null then 'never'
            else concat_ws(' ', r.start_time::timestamptz(0), r.status, r.return_message) end),
    r.status is distinct from 'failed'
from cron.job j
left join lateral (
    select * from cron.job_run_details d where d.jobid = j.jobid order by d.runid desc limit 1
) r on true
where {ours}
"""
_QUEUE = """select 'endpoint ' || p.name as "check",
    format('%s for queue %s, time-out %s, %s', p.url, p.queue, p.timeout,
        case when p.secret is null then 'without a secret'
            else format('secret %L: %s', p.secret, coalesce(s.place, 'missing')) end) as seen,
    p.secret is null or s.place is not null as ok
from {s}.poke p cross join lateral (select {s}._secret_place(p.secret) as place) s
union all
select 'queue ' || j.queue,
    format('%s: %s %s, the oldest of %s, the newest of %s', j.kind, count(*), j.state,
        min(j.at)::timestamptz(0), max(j.at)::timestamptz(0)),
    j.state <> 'dead'
from (
    select queue, kind, state, coalesce(finished_at, enqueued_at) as at from {s}.all_jobs
    where state in ('scheduled', 'ready', 'claimed', 'dead')
) j group by j.queue, j.kind, j.state
"""


def verify_script(schema: str = DEFAULT_SCHEMA, *, database: str | None = None) -> str:
    """The SQL that says what is in place, as rows of check, seen and ok; it writes nothing.

    It tells pg_cron's version, each job with its database and last run, each endpoint with the
    place of its secret, and jobs by queue, kind and state. `PgCron.verify` knows more.

    Args:
        schema: the queue's.
        database: the queue's database, where pg_cron is in another; the script has two parts then.
    """
    jobs, settings = _JOBS, _QUEUE.replace("{s}", f'"{checked_schema(schema)}"')
    jobs = jobs.replace("{missing}", literal(MISSING)).replace("{ours}", ours(schema, database))
    if database is None:
        return f"{jobs}union all\n{settings}order by 1, 2;\n"
    return (
        f"-- In the database of pg_cron:\n{jobs}order by 1, 2;\n\n"
        f"-- In database {database}:\n{settings}order by 1, 2;\n"
    )
