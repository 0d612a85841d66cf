-- Sign-up sync on a hosted Postgres with pg_cron and pg_net: paste all of it into the SQL editor, as often as you like.
-- Before it: schema.sql, and what `pgqueue migrate --sql` prints.
-- Once, with the SIGNUP_ENDPOINT_SECRET that the app is deployed with:
--     select pgqueue.put_secret('signup_endpoint', '...');

-- Every minute: the upkeep, and then a call of the endpoint (30 s) if a job is ready. Put your own URL here.
-- pgqueue cron sql --url https://app.example.org/api/jobs/run --queue signup --secret signup_endpoint
insert into "pgqueue".poke (name, queue, url, secret, header, body, timeout)
values ('signup', 'signup', 'https://app.example.org/api/jobs/run', 'signup_endpoint', 'Authorization', '{}', '30 seconds')
on conflict (name) do update set queue = excluded.queue, url = excluded.url, secret = excluded.secret,
    header = excluded.header, body = excluded.body, timeout = excluded.timeout;

do $pgqueue$
declare
    v_name constant text := pg_catalog.concat('pgqueue.poke:signup@', current_database());
    v_active boolean;
    v_id bigint;
begin
    if to_regnamespace('cron') is null then
        raise exception '%', 'pg_cron is not in this database; have a superuser put shared_preload_libraries = ''pg_cron'' into the settings, restart the server, and run in the database that cron.database_name names: create extension pg_cron' using errcode = 'PQ010';
    end if;
    select j.active into v_active from cron.job j
    where j.jobname = v_name and j.username = current_user;
    v_id := cron.schedule(v_name, '* * * * *', 'select "pgqueue".poke(''signup'')');
    if not v_active then
        perform cron.alter_job(v_id, active := false);
    end if;
end
$pgqueue$;

do $pgqueue$
declare
    v_name constant text := pg_catalog.concat('pgqueue.history@', current_database());
    v_active boolean;
    v_id bigint;
begin
    if to_regnamespace('cron') is null then
        raise exception '%', 'pg_cron is not in this database; have a superuser put shared_preload_libraries = ''pg_cron'' into the settings, restart the server, and run in the database that cron.database_name names: create extension pg_cron' using errcode = 'PQ010';
    end if;
    select j.active into v_active from cron.job j
    where j.jobname = v_name and j.username = current_user;
    v_id := cron.schedule(v_name, '23 3 * * *', 'delete from cron.job_run_details d using cron.job j where j.jobid = d.jobid and pg_catalog.starts_with(j.jobname::text, ''pgqueue.'') and d.end_time < pg_catalog.now() - interval ''7 days''');
    if not v_active then
        perform cron.alter_job(v_id, active := false);
    end if;
end
$pgqueue$;

-- What is there now: all of it should be ok.
-- pgqueue cron sql --verify
do $pgqueue$
begin
    if to_regnamespace('cron') is null then
        raise exception '%', 'pg_cron is not in this database; have a superuser put shared_preload_libraries = ''pg_cron'' into the settings, restart the server, and run in the database that cron.database_name names: create extension pg_cron' using errcode = 'PQ010';
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
where pg_catalog.starts_with(j.jobname::text, 'pgqueue.')
    and pg_catalog.right(j.jobname::text, pg_catalog.length(current_database()) + 1) = '@' || current_database()
    and j.username = current_user
union all
select 'endpoint ' || p.name as "check",
    format('%s for queue %s, time-out %s, %s', p.url, p.queue, p.timeout,
        case when p.secret is null then 'without a secret'
            else format('secret %L: %s', p.secret, coalesce(s.place, 'missing')) end) as seen,
    p.secret is null or s.place is not null as ok
from "pgqueue".poke p cross join lateral (select "pgqueue"._secret_place(p.secret) as place) s
union all
select 'queue ' || j.queue,
    format('%s: %s %s, the oldest of %s, the newest of %s', j.kind, count(*), j.state,
        min(j.at)::timestamptz(0), max(j.at)::timestamptz(0)),
    j.state <> 'dead'
from (
    select queue, kind, state, coalesce(finished_at, enqueued_at) as at from "pgqueue".all_jobs
    where state in ('scheduled', 'ready', 'claimed', 'dead')
) j group by j.queue, j.kind, j.state
order by 1, 2;
