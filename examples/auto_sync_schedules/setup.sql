-- Auto-sync on a hosted Postgres with pg_cron: paste all of it into the SQL editor, as often as you like.
-- Before it: what `pgqueue migrate --sql` prints, and schema.sql.

-- One tick every five minutes: it fires all schedules that are due, and does the rest of the upkeep.
-- pgqueue cron sql --every 5m
do $pgqueue$
declare
    v_name constant text := pg_catalog.concat('pgqueue.upkeep@', current_database());
    v_active boolean;
    v_id bigint;
begin
    if to_regnamespace('cron') is null then
        raise exception '%', 'pg_cron is not in this database; have a superuser put shared_preload_libraries = ''pg_cron'' into the settings, restart the server, and run in the database that cron.database_name names: create extension pg_cron' using errcode = 'PQ010';
    end if;
    select j.active into v_active from cron.job j
    where j.jobname = v_name and j.username = current_user;
    v_id := cron.schedule(v_name, '*/5 * * * *', 'select "pgqueue".maintain()');
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
