-- One row per queue that has unfinished or dead jobs or is paused: counts by state, and how long its oldest
-- ready job has waited. It counts rows: a second per few million.
create or replace function @extschema@.stats()
returns table (
    queue text, ready bigint, scheduled bigint, claimed bigint, dead bigint, oldest_wait interval, paused_until timestamptz
)
language plpgsql volatile
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
begin
    return query
    select n.name, coalesce(j.ready, 0), coalesce(j.scheduled, 0), coalesce(j.claimed, 0), coalesce(d.dead, 0),
        v_now - j.oldest, q.paused_until
    from (
        select distinct l.queue from @extschema@.lane l
        union select q.name from @extschema@.queue q
        union select distinct j.queue from @extschema@.job j
        union select distinct a.queue from @extschema@.archive_dead a
    ) n (name)
    left join (
        select j.queue,
            count(*) filter (where j.position is not null and j.lease_until is null) as ready,
            count(*) filter (where j.position is null) as scheduled,
            count(*) filter (where j.lease_until is not null) as claimed,
            min(j.run_at) filter (where j.position is not null and j.lease_until is null) as oldest
        from @extschema@.job j group by j.queue
    ) j on j.queue = n.name
    left join (select a.queue, count(*) as dead from @extschema@.archive_dead a group by a.queue) d on d.queue = n.name
    left join @extschema@.queue q on q.name = n.name and q.paused_until > v_now
    order by n.name;
end
$$;
