-- Makes up to `count` due scheduled jobs ready, each at the end of its lane; returns how many. The workers'
-- maintenance calls it; any number may run side by side.
--
-- Without `rescan` it starts from a floor, which spares the scan of index entries that are dead but held by
-- an old snapshot. Rows that were committed or put back below it are found by the next rescan.
create or replace function @extschema@.promote(count integer default 5000, rescan boolean default true) returns integer
language plpgsql volatile
@settings@
set enable_nestloop = off
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
    v_register timestamptz := @extschema@._read_register('@extschema@.promote_floor');
    v_floor timestamptz := case when rescan then '-infinity' else v_register end;
    v_promoted integer;
    v_last_run_at timestamptz;
    v_queues text[];
    v_priorities smallint[];
begin
    with due as (
        select j.id, j.run_at from @extschema@.job j
        where j.position is null and j.run_at >= v_floor and j.run_at <= v_now
        order by j.run_at
        limit promote.count
        for update skip locked
    ), placed as (
        select d.id, nextval('@extschema@.position_seq') as position from due d
    ), ready as (
        update @extschema@.job j set position = p.position
        from placed p
        where j.id = any (array(select d.id from due d)) and j.id = p.id
        returning j.queue, j.priority, j.run_at
    )
    select sum(g.n), max(g.last_run_at), array_agg(g.queue), array_agg(g.priority)
    into v_promoted, v_last_run_at, v_queues, v_priorities
    from (
        select r.queue, r.priority, count(*) as n, max(r.run_at) as last_run_at
        from ready r group by r.queue, r.priority
    ) g;

    if v_promoted is not null then
        perform @extschema@._enqueued(v_queues, v_priorities);
    end if;
    -- A transaction may commit a job that was due seconds ago.
    v_floor := least(v_now - interval '5 seconds', case when v_promoted = promote.count then v_last_run_at end);
    -- Only where it has moved: to write takes a transaction id and a wait for the disk, from each idle worker twice
    -- a second.
    if v_floor not between v_register and v_register + interval '1 second' then
        perform @extschema@._write_register('@extschema@.promote_floor', v_floor);
    end if;
    return coalesce(v_promoted, 0);
end
$$;
