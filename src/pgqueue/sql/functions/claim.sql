-- Takes up to `count` ready jobs for `lease`: the attempt is counted and a fresh token written. Rows come
-- back complete, in no particular order. Ack, fail or extend them with (id, token) before the lease ends,
-- or they run again.
--
-- Lanes are visited in the order of `queues`, then by priority, 0 first, each from its oldest job on; one
-- claim in sixteen, at random, visits the lane with the oldest job first instead, so that a saturated
-- priority 0 cannot starve 9; a quarter of these visit the lanes in any order, since that oldest job may be locked, by
-- a claim whose transaction stays open, say. `kinds` limits the claim to what the caller can run; null is any.
--
-- `floors` are the caller's own hints, ten per queue by priority: no job it wants stands below. Null is the
-- database's hint, 0 the very bottom. The scan of dead index entries below the floor is what they save;
-- why and how much: docs/architecture.md.
create or replace function @extschema@.claim(
    queues text[] default '{default}',
    count integer default 1,
    lease interval default '30 seconds',
    kinds text[] default null,
    worker text default null,
    floors bigint[] default null
) returns table (
    id bigint, token bigint, queue text, kind text, payload jsonb, priority smallint, attempt integer,
    max_attempts integer, run_at timestamptz, enqueued_at timestamptz, claimed_at timestamptz,
    lease_until timestamptz, "position" bigint, dedupe_key text, tags text[], metadata jsonb, ref text
)
language plpgsql volatile
rows 100
@settings@
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
    -- 53 random bits: no sequence that a failover could set back, and exact in every JSON reader. Of the
    -- operating system's, because random() repeats itself where somebody calls setseed().
    v_token bigint := hashtextextended(gen_random_uuid()::text, 0) & 9007199254740991;
    v_lease_until timestamptz := @extschema@._after(v_now, lease);
    v_chance float8 := random();
    v_oldest_first boolean := v_chance < 0.0625;
    v_any_first boolean := v_chance < 0.015625;
    v_rows tid[];
    v_above_head boolean;
begin
    if lease <= interval '0' or lease is null then
        raise exception 'lease % is not positive', lease using errcode = 'PQ002';
    end if;
    -- Not every language has a later time: the claim would be committed, and its rows unreadable.
    if v_lease_until >= '9999-01-01 00:00Z' then
        raise exception 'lease % does not end before the year 9999', lease using errcode = 'PQ002';
    end if;
    if count < 0 or count is null then
        raise exception 'count is %; use zero or more', count using errcode = 'PQ002';
    end if;

    -- Rows are locked one by one as the outer limit asks for them, and so never more than `count`.
    select array_agg(c.ctid), bool_or(c.above_head) into v_rows, v_above_head
    from (
        select j.ctid, j.position > l.head as above_head
        from (
            select l.queue, l.priority, max(l.head) as head,
                coalesce(claim.floors[(q.place - 1) * 10 + l.priority + 1], max(l.floor)) as floor
            from unnest(claim.queues) with ordinality q (name, place)
            join @extschema@.lane l on l.queue = q.name
            where not exists (
                select from @extschema@.queue p where p.name in (q.name, '*') and p.paused_until > v_now
            )
            group by l.queue, l.priority, q.place
            order by
                case when v_any_first then random() end,
                case when v_oldest_first then (
                    select min(j.position) from (
                        select j.position from @extschema@.job j
                        where j.queue = l.queue and j.priority = l.priority
                            and j.position >= coalesce(claim.floors[(q.place - 1) * 10 + l.priority + 1], max(l.floor))
                            and j.lease_until is null
                            and (claim.kinds is null or j.kind = any (claim.kinds))
                        order by j.position limit 1
                    ) j
                ) end,
                q.place, l.priority
        ) l
        cross join lateral (
            select j.ctid, j.position from @extschema@.job j
            where j.queue = l.queue and j.priority = l.priority and j.position >= l.floor
                and j.lease_until is null
                and (claim.kinds is null or j.kind = any (claim.kinds))
            order by j.position
            limit claim.count
            for update skip locked
        ) j
        limit claim.count
    ) c;
    if v_rows is null then
        return;
    end if;

    if v_above_head then
        -- Inserted, not updated, and well ahead: the reaper's bound costs one row in ten thousand jobs.
        insert into @extschema@.lane (queue, priority, head)
        select j.queue, j.priority, max(j.position) + 10000 from @extschema@.job j
        where j.ctid = any (v_rows)
        group by j.queue, j.priority;
    end if;

    -- By their places, which cannot change while they are locked: it spares the search of the primary key.
    return query
    update @extschema@.job j set
        token = v_token,
        lease_until = v_lease_until,
        claimed_at = v_now,
        attempt = j.attempt + 1,
        worker = claim.worker,
        dedupe_hash = case when j.dedupe_until = 'start' then null else j.dedupe_hash end
    where j.ctid = any (v_rows) and j.lease_until is null
    returning j.id, j.token, j.queue::text, j.kind::text, j.payload, j.priority::smallint, j.attempt,
        j.max_attempts::integer, j.run_at::timestamptz, j.enqueued_at, j.claimed_at, j.lease_until, j.position, j.dedupe_key,
        j.tags, j.metadata, j.ref;
end
$$;
