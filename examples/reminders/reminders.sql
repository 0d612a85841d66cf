-- Reminders for sync_app.sync. Run it again as you like, as the role that owns pgqueue's schema.
create schema if not exists reminders;

-- Every delay, and nowhere else. For a demonstration: update reminders.setting set demo = true;
create table if not exists reminders.setting (
    job_type text primary key,
    delay interval not null,
    demo_delay interval not null default '1 minute',
    demo boolean not null default false
);
insert into reminders.setting (job_type, delay) values
    ('reminder.due', '24 hours'),
    ('reminder.follow_up', '48 hours')
on conflict do nothing;

-- What could not be enqueued or cancelled. Without a foreign key, which would put triggers on the application's table.
create table if not exists reminders.failure (
    id bigint generated always as identity primary key,
    sync_id bigint not null,
    what text not null,
    failed_at timestamptz not null default now(),
    sqlstate text not null,
    error text not null,
    mended_at timestamptz
);

-- Enqueues a job about a sync, so long after `since`. One may wait for each sync and type, while another runs. It is the
-- owner's, whoever's session this is: the owner may read it.
create or replace function reminders.plan(
    sync_id bigint, owner text, job_type text, since timestamptz default clock_timestamp()
) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_before text := coalesce(current_setting('pgqueue.tenant', true), '');
    v_delay interval := (
        select case when s.demo then s.demo_delay else s.delay end
        from reminders.setting s where s.job_type = plan.job_type
    );
    v_id bigint;
begin
    if v_delay is null then
        raise exception 'reminders.setting has no delay for %', job_type;
    end if;
    perform set_config('pgqueue.tenant', owner, true);
    select e.id into v_id from pgqueue.enqueue(
        job_type,
        jsonb_build_object('sync_id', sync_id),
        queue => 'reminders',
        run_at => pgqueue.clock() - (clock_timestamp() - since) + v_delay,
        max_attempts => 8,
        dedupe_key => sync_id::text,
        dedupe_until => 'start',
        ref => 'sync:' || sync_id
    ) e;
    perform set_config('pgqueue.tenant', v_before, true);
    return v_id;
end
$$;

-- The two triggers have the rights of this script's role: users may insert and delete syncs, and do nothing with jobs but
-- read theirs. Whatever fails in here, pgqueue's absence included, is noted, and the application goes on. That costs a
-- savepoint for each row.
create or replace function reminders.sync_added() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform reminders.plan(new.id, new.owner, 'reminder.due');
    return null;
exception
    when others then
        insert into reminders.failure (sync_id, what, sqlstate, error) values (new.id, 'enqueue', sqlstate, sqlerrm);
        raise warning 'sync % gets no reminder: %', new.id, sqlerrm;
        return null;
end
$$;
create or replace trigger reminders_sync_added after insert on sync_app.sync
    for each row when (new.status = 'running') execute function reminders.sync_added();

create or replace function reminders.sync_deleted() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform pgqueue.cancel_ref('sync:' || old.id, 'the sync is deleted');
    return null;
exception
    when others then -- no harm: handlers look at the sync first
        insert into reminders.failure (sync_id, what, sqlstate, error) values (old.id, 'cancel', sqlstate, sqlerrm);
        raise warning 'the jobs of sync % stay: %', old.id, sqlerrm;
        return null;
end
$$;
create or replace trigger reminders_sync_deleted after delete on sync_app.sync
    for each row execute function reminders.sync_deleted();

-- Makes up for what failed, as of the time when it did; returns how many reminders are planned now.
create or replace function reminders.mend() returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_planned bigint;
begin
    with failed as (
        update reminders.failure f set mended_at = now() where f.mended_at is null returning f.*
    )
    select count(reminders.plan(s.id, s.owner, 'reminder.due', f.failed_at)) into v_planned
    from failed f join sync_app.sync s on s.id = f.sync_id
    where f.what = 'enqueue' and s.status = 'running' and s.confirmed_at is null;
    return v_planned;
end
$$;

-- Jobs that nobody sees to, and why. (A function and no view: upgrades of pgqueue may then change what it reads.)
create or replace function reminders.stuck_jobs(patience interval default '15 minutes')
returns table (id bigint, kind text, ref text, state text, since timestamptz, why text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    select j.id, j.kind, j.ref, j.state, coalesce(j.lease_until, j.run_at), case j.state
        when 'claimed' then 'the worker is gone, and nobody ends its claims: is there any upkeep?'
        when 'scheduled' then 'due, and nobody makes it ready: is there any upkeep?'
        else 'ready, and nobody claims it: is there a worker, or is the queue paused?'
    end
    from pgqueue.all_jobs j
    where j.queue = 'reminders' and j.finished_at is null
        and coalesce(j.lease_until, j.run_at) < pgqueue.clock() - patience
    order by 5;
end
$$;

-- Finished jobs go after three days, with the day that they finished on.
update pgqueue.setting set retention = '3 days', dead_retention = '3 days'
where (retention, dead_retention) is distinct from ('3 days', '3 days');

-- The service does everything, a user reads the jobs of their own syncs.
do $$
begin
    create role reminders_service nologin;
exception
    when duplicate_object or unique_violation then null;
end
$$;
select pgqueue.isolate_tenants();
select pgqueue.grant_access('reminders_service', 'worker'), pgqueue.grant_access('reminders_user', 'tenant_viewer');
grant usage on schema reminders, sync_app to reminders_service;
grant select, insert, update, delete on all tables in schema reminders, sync_app to reminders_service;
revoke execute on all functions in schema reminders from public;
grant execute on all functions in schema reminders to reminders_service;
drop policy if exists service on sync_app.sync;
create policy service on sync_app.sync to reminders_service using (true);
