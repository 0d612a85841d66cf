-- Ends up to `count` claims whose lease ran out: their jobs run again after their backoff (counted from the
-- claim), or are dead once their attempts are used up, or cancelled if that was asked for. Returns how many. The
-- workers' maintenance calls it; any number may run side by side.
--
-- No index holds leases, since then every claim would write it. Claimed jobs stand in their lanes between
-- the lane's bottom and its head, so that region is what is read. With `rescan` it begins at the very bottom:
-- the lane's is a hint, and jobs that were committed late stand below it.
create or replace function @extschema@.reap(count integer default 1000, rescan boolean default true) returns integer
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
    v_ids bigint[];
begin
    select array_agg(c.id order by c.id) into v_ids
    from (
        select j.id
        from (
            select l.queue, l.priority, max(l.head) as head,
                case when reap.rescan then 0 else max(l.bottom) end as bottom
            from @extschema@.lane l
            group by l.queue, l.priority
        ) l
        cross join lateral (
            select j.id from @extschema@.job j
            where j.queue = l.queue and j.priority = l.priority
                and j.position >= l.bottom and j.position <= l.head
                and j.lease_until < v_now
            order by j.position
            for update skip locked
        ) j
        limit reap.count
    ) c;
    if v_ids is not null then
        perform @extschema@._put_back(v_ids, 'expired', null, (
            select jsonb_agg(jsonb_build_object(
                'class', 'LeaseExpired',
                'message', 'the worker neither finished nor renewed its lease in time: killed, stuck or cut off'
            ))
            from unnest(v_ids)
        ));
    end if;
    return coalesce(cardinality(v_ids), 0);
end
$$;
