-- Folds the marks of each lane into one row and moves its hints: bottom to the lowest unfinished job, floor to
-- the lowest ready one. Hints are written only when they moved by 10,000 positions, so that an old snapshot
-- keeps few versions of them.
--
-- A rescan takes the hints afresh from the very bottom, which also moves them down to jobs that were
-- committed late or put back. And it compares the marks with the jobs: lanes out of use are forgotten (or
-- a queue per customer would slow down every reap for ever), and one that was forgotten while a
-- transaction, still open then, relied on its mark is found again. So no job stays unseen.
--
-- Where a job has been ready for half a second while workers sleep, they are rung once more: a ring that went to
-- workers that died, or came from a transaction that was seen late, costs a second then, and no worker need poll for it.
create or replace function @extschema@._fold_lanes(rescan boolean default true) returns void
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
declare
    v_stale_at timestamptz := @extschema@.clock() - interval '0.5 seconds';
    v_last bigint := coalesce(pg_sequence_last_value('@extschema@.position_seq'), 0);
    v_lane record;
    v_floor bigint;
    v_bottom bigint;
    v_unused boolean;
    v_ready record;
    v_stale text[];
begin
    for v_lane in
        with recursive found as (
            -- From lane to lane, each by one probe of the index.
            (
                select j.queue, j.priority, j.position from @extschema@.job j
                where j.position is not null and _fold_lanes.rescan
                order by j.queue, j.priority, j.position limit 1
            )
            union all
            select n.queue, n.priority, n.position from found f cross join lateral (
                select j.queue, j.priority, j.position from @extschema@.job j
                where j.position is not null and (j.queue, j.priority) > (f.queue, f.priority)
                order by j.queue, j.priority, j.position limit 1
            ) n
        ), marked as (
            select l.queue, l.priority, max(l.head) as head, max(l.floor) as floor, max(l.bottom) as bottom,
                count(*) as marks
            from @extschema@.lane l group by l.queue, l.priority
        )
        select queue, priority, m.head, m.floor, m.bottom, m.marks, f.position as lowest
        from marked m full join found f using (queue, priority)
    loop
        if v_lane.marks is null then
            perform @extschema@._enqueued(array[v_lane.queue], array[v_lane.priority]);
            continue;
        end if;
        v_bottom := v_lane.lowest;
        if not rescan then
            select j.position into v_bottom from @extschema@.job j
            where j.queue = v_lane.queue and j.priority = v_lane.priority and j.position >= v_lane.bottom
            order by j.position limit 1;
        end if;
        v_unused := rescan and v_bottom is null and v_lane.head < v_last - 10000;
        -- What is drawn now may be committed later, so an empty lane's hints stay this far below.
        v_bottom := coalesce(v_bottom, greatest(v_lane.bottom, v_last - 10000));
        v_floor := case when rescan then v_bottom else greatest(v_bottom, v_lane.floor) end;
        select j.position, j.run_at into v_ready from @extschema@.job j
        where j.queue = v_lane.queue and j.priority = v_lane.priority and j.position >= v_floor and j.lease_until is null
        order by j.position limit 1;
        v_floor := coalesce(v_ready.position, greatest(v_floor, v_last - 10000));
        if v_ready.run_at < v_stale_at then
            v_stale := v_stale || v_lane.queue;
        end if;
        if v_unused or v_lane.marks > 1
            or v_floor not between v_lane.floor and v_lane.floor + 10000
            or v_bottom not between v_lane.bottom and v_lane.bottom + 10000
        then
            with old as (
                delete from @extschema@.lane l
                where l.ctid = any (array(
                    select l.ctid from @extschema@.lane l
                    where l.queue = v_lane.queue and l.priority = v_lane.priority and l.head <= v_lane.head
                    for update skip locked
                ))
                returning l.head
            )
            insert into @extschema@.lane (queue, priority, head, floor, bottom)
            select v_lane.queue, v_lane.priority, max(o.head), v_floor, v_bottom from old o
            having count(*) > 0 and not v_unused;
        end if;
    end loop;
    if v_stale is not null then
        perform @extschema@._ring(array(
            select s.name from unnest(v_stale) s (name)
            where not exists (select from @extschema@.queue p where p.name in (s.name, '*') and p.paused_until > v_stale_at)
        ), v_stale_at);
    end if;
end
$$;
