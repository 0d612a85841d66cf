-- Makes up to `count` due scheduled jobs ready, each at the end of its lane; returns how many. The workers'
-- maintenance calls it; any number may run side by side.
create or replace function @extschema@.promote(count integer default 5000) returns integer
language plpgsql volatile
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
    v_rescan boolean := @extschema@._take_turn('@extschema@.promote_rescan', v_now, '10 seconds');
    v_floor timestamptz := '-infinity';
    v_promoted integer;
    v_queues text[];
    v_priorities smallint[];
begin
    -- The floor spares the scan of index entries that are dead but held by an old snapshot. Rows that were
    -- committed or put back below it are found by the rescan.
    if not v_rescan then
        v_floor := @extschema@._read_register('@extschema@.promote_floor');
    end if;
    with due as (
        select j.id from @extschema@.job j
        where j.position is null and j.run_at >= v_floor and j.run_at <= v_now
        order by j.run_at
        limit promote.count
        for update skip locked
    ), ready as (
        update @extschema@.job j set position = nextval('@extschema@.position_seq')
        where j.id = any (array(select d.id from due d))
        returning j.queue, j.priority
    )
    select sum(g.n), array_agg(g.queue), array_agg(g.priority) into v_promoted, v_queues, v_priorities
    from (select r.queue, r.priority, pg_catalog.count(*) as n from ready r group by r.queue, r.priority) g;

    if v_promoted is not null then
        perform @extschema@._enqueued(v_queues, v_priorities);
    end if;
    if coalesce(v_promoted, 0) < promote.count then
        -- A transaction may commit a job that was due seconds ago.
        perform @extschema@._write_register('@extschema@.promote_floor', v_now - interval '5 seconds');
    end if;
    if v_rescan then
        perform @extschema@._end_turn('@extschema@.promote_rescan', v_now, '10 seconds');
    end if;
    return coalesce(v_promoted, 0);
end
$$;
