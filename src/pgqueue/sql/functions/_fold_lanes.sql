-- Folds the marks of each lane into one row and moves its hints: floor to the lowest ready job, bottom to the
-- lowest unfinished one. Hints are written only when they moved by 10,000 positions, so that an old snapshot
-- keeps few versions of them; from time to time they are taken afresh from the very bottom, which also
-- moves them down to jobs that were committed late or put back.
create or replace function @extschema@._fold_lanes() returns void
language plpgsql volatile
as $$
#variable_conflict use_column
declare
    v_started timestamptz := @extschema@.clock();
    v_rescan boolean := @extschema@._take_turn('@extschema@.lanes_rescan', v_started, '10 seconds');
    -- What is drawn now may be committed later, so an empty lane's hints stay this far below.
    v_safe bigint := coalesce(pg_sequence_last_value('@extschema@.position_seq'), 0) - 10000;
    v_lane record;
    v_floor bigint;
    v_bottom bigint;
begin
    for v_lane in
        select l.queue, l.priority, max(l.head) as head, max(l.floor) as floor, max(l.bottom) as bottom, pg_catalog.count(*) as marks
        from @extschema@.lane l group by l.queue, l.priority
    loop
        v_floor := case when v_rescan then 0 else v_lane.floor end;
        v_bottom := case when v_rescan then 0 else v_lane.bottom end;
        v_floor := coalesce((
            select j.position from @extschema@.job j
            where j.queue = v_lane.queue and j.priority = v_lane.priority and j.position >= v_floor and j.lease_until is null
            order by j.position limit 1
        ), greatest(v_floor, v_safe));
        v_bottom := coalesce((
            select j.position from @extschema@.job j
            where j.queue = v_lane.queue and j.priority = v_lane.priority and j.position >= v_bottom
            order by j.position limit 1
        ), greatest(v_bottom, v_safe));
        if v_lane.marks > 1
            or v_floor not between v_lane.floor and v_lane.floor + 10000
            or v_bottom not between v_lane.bottom and v_lane.bottom + 10000
        then
            with old as (
                delete from @extschema@.lane l
                where l.ctid = any (array(
                    select l.ctid from @extschema@.lane l
                    where l.queue = v_lane.queue and l.priority = v_lane.priority
                    for update skip locked
                ))
                returning l.head
            )
            insert into @extschema@.lane (queue, priority, head, floor, bottom)
            select v_lane.queue, v_lane.priority, max(o.head), v_floor, v_bottom from old o
            having pg_catalog.count(*) > 0;
        end if;
    end loop;
    if v_rescan then
        perform @extschema@._end_turn('@extschema@.lanes_rescan', v_started, '10 seconds');
    end if;
end
$$;
