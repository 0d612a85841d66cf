-- Makes a schedule, or changes the one of that name: all but what is null of `starts_at` and `enabled`, which stay as they
-- are (now, and true, at first). Tells what it did: 'added', 'changed' or 'unchanged'; nothing is written where nothing
-- changes, and where the times do not, the next slot stays.
create or replace function @extschema@.schedule(
    name text,
    kind text,
    payload jsonb default '{}',
    cron text default null,
    every interval default null,
    timezone text default 'UTC',
    window_start time default null,
    window_end time default null,
    starts_at timestamptz default null,
    ends_at timestamptz default null,
    jitter interval default '0',
    catch_up integer default 1,
    grace interval default '10 minutes',
    overlap text default 'queue',
    enabled boolean default null,
    queue text default 'default',
    priority integer default 5,
    max_attempts integer default null,
    backoff jsonb default null,
    tags text[] default null,
    metadata jsonb default null,
    ref text default null,
    declared_by text default null,
    out outcome text,
    out next_run_at timestamptz
) returns record
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
    v_tenant text := coalesce(current_setting('pgqueue.tenant', true), '');
    v_owner text;
    v_starts_at timestamptz;
    v_added boolean;
begin
    select s.declared_by, s.starts_at into v_owner, v_starts_at from @extschema@.schedule s
    where s.name = schedule.name and coalesce(s.tenant, '') = v_tenant;
    if v_owner <> schedule.declared_by then
        raise exception 'schedule % is declared by %; choose another name, or remove it there',
            quote_literal(schedule.name), quote_literal(v_owner) using errcode = 'PQ005';
    end if;
    insert into @extschema@.schedule as s (
        name, kind, payload, cron, every, timezone, window_start, window_end, starts_at, ends_at, jitter, catch_up, grace,
        overlap, enabled, queue, priority, max_attempts, backoff, tags, metadata, ref, declared_by
    )
    values (
        schedule.name, schedule.kind, coalesce(schedule.payload, '{}'), schedule.cron, schedule.every,
        coalesce(schedule.timezone, 'UTC'), schedule.window_start, schedule.window_end,
        -- One that is over may be put all the same: code goes on to declare it.
        coalesce(schedule.starts_at, v_starts_at, least(v_now, schedule.ends_at - interval '1 microsecond')),
        schedule.ends_at, coalesce(schedule.jitter, '0'), coalesce(schedule.catch_up, 1),
        coalesce(schedule.grace, '10 minutes'), coalesce(schedule.overlap, 'queue'), coalesce(schedule.enabled, true),
        coalesce(schedule.queue, 'default'), coalesce(schedule.priority, 5), schedule.max_attempts, schedule.backoff,
        schedule.tags, schedule.metadata, schedule.ref, schedule.declared_by
    )
    on conflict (name, (coalesce(tenant, ''))) do update set
        kind = excluded.kind, payload = excluded.payload, cron = excluded.cron, every = excluded.every,
        timezone = excluded.timezone, window_start = excluded.window_start, window_end = excluded.window_end,
        starts_at = coalesce(schedule.starts_at, s.starts_at), ends_at = excluded.ends_at, jitter = excluded.jitter,
        catch_up = excluded.catch_up, grace = excluded.grace, overlap = excluded.overlap,
        enabled = coalesce(schedule.enabled, s.enabled), queue = excluded.queue, priority = excluded.priority,
        max_attempts = excluded.max_attempts, backoff = excluded.backoff, tags = excluded.tags,
        metadata = excluded.metadata, ref = excluded.ref, declared_by = coalesce(excluded.declared_by, s.declared_by)
    where (
        s.kind, s.payload, s.cron, s.every, s.timezone, s.window_start, s.window_end, s.starts_at, s.ends_at, s.jitter,
        s.catch_up, s.grace, s.overlap, s.enabled, s.queue, s.priority, s.max_attempts, s.backoff, s.tags, s.metadata,
        s.ref, s.declared_by
    ) is distinct from (
        excluded.kind, excluded.payload, excluded.cron, excluded.every, excluded.timezone, excluded.window_start,
        excluded.window_end, coalesce(schedule.starts_at, s.starts_at), excluded.ends_at, excluded.jitter,
        excluded.catch_up, excluded.grace, excluded.overlap, coalesce(schedule.enabled, s.enabled), excluded.queue,
        excluded.priority, excluded.max_attempts, excluded.backoff, excluded.tags, excluded.metadata, excluded.ref,
        coalesce(excluded.declared_by, s.declared_by)
    )
    returning s.next_run_at, s.xmax = 0 into next_run_at, v_added;
    outcome := case when v_added then 'added' when not v_added then 'changed' else 'unchanged' end;
    if outcome = 'unchanged' then
        select s.next_run_at into next_run_at from @extschema@.schedule s
        where s.name = schedule.name and coalesce(s.tenant, '') = v_tenant;
    end if;
end
$$;

-- Removes the session's schedule of that name; true if there was one. Jobs that it enqueued stay.
create or replace function @extschema@.unschedule(name text) returns boolean
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
begin
    delete from @extschema@.schedule s
    where s.name = unschedule.name and coalesce(s.tenant, '') = coalesce(current_setting('pgqueue.tenant', true), '');
    return found;
end
$$;

-- Makes the schedules that an application declares those in `schedules`, an array of objects whose keys are the parameters
-- of schedule(); removes the others that it declared before. Returns what changed and what did not.
create or replace function @extschema@.sync_schedules(schedules jsonb, declared_by text)
returns table (name text, outcome text)
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
declare
    v_new @extschema@.schedule;
    v_given jsonb;
    v_tenant text := coalesce(current_setting('pgqueue.tenant', true), '');
begin
    if sync_schedules.declared_by is null then
        raise exception 'declared_by is null; name the application' using errcode = 'PQ005';
    end if;
    -- One after another: versions of an application that declare other names would wait for each other.
    perform pg_advisory_xact_lock(hashtextextended('@extschema:name@ schedules of ' || sync_schedules.declared_by, 0));
    for v_given in
        select g.value from jsonb_array_elements(sync_schedules.schedules) g order by g.value ->> 'name' collate "C"
    loop
        v_new := jsonb_populate_record(null::@extschema@.schedule, v_given);
        name := v_new.name;
        outcome := (@extschema@.schedule(
            v_new.name, v_new.kind, v_new.payload, v_new.cron, v_new.every, v_new.timezone, v_new.window_start,
            v_new.window_end, v_new.starts_at, v_new.ends_at, v_new.jitter, v_new.catch_up, v_new.grace, v_new.overlap,
            v_new.enabled, v_new.queue, v_new.priority, v_new.max_attempts, v_new.backoff, v_new.tags, v_new.metadata,
            v_new.ref, sync_schedules.declared_by
        )).outcome;
        return next;
    end loop;
    for name in
        delete from @extschema@.schedule s
        where s.declared_by = sync_schedules.declared_by and coalesce(s.tenant, '') = v_tenant
            and s.name not in (select g.value ->> 'name' from jsonb_array_elements(sync_schedules.schedules) g)
        returning s.name
    loop
        outcome := 'removed';
        return next;
    end loop;
end
$$;
