-- Enqueues a job of a schedule now, by hand, enabled or not; returns its id. It is in the history, and counts as an earlier
-- job for `overlap`; the slots stay as they are.
create or replace function @extschema@.run_schedule(name text) returns bigint
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
    v_before text := coalesce(current_setting('pgqueue.tenant', true), '');
    v_schedule @extschema@.schedule;
    v_job_id bigint;
begin
    select * into v_schedule from @extschema@.schedule s
    where s.name = run_schedule.name and coalesce(s.tenant, '') = v_before
    for update;
    if not found then
        raise exception 'there is no schedule %', quote_literal(run_schedule.name)
            using errcode = 'PQ004', detail = run_schedule.name;
    end if;
    v_job_id := @extschema@._enqueue_slot(v_schedule, v_now, v_now);
    perform set_config('pgqueue.tenant', v_before, true);
    perform @extschema@._record_run(v_schedule, v_now, v_now, 'manual', v_job_id, null);
    update @extschema@.schedule s set last_job_id = v_job_id where s.id = v_schedule.id;
    return v_job_id;
end
$$;

-- The next `count` slots of a schedule, enabled or not, as things are; none where there is no schedule.
create or replace function @extschema@.next_slots(name text, count integer default 5) returns setof timestamptz
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
declare
    v_schedule @extschema@.schedule;
begin
    select * into v_schedule from @extschema@.schedule s
    where s.name = next_slots.name and coalesce(s.tenant, '') = coalesce(current_setting('pgqueue.tenant', true), '');
    if found then
        return query select * from @extschema@._slots(v_schedule, count);
    end if;
end
$$;

-- The same of a schedule that need not be stored.
create or replace function @extschema@._slots(schedule @extschema@.schedule, count integer) returns setof timestamptz
language plpgsql volatile
@settings@
as $$
declare
    v_now timestamptz := @extschema@.clock();
    v_slot timestamptz := schedule.next_run_at;
begin
    perform @extschema@._check_times(schedule);
    if schedule.cron is not null then
        schedule.masks := @extschema@._cron(schedule.cron);
    end if;
    schedule.every := @extschema@._without_days(schedule.every, 'every');
    schedule.starts_at := coalesce(schedule.starts_at, least(v_now, schedule.ends_at - interval '1 microsecond'));
    v_slot := coalesce(v_slot, @extschema@._next_slot(schedule, v_now));
    for n in 1..least(count, 10000) loop
        exit when v_slot is null;
        return next v_slot;
        v_slot := @extschema@._next_slot(schedule, v_slot);
    end loop;
end
$$;
