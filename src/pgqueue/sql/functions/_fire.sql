-- Fires what is due of one schedule, whose row is locked: by its policies, for each of the slots until `moment`. The
-- caller puts the session's tenant back.
create or replace function @extschema@._fire(schedule @extschema@.schedule, moment timestamptz) returns bigint
language plpgsql volatile
@settings@
as $$
declare
    v_due record := @extschema@._due_slots(schedule, moment);
    v_slot timestamptz;
    v_job_id bigint := schedule.last_job_id;
    v_outcome text;
    v_fired bigint := 0;
begin
    foreach v_slot in array v_due.slots loop
        -- A second guard beside next_run_at, against clocks and hands that set that back. Nobody else is here: the row is locked.
        continue when exists (
            select from @extschema@.schedule_run r where r.schedule_id = schedule.id and r.slot = v_slot
        );
        v_outcome := case
            when schedule.catch_up = 0 and v_slot < moment - schedule.grace then 'missed'
            when schedule.overlap <> 'queue' and @extschema@._overlaps(schedule, v_job_id) then 'skipped'
            else 'enqueued'
        end;
        if v_outcome = 'enqueued' then
            v_job_id := @extschema@._enqueue_slot(schedule, v_slot, v_slot + @extschema@._jitter(schedule, v_slot));
            v_fired := v_fired + 1;
        end if;
        perform @extschema@._record_run(
            schedule, v_slot, moment, v_outcome, case when v_outcome = 'enqueued' then v_job_id end, null
        );
    end loop;
    update @extschema@.schedule s set
        next_run_at = v_due.next_slot,
        last_run_at = greatest(s.last_run_at, v_due.slots[cardinality(v_due.slots)]),
        last_job_id = v_job_id
    where s.id = schedule.id;
    return v_fired;
end
$$;

-- Whether the job of an earlier slot is unfinished and the next one has to be left out for it; if it is to be replaced, it
-- is cancelled, and the answer is no.
create or replace function @extschema@._overlaps(schedule @extschema@.schedule, job_id bigint) returns boolean
language plpgsql volatile
@settings@
as $$
begin
    if schedule.overlap = 'skip' then
        return exists (
            select from @extschema@.job j where j.id = job_id and j.tenant is not distinct from schedule.tenant
        );
    end if;
    -- One that is locked is being ended, or its lease extended. Whoever has it may take long, and all schedules would wait.
    perform from @extschema@.job j
    where j.id = job_id and j.tenant is not distinct from schedule.tenant for update skip locked;
    if found then
        perform @extschema@.cancel(array[job_id], 'replaced by the next slot of schedule ' || schedule.name);
    end if;
    return false;
end
$$;

-- Enqueues a job of a schedule; returns its id. Leaves the schedule's tenant as that of the session.
create or replace function @extschema@._enqueue_slot(
    schedule @extschema@.schedule, slot timestamptz, run_at timestamptz
) returns bigint
language plpgsql volatile
@settings@
as $$
begin
    perform set_config('pgqueue.tenant', coalesce(schedule.tenant, ''), true);
    return (@extschema@.enqueue(
        schedule.kind, schedule.payload, schedule.queue, schedule.priority, run_at => _enqueue_slot.run_at,
        max_attempts => schedule.max_attempts, backoff => schedule.backoff, tags => schedule.tags,
        metadata => coalesce(schedule.metadata, '{}') || jsonb_build_object('schedule', schedule.name, 'slot', slot),
        ref => schedule.ref
    )).id;
end
$$;

create or replace function @extschema@._record_run(
    schedule @extschema@.schedule, slot timestamptz, moment timestamptz, outcome text, job_id bigint, error text
) returns void
language plpgsql volatile
@settings@
as $$
begin
    insert into @extschema@.schedule_run (schedule_id, slot, fired_at, outcome, job_id, error, tenant)
    values (schedule.id, slot, moment, outcome, job_id, left(error, 1000), schedule.tenant)
    on conflict do nothing;
end
$$;

-- By how much a slot's job is put off: the same each time that it is asked for.
create or replace function @extschema@._jitter(schedule @extschema@.schedule, slot timestamptz) returns interval
language plpgsql immutable
@settings@
as $$
begin
    return schedule.jitter
        * ((hashint8extended(schedule.id, extract(epoch from slot)::bigint) & 1048575) / 1048576.0)::float8;
end
$$;

-- The latest slots from the one that is due until `moment`, as many as are to be caught up, at least one, in order; and
-- the next one after them.
create or replace function @extschema@._due_slots(
    schedule @extschema@.schedule, moment timestamptz, out slots timestamptz[], out next_slot timestamptz
) returns record
language plpgsql stable
@settings@
as $$
declare
    v_wanted integer := greatest(schedule.catch_up, 1);
    -- The slot that is due may be of times that were changed since. Those after it are of the present ones.
    v_first timestamptz := greatest(schedule.next_run_at, schedule.changed_at);
    v_span interval := '1 minute';
    v_whole boolean;
begin
    -- Looks back further and further: somebody may have been away for months, with a slot every second.
    loop
        v_whole := v_first >= moment - v_span;
        slots := case when v_whole then array[schedule.next_run_at] else '{}' end;
        next_slot := @extschema@._next_slot(schedule, case when v_whole then v_first else moment - v_span end);
        while next_slot <= moment loop
            slots := slots || next_slot;
            next_slot := @extschema@._next_slot(schedule, next_slot);
        end loop;
        exit when v_whole or cardinality(slots) >= v_wanted;
        v_span := v_span * 4;
    end loop;
    slots := slots[greatest(1, cardinality(slots) - v_wanted + 1):];
end
$$;
