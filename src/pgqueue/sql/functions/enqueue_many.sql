-- Stores many jobs in one statement: `jobs` is a JSON array of objects with the parameters of enqueue()
-- as keys (`delay` in seconds). Returns one row per object, in order: its place from 1, its id, and
-- whether that is the id of a job that holds its dedupe key already. All or nothing.
create or replace function @extschema@.enqueue_many(jobs jsonb)
returns table (place bigint, id bigint, duplicate boolean)
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
    v_count integer;
    v_ids bigint[];
    v_positions bigint[];
    v_stored bigint[];
    v_setting @extschema@.setting;
    v_queues text[];
    v_priorities smallint[];
    v_hashes bytea[];
begin
    select s.* into v_setting from @extschema@.setting s where s.only_row;
    perform @extschema@._check_jobs(jobs, v_setting.max_payload_bytes);
    v_count := jsonb_array_length(jobs);
    v_ids := array(select nextval('@extschema@.job_id_seq') from generate_series(1, v_count));
    v_positions := array(select nextval('@extschema@.position_seq') from generate_series(1, v_count));

    with incoming as (
        select v_ids[n.ordinality] as id, v_positions[n.ordinality] as position, n.kind, n.payload,
            coalesce(n.queue, 'default') as queue, coalesce(n.priority, 5::smallint) as priority,
            n.max_attempts, n.backoff, n.dedupe_key, n.dedupe_until, n.tags, n.metadata, n.ref,
            @extschema@._dedupe_hash(n.kind, n.dedupe_key) as hash,
            coalesce(n.run_at, v_now + n.delay * interval '1 second', v_now) as run_at
        from rows from (jsonb_to_recordset(jobs) as (
            kind text, payload jsonb, queue text, priority smallint, run_at timestamptz, delay float8,
            max_attempts integer, backoff jsonb, dedupe_key text, dedupe_until text, tags text[],
            metadata jsonb, ref text
        )) with ordinality n
    ), stored as (
        insert into @extschema@.job (
            id, position, run_at, enqueued_at, queue, kind, priority, payload, max_attempts, backoff,
            dedupe_key, dedupe_until, dedupe_hash, tags, metadata, ref
        )
        select i.id, case when i.run_at <= v_now then i.position end, i.run_at, v_now,
            i.queue, i.kind, i.priority, coalesce(i.payload, '{}'), coalesce(i.max_attempts, v_setting.max_attempts),
            i.backoff, i.dedupe_key, case when i.dedupe_key is not null then coalesce(i.dedupe_until, 'finish') end,
            i.hash, i.tags, i.metadata, i.ref
        from incoming i
        -- In one order for all, since each waits for others that are about to take the same keys.
        order by i.hash, i.id
        on conflict (dedupe_hash) where dedupe_hash is not null do nothing
        returning id, queue, priority, position
    ), lanes as (
        select distinct queue, priority from stored where position is not null
    )
    select (select array_agg(id) from stored), array_agg(queue), array_agg(priority)
    into v_stored, v_queues, v_priorities
    from lanes;

    if v_queues is not null then
        perform @extschema@._enqueued(v_queues, v_priorities);
    end if;
    if coalesce(cardinality(v_stored), 0) = v_count then
        return query select n.place, n.id, false from unnest(v_ids) with ordinality n (id, place);
        return;
    end if;
    -- Those whose key is held go through enqueue(), in the same order.
    return query
    with held as materialized (
        select n.place, n.id, jobs -> (n.place - 1)::integer as job
        from unnest(v_ids) with ordinality n (id, place)
        where n.id not in (select unnest(v_stored))
        order by @extschema@._dedupe_hash(jobs -> (n.place - 1)::integer ->> 'kind', jobs -> (n.place - 1)::integer ->> 'dedupe_key'), n.id
    )
    select n.place, coalesce(c.id, n.id), coalesce(c.duplicate, false)
    from unnest(v_ids) with ordinality n (id, place)
    left join (
        select h.place, e.id, e.duplicate from held h cross join lateral @extschema@._enqueue_object(h.job) e
    ) c on c.place = n.place
    order by n.place;
end
$$;

-- One object of enqueue_many() through enqueue(): the way of those whose key is held.
create or replace function @extschema@._enqueue_object(job jsonb, out id bigint, out duplicate boolean)
returns record
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
begin
    select e.id, e.duplicate into id, duplicate
    from jsonb_to_record(job) as n (
        kind text, payload jsonb, queue text, priority integer, run_at timestamptz, delay float8,
        max_attempts integer, backoff jsonb, dedupe_key text, dedupe_until text, on_conflict text,
        tags text[], metadata jsonb, ref text
    ), lateral @extschema@.enqueue(
        n.kind, n.payload, n.queue, n.priority, n.run_at, n.delay * interval '1 second', n.max_attempts,
        n.backoff, n.dedupe_key, n.dedupe_until, n.on_conflict, n.tags, n.metadata, n.ref
    ) e;
end
$$;

create or replace function @extschema@._check_jobs(jobs jsonb, max_payload_bytes integer) returns void
language plpgsql volatile
@settings@
as $$
declare
    v_bad record;
begin
    if jsonb_typeof(jobs) is distinct from 'array' then
        raise exception 'jobs is %; pass a JSON array of objects', coalesce('a JSON ' || jsonb_typeof(jobs), 'null')
            using errcode = 'PQ002';
    end if;
    select c.place, c.problem into v_bad
    from jsonb_array_elements(jobs) with ordinality n (job, place)
    cross join lateral (select n.place, case
        when jsonb_typeof(n.job) <> 'object' then 'it is no object'
        when octet_length((n.job -> 'payload')::text) > max_payload_bytes
            then 'its payload is over the limit of ' || max_payload_bytes || ' bytes'
        when (n.job ->> 'delay')::float8 < 0 then 'its delay is negative'
        when n.job ->> 'delay' is not null and n.job ->> 'run_at' is not null then 'it has both run_at and delay'
        when n.job ->> 'on_conflict' not in ('return', 'replace', 'raise') then 'its on_conflict is not return, replace or raise'
    end as problem) c
    where c.problem is not null
    limit 1;
    if found then
        raise exception 'job % of the batch cannot be stored: %; nothing was stored', v_bad.place, v_bad.problem
            using errcode = case when v_bad.problem like '%payload%' then 'PQ003' else 'PQ002' end;
    end if;
end
$$;
