-- For a hosted SQL editor, after a deployment and not in a migration: the URL exists only then, and differs by environment.
-- Print it for yours, with the command below. Run it as often as you like. The secret is put apart, so that it is in no file:
--     select pgqueue.put_secret('stats_orchestrator', 'the value of STATS_SECRET');

-- pgqueue cron sql --url https://app.example.org/api/jobs/run --queue stats --secret stats_orchestrator --every 1m
insert into "pgqueue".poke (name, queue, url, secret, header, body, timeout)
values ('stats', 'stats', 'https://app.example.org/api/jobs/run', 'stats_orchestrator', 'Authorization', '{}', '30 seconds')
on conflict (name) do update set queue = excluded.queue, url = excluded.url, secret = excluded.secret,
    header = excluded.header, body = excluded.body, timeout = excluded.timeout;

do $pgqueue$
declare
    v_name constant text := pg_catalog.concat('pgqueue.poke:stats@', current_database());
    v_active boolean;
    v_id bigint;
begin
    if to_regnamespace('cron') is null then
        raise exception '%', 'pg_cron is not in this database; have a superuser put shared_preload_libraries = ''pg_cron'' into the settings, restart the server, and run in the database that cron.database_name names: create extension pg_cron' using errcode = 'PQ010';
    end if;
    select j.active into v_active from cron.job j
    where j.jobname = v_name and j.username = current_user;
    v_id := cron.schedule(v_name, '* * * * *', 'select "pgqueue".poke(''stats'')');
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
