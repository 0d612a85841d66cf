-- Does what is due of the upkeep: promote, reap, fold lanes, rotate partitions. Every worker calls it all the
-- time, without a leader; those without workers call it from cron. Turns are shared through registers, so that a
-- hundred callers cost about what one does. Returns how many jobs were promoted and reaped by this call, and
-- when the next scheduled job is due (null if none is).
create or replace function @extschema@.maintain(out promoted integer, out reaped integer, out next_run_at timestamptz)
returns record
language plpgsql volatile
as $$
declare
    v_now timestamptz := @extschema@.clock();
begin
    promoted := @extschema@.promote();
    reaped := 0;
    if @extschema@._take_turn('@extschema@.reap_due', v_now, '500 milliseconds') then
        reaped := @extschema@.reap();
        perform @extschema@._end_turn('@extschema@.reap_due', v_now, '500 milliseconds');
    end if;
    if @extschema@._take_turn('@extschema@.lanes_due', v_now, '1 second') then
        perform @extschema@._fold_lanes();
        perform @extschema@._end_turn('@extschema@.lanes_due', v_now, '1 second');
    end if;
    if @extschema@._take_turn('@extschema@.partitions_due', v_now, '10 minutes') then
        perform @extschema@._partitions();
    end if;
    select min(j.run_at) into next_run_at from (
        select j.run_at from @extschema@.job j
        where j.position is null and j.run_at >= @extschema@._read_register('@extschema@.promote_floor')
        order by j.run_at limit 1
    ) j;
end
$$;
