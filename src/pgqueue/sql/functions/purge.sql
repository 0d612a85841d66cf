-- Deletes up to `count` waiting jobs (ready and scheduled, never claimed) of a queue, without archiving them;
-- returns how many. Call it again until it returns less than `count`.
create or replace function @extschema@.purge(queue text, kind text default null, count integer default 10000)
returns bigint
language sql volatile
as $$
    with gone as (
        delete from @extschema@.job j where j.id = any (array(
            select j.id from @extschema@.job j
            where j.queue = purge.queue and (purge.kind is null or j.kind = purge.kind) and j.lease_until is null
            order by j.id
            limit purge.count
            for update skip locked
        ))
        returning 1
    )
    select pg_catalog.count(*) from gone
$$;
