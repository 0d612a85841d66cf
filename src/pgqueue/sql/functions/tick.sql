-- Fires up to `count` schedules that are due, each of their slots once, whoever else ticks; returns how many jobs it
-- enqueued. maintain() calls it, so workers need nothing else; those without workers call it from cron.
--
-- A schedule's row is locked while it fires, and passed over by others meanwhile. Its next slot is then later than all
-- that fired, so that none fires twice, however late or often anybody ticks, and whatever becomes of the history.
create or replace function @extschema@.tick(count integer default 1000) returns bigint
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
    v_rescan boolean;
    v_floor timestamptz := '-infinity';
    v_fired bigint := 0;
begin
    if @extschema@._all_paused(v_now) then
        return 0;
    end if;
    v_rescan := @extschema@._take_turn('@extschema@.schedule_rescan', v_now, '10 seconds');
    -- Fired slots leave dead index entries below those to come, and under an old snapshot they stay: hence a floor, as
    -- promote() has one. Rows that were committed or given up below it are found by the next rescan.
    if not v_rescan then
        -- Not one from before the clock was set back.
        v_floor := least(@extschema@._read_register('@extschema@.schedule_floor'), v_now - interval '5 seconds');
    end if;
    if exists (select from @extschema@.schedule s where s.next_run_at >= v_floor and s.next_run_at <= v_now) then
        v_fired := @extschema@._fire_due(v_floor, v_now, tick.count);
    end if;
    -- Otherwise nothing is below that was not before, and a tick that waits writes nothing.
    if v_rescan or v_fired > 0 then
        perform @extschema@._write_register('@extschema@.schedule_floor', least(
            v_now - interval '5 seconds',
            (select s.next_run_at from @extschema@.schedule s where s.next_run_at >= v_floor order by s.next_run_at limit 1)
        ));
    end if;
    if v_rescan then
        perform @extschema@._end_turn('@extschema@.schedule_rescan', v_now, '10 seconds');
    end if;
    return v_fired;
end
$$;

create or replace function @extschema@._fire_due(least_at timestamptz, moment timestamptz, count integer) returns bigint
language plpgsql volatile
@settings@
as $$
declare
    v_schedule @extschema@.schedule;
    v_fired bigint := 0;
    v_before text := coalesce(current_setting('pgqueue.tenant', true), '');
begin
    -- One savepoint for all, not one for each: beyond 64 they slow down every snapshot of the whole server.
    begin
        for v_schedule in select * from @extschema@._due_schedules(least_at, moment, count) loop
            v_fired := v_fired + @extschema@._fire(v_schedule, moment);
            exit when v_fired >= count;
        end loop;
        perform set_config('pgqueue.tenant', v_before, true);
        return v_fired;
    exception
        when data_exception or integrity_constraint_violation or program_limit_exceeded or raise_exception
            or sqlstate 'PQ002' or sqlstate 'PQ003' then null;
    end;
    -- One that cannot be enqueued must not hold up the others.
    v_fired := 0;
    for v_schedule in select * from @extschema@._due_schedules(least_at, moment, least(count, 50)) loop
        begin
            v_fired := v_fired + @extschema@._fire(v_schedule, moment);
        exception
            when data_exception or integrity_constraint_violation or program_limit_exceeded or raise_exception
                or sqlstate 'PQ002' or sqlstate 'PQ003' then
                perform @extschema@._record_run(v_schedule, v_schedule.next_run_at, moment, 'failed', null, sqlerrm);
                update @extschema@.schedule s set
                    next_run_at = @extschema@._next_slot(v_schedule, moment), last_run_at = v_schedule.next_run_at
                where s.id = v_schedule.id;
        end;
    end loop;
    perform set_config('pgqueue.tenant', v_before, true);
    return v_fired;
end
$$;

-- Locks schedules that are due, the longest first.
create or replace function @extschema@._due_schedules(least_at timestamptz, moment timestamptz, count integer)
returns setof @extschema@.schedule
language plpgsql volatile
@settings@
as $$
begin
    return query
    select s.* from @extschema@.schedule s
    where s.next_run_at >= least_at and s.next_run_at <= moment
    order by s.next_run_at
    limit _due_schedules.count
    for update skip locked;
end
$$;

-- When the next schedule is due, by the floor; null if none is, or all is paused.
create or replace function @extschema@._next_due() returns timestamptz
language plpgsql volatile
@settings@
as $$
declare
    v_floor timestamptz := @extschema@._read_register('@extschema@.schedule_floor');
    v_now timestamptz := @extschema@.clock();
begin
    if @extschema@._all_paused(v_now) then
        return null;
    end if;
    return (
        select s.next_run_at from @extschema@.schedule s where s.next_run_at >= v_floor order by s.next_run_at limit 1
    );
end
$$;

-- Deletes up to `count` entries of the history that are past the retention; returns how many.
create or replace function @extschema@._prune_runs(moment timestamptz, count integer) returns integer
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
declare
    v_until timestamptz;
    v_pruned integer;
begin
    select moment - s.retention into v_until from @extschema@.setting s where s.only_row;
    delete from @extschema@.schedule_run r where r.ctid = any (array(
        select o.ctid from @extschema@.schedule_run o
        where o.fired_at < v_until order by o.fired_at limit _prune_runs.count for update skip locked
    ));
    get diagnostics v_pruned = row_count;
    return v_pruned;
end
$$;
