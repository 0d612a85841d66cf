-- A stand-in for pg_cron: its tables, and the functions that are called, where only the command line is tried.
create schema cron;
create table cron.job (
    jobid bigint generated always as identity primary key, schedule text, command text,
    database text default current_database(), username text default current_user, active boolean default true, jobname text unique
);
create table cron.job_run_details (
    jobid bigint, runid bigint generated always as identity, status text, return_message text, start_time timestamptz,
    end_time timestamptz
);
create function cron.schedule(job_name text, schedule text, command text) returns bigint language sql as $$
    insert into cron.job as j (jobname, schedule, command) values (job_name, schedule, command)
    on conflict (jobname) do update set schedule = excluded.schedule, command = excluded.command returning jobid
$$;
create function cron.unschedule(job_id bigint) returns boolean language sql as $$
    with gone as (delete from cron.job where jobid = job_id returning 1) select exists (select from gone)
$$;
create function cron.alter_job(
    job_id bigint, schedule text default null, command text default null, database text default null,
    username text default null, active boolean default null
) returns void language sql as $$ update cron.job j set active = alter_job.active where j.jobid = job_id $$;
