-- One row per queue that has unfinished or dead jobs, was in use lately, or is paused: counts by state, and how
-- long its oldest ready job has waited. It counts rows: a second per few million.
create or replace function @extschema@.stats()
returns table (
    queue text, ready bigint, scheduled bigint, claimed bigint, dead bigint, oldest_wait interval, paused_until timestamptz
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
    v_all_until timestamptz := (
        select q.paused_until from @extschema@.queue q where q.name = '*' and q.paused_until > v_now
    );
begin
    return query
    select queue, coalesce(j.ready, 0), coalesce(j.scheduled, 0), coalesce(j.claimed, 0), coalesce(d.dead, 0),
        v_now - j.oldest, greatest(q.paused_until, v_all_until)
    from (
        select j.queue,
            count(*) filter (where j.position is not null and j.lease_until is null) as ready,
            count(*) filter (where j.position is null) as scheduled,
            count(*) filter (where j.lease_until is not null) as claimed,
            min(j.run_at) filter (where j.position is not null and j.lease_until is null) as oldest
        from @extschema@.job j group by j.queue
    ) j
    full join (select a.queue, count(*) as dead from @extschema@.archive a where a.state = 'dead' group by a.queue) d using (queue)
    full join (select distinct l.queue from @extschema@.lane l) l using (queue)
    full join (
        select q.name as queue, q.paused_until from @extschema@.queue q where q.paused_until > v_now and q.name <> '*'
    ) q using (queue)
    order by queue;
end
$$;
