-- Does what is due of the upkeep: fire schedules, promote, reap, fold lanes, count minutes, rotate partitions. Every worker calls it
-- all the time, without a leader; those without workers call it from cron. Turns are shared through registers, so that a
-- hundred callers cost about what one does. Returns how many jobs were promoted and reaped by this call, and
-- when the next scheduled job or schedule is due (null if none is).
--
-- Call it in a transaction of its own: it may lock the archive until the end of it. A step that raises has taken
-- its turn all the same (registers know no rollback), so the next calls do the other steps.
--
-- `count` bounds the jobs that are promoted, and those that are reaped, and the schedules: where a statement_timeout ends the call,
-- call it again with fewer.
create or replace function @extschema@.maintain(
    count integer default 5000, out promoted integer, out reaped integer, out next_run_at timestamptz
) returns record
language plpgsql volatile
@settings@
as $$
declare
    v_now timestamptz := @extschema@.clock();
    v_floor timestamptz;
    v_most_reaped integer := least(maintain.count, 1000);
    v_most_pruned integer := least(maintain.count, 1000);
    -- Not where grant_access() was not called again yet since an upgrade: the rest must go on.
    v_schedules boolean := has_table_privilege('@extschema@.schedule', 'delete');
    v_pokes boolean := has_table_privilege('@extschema@.poke_request', 'delete');
    v_minutes boolean := has_table_privilege('@extschema@.attempt_end', 'delete');
begin
    if v_schedules then
        perform @extschema@.tick(least(maintain.count, 200));
        if @extschema@._take_turn('@extschema@.schedule_runs_due', v_now, '10 seconds') then
            if v_pokes then
                perform @extschema@._prune_pokes(v_now, v_most_pruned);
            end if;
            if @extschema@._prune_runs(v_now, v_most_pruned) = v_most_pruned then
                perform @extschema@._write_register('@extschema@.schedule_runs_due', v_now);
            else
                perform @extschema@._end_turn('@extschema@.schedule_runs_due', v_now, '10 seconds');
            end if;
        end if;
    end if;

    -- A rescan costs what the dead index entries under an old snapshot cost, so each one has a pace of its own.
    if @extschema@._take_turn('@extschema@.promote_rescan', v_now, '10 seconds') then
        promoted := @extschema@.promote(maintain.count, true);
        perform @extschema@._end_turn('@extschema@.promote_rescan', v_now, '10 seconds');
    else
        promoted := @extschema@.promote(maintain.count, false);
    end if;

    v_now := @extschema@.clock();
    reaped := 0;
    if @extschema@._take_turn('@extschema@.reap_rescan', v_now, '10 seconds') then
        reaped := @extschema@.reap(v_most_reaped, true);
        perform @extschema@._end_turn('@extschema@.reap_rescan', v_now, '10 seconds');
    elsif @extschema@._take_turn('@extschema@.reap_due', v_now, '500 milliseconds') then
        reaped := @extschema@.reap(v_most_reaped, false);
        perform @extschema@._end_turn('@extschema@.reap_due', v_now, '500 milliseconds');
    end if;
    if reaped = v_most_reaped then
        perform @extschema@._write_register('@extschema@.reap_due', v_now);
    end if;

    v_now := @extschema@.clock();
    if @extschema@._take_turn('@extschema@.lanes_rescan', v_now, '10 seconds') then
        perform @extschema@._fold_lanes(true);
        -- What was left by workers that died.
        delete from @extschema@.sleeper s where s.ctid = any (array(
            select s.ctid from @extschema@.sleeper s where s.until < v_now - interval '1 hour' for update skip locked
        ));
        perform @extschema@._end_turn('@extschema@.lanes_rescan', v_now, '10 seconds');
    elsif @extschema@._take_turn('@extschema@.lanes_due', v_now, '1 second') then
        perform @extschema@._fold_lanes(false);
        perform @extschema@._end_turn('@extschema@.lanes_due', v_now, '1 second');
    end if;

    v_floor := @extschema@._read_register('@extschema@.promote_floor');
    select j.run_at into next_run_at from @extschema@.job j
    where j.position is null and j.run_at >= v_floor
    order by j.run_at limit 1;
    if v_schedules then
        next_run_at := least(next_run_at, @extschema@._next_due());
    end if;

    -- The longest step, and so the last of those that others wait for.
    if v_minutes and @extschema@._take_turn('@extschema@.minutes_due', v_now, '1 minute') then
        perform @extschema@._count_minutes();
        -- 15 s after the next minute is over, so that what belongs to it is committed.
        perform @extschema@._end_turn('@extschema@.minutes_due', v_now, date_bin('1 minute', v_now, '2000-01-01 00:00Z') + interval '75 seconds' - v_now);
    end if;

    if @extschema@._take_turn('@extschema@.partitions_due', v_now, '10 minutes') then
        perform @extschema@._partitions();
    end if;
end
$$;
