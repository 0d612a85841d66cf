-- Deletes waiting and finished jobs for good; returns how many. Those that are claimed stay.
create or replace function @extschema@.delete(ids bigint[]) returns bigint
language plpgsql volatile
@settings@
as $$
declare
    v_waiting bigint;
    v_finished bigint;
begin
    -- In the order in which cancel() locks them.
    with locked as materialized (
        select j.id from @extschema@.job j where j.id = any (ids) and j.lease_until is null
        order by j.dedupe_hash, j.id
        for update
    )
    delete from @extschema@.job j
    where j.id = any (array(select l.id from locked l)) and j.lease_until is null;
    get diagnostics v_waiting = row_count;
    with locked as materialized (
        select a.id from @extschema@.archive a where a.id = any (ids) order by a.id for update
    )
    delete from @extschema@.archive a where a.id = any (array(select l.id from locked l));
    get diagnostics v_finished = row_count;
    return v_waiting + v_finished;
end
$$;
