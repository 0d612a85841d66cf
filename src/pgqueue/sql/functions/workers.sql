-- The workers that are registered, the latest started first, and what each has claimed now. `silent` is the time since its last
-- beat: they come every ten seconds, so that one that is silent for over thirty is dead, stopped or cut off. `jobs` are
-- its claimed jobs, the longest first, at most 20, of `claimed`: [{"id", "queue", "kind", "attempt", "claimed_at",
-- "lease_until"}]. Claims are looked for in the first 500 lanes of its queues, and in the first 1,000 places of each.
create or replace function @extschema@.workers()
returns table (
    id text, host text, pid bigint, version text, started_at timestamptz, beat_at timestamptz, silent interval,
    queues text[], kinds text[], concurrency integer, running integer, full_kinds text[], stopping boolean,
    claimed bigint, jobs jsonb
)
language plpgsql stable
@settings@
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
begin
    return query
    with held as materialized (
        select c.worker, count(*) as claimed, jsonb_agg(
            jsonb_build_object('id', c.id, 'queue', c.queue, 'kind', c.kind, 'attempt', c.attempt,
                'claimed_at', c.claimed_at, 'lease_until', c.lease_until)
            order by c.claimed_at, c.id
        ) filter (where c.place <= 20) as jobs
        from (
            select f.*, row_number() over (partition by f.worker order by f.claimed_at, f.id) as place
            from @extschema@._claims(array(select distinct q.name from @extschema@.worker w cross join unnest(w.queues) q (name))) f
        ) c
        group by c.worker
    )
    select w.id, w.host, w.pid, w.version, w.started_at, w.beat_at, greatest(v_now - w.beat_at, '0'), w.queues, w.kinds,
        w.concurrency, w.running, w.full_kinds, w.stopping, coalesce(h.claimed, 0), coalesce(h.jobs, '[]')
    from @extschema@.worker w left join held h on h.worker = w.id
    order by w.started_at desc, w.id;
end
$$;

-- The claimed jobs of these queues, by their lanes' marks: of the first 500 lanes, and the first 1,000 places of each.
create or replace function @extschema@._claims(queues text[])
returns table (
    id bigint, queue text, kind text, worker text, attempt integer, claimed_at timestamptz, lease_until timestamptz
)
language plpgsql stable
@settings@
as $$
#variable_conflict use_column
begin
    return query
    select j.id, l.queue, j.kind::text, j.worker, j.attempt, j.claimed_at, j.lease_until
    from (
        select l.queue, l.priority, max(l.head) as head, max(l.bottom) as bottom
        from @extschema@.lane l where l.queue = any (_claims.queues)
        group by l.queue, l.priority order by l.queue, l.priority limit 500
    ) l
    cross join lateral (
        select j.* from (
            select j.id, j.kind, j.worker, j.attempt, j.claimed_at, j.lease_until from @extschema@.job j
            where j.queue = l.queue and j.priority = l.priority and j.position >= l.bottom and j.position <= l.head
            order by j.position limit 1000
        ) j where j.lease_until is not null
    ) j;
end
$$;
