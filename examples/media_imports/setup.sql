-- For a hosted SQL editor, after a deployment and not in a migration: the URL exists only then, and differs by environment.
-- Print it for yours, with the command below. Run it as often as you like. The secret is put apart, so that it is in no file:
--     select pgqueue.put_secret('media_imports', 'the value of MEDIA_SECRET');

-- pgqueue cron sql --url https://app.example.org/api/media-imports/run --queue media --secret media_imports --every 10s
insert into "pgqueue".poke (name, queue, url, secret, header, body, timeout)
values ('media', 'media', 'https://app.example.org/api/media-imports/run', 'media_imports', 'Authorization', '{}', '30 seconds')
on conflict (name) do update set queue = excluded.queue, url = excluded.url, secret = excluded.secret,
    header = excluded.header, body = excluded.body, timeout = excluded.timeout;

do $pgqueue$
declare
    v_name constant text := pg_catalog.concat('pgqueue.poke:media@', current_database());
    v_active boolean;
    v_id bigint;
begin
    if to_regnamespace('cron') is null then
        raise exception '%', 'pg_cron is not in this database; have a superuser put shared_preload_libraries = ''pg_cron'' into the settings, restart the server, and run in the database that cron.database_name names: create extension pg_cron' using errcode = 'PQ010';
    end if;
    select j.active into v_active from cron.job j
    where j.jobname = v_name and j.username = current_user;
    begin
        v_id := cron.schedule(v_name, '10 seconds', 'select "pgqueue".poke(''media'')');
    exception
        when others then
            -- pg_cron before 1.5 has no seconds: one run a minute does all of it.
            v_id := cron.schedule(v_name, '* * * * *', 'call "pgqueue".run_minute(''10 seconds'', ''media'')');
    end;
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
