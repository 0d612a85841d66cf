-- Reminders on a hosted Postgres with pg_cron and pg_net: paste all of it into the SQL editor, as often as you like.
-- Before it: what `pgqueue migrate --sql` prints, and reminders.sql.
-- Once, with the REMINDERS_SECRET that the app is deployed with:
--     select pgqueue.put_secret('reminders_endpoint', '...');

-- Every minute: the upkeep, and then a call of the endpoint if a job is ready. Put your own URL here.
-- pgqueue cron sql --url https://app.example.org/api/jobs/run --name reminders --queue reminders --secret reminders_endpoint
insert into "pgqueue".poke (name, queue, url, secret, header, body, timeout)
values ('reminders', 'reminders', 'https://app.example.org/api/jobs/run', 'reminders_endpoint', 'Authorization', '{}', '30 seconds')
on conflict (name) do update set queue = excluded.queue, url = excluded.url, secret = excluded.secret,
    header = excluded.header, body = excluded.body, timeout = excluded.timeout;

do $pgqueue$
declare
    v_name constant text := pg_catalog.concat('pgqueue.poke:reminders@', current_database());
    v_active boolean;
    v_id bigint;
begin
    if to_regnamespace('cron') is null then
        raise exception '%', 'pg_cron is not in this database; have a superuser put shared_preload_libraries = ''pg_cron'' into the settings, restart the server, and run in the database that cron.database_name names: create extension pg_cron' using errcode = 'PQ010';
    end if;
    select j.active into v_active from cron.job j
    where j.jobname = v_name and j.username = current_user;
    v_id := cron.schedule(v_name, '* * * * *', 'select "pgqueue".poke(''reminders'')');
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
