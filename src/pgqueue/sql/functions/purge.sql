-- Deletes up to `count` jobs of a queue that wait (ready or scheduled), without archiving them; returns how
-- many. Call it again until it returns less than `count`.
create or replace function @extschema@.purge(queue text, kind text default null, count integer default 10000)
returns bigint
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
declare
    v_ready bigint;
    v_scheduled bigint;
begin
    -- Ready and scheduled jobs have an index each.
    delete from @extschema@.job j where j.id = any (array(
        select j.id from @extschema@.job j
        where j.queue = purge.queue and j.position is not null and j.lease_until is null
            and (purge.kind is null or j.kind = purge.kind)
        order by j.priority, j.position
        limit purge.count
        for update skip locked
    ));
    get diagnostics v_ready = row_count;
    delete from @extschema@.job j where j.id = any (array(
        select j.id from @extschema@.job j
        where j.queue = purge.queue and j.position is null
            and (purge.kind is null or j.kind = purge.kind)
        order by j.run_at
        limit purge.count - v_ready
        for update skip locked
    ));
    get diagnostics v_scheduled = row_count;
    return v_ready + v_scheduled;
end
$$;
