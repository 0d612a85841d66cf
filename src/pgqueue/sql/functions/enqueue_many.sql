-- Stores many jobs in one statement: `jobs` is a JSON array of objects with the parameters of enqueue()
-- as keys (`delay` in seconds). Returns one row per object, in order: its place from 1, its id, and
-- whether that is the id of a job that holds its dedupe key already. All or nothing.
create or replace function @extschema@.enqueue_many(jobs jsonb)
returns table (place bigint, id bigint, duplicate boolean)
language plpgsql volatile
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
    v_count integer := jsonb_array_length(jobs);
    v_ids bigint[];
    v_stored bigint[];
    v_setting @extschema@.setting;
    v_queues text[];
    v_priorities smallint[];
begin
    select s.* into v_setting from @extschema@.setting s;
    perform @extschema@._check_jobs(jobs, v_setting.max_payload_bytes);
    v_ids := array(select nextval('@extschema@.job_id_seq') from generate_series(1, v_count));

    with incoming as (
        select v_ids[n.ordinality] as id, n.kind, n.payload, coalesce(n.queue, 'default') as queue,
            coalesce(n.priority, 5::smallint) as priority, n.max_attempts, n.backoff, n.dedupe_key,
            n.dedupe_until, n.tags, n.metadata, n.ref,
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
        select i.id, case when i.run_at <= v_now then nextval('@extschema@.position_seq') end, i.run_at, v_now,
            i.queue, i.kind, i.priority, coalesce(i.payload, '{}'), coalesce(i.max_attempts, v_setting.max_attempts),
            i.backoff, i.dedupe_key, case when i.dedupe_key is not null then coalesce(i.dedupe_until, 'finish') end,
            @extschema@._dedupe_hash(i.kind, i.dedupe_key), i.tags, i.metadata, i.ref
        from incoming i
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
    if cardinality(v_stored) = v_count then
        return query select n.place, n.id, false from unnest(v_ids) with ordinality n (id, place);
    else
        return query
        select n.place, coalesce(c.id, n.id), coalesce(c.duplicate, false)
        from unnest(v_ids) with ordinality n (id, place)
        left join lateral @extschema@._enqueue_object(jobs -> (n.place - 1)::integer) c
            on true
        where not (n.id = any (v_stored)) or v_stored is null
        union all
        select n.place, n.id, false from unnest(v_ids) with ordinality n (id, place)
        where n.id = any (v_stored)
        order by 1;
    end if;
end
$$;

-- One object of enqueue_many() through enqueue(): the way of those whose key is held.
create or replace function @extschema@._enqueue_object(job jsonb, out id bigint, out duplicate boolean)
returns record
language sql volatile
as $$
    select e.id, e.duplicate
    from jsonb_to_record(job) as n (
        kind text, payload jsonb, queue text, priority integer, run_at timestamptz, delay float8,
        max_attempts integer, backoff jsonb, dedupe_key text, dedupe_until text, on_conflict text,
        tags text[], metadata jsonb, ref text
    ), lateral @extschema@.enqueue(
        n.kind, coalesce(n.payload, '{}'), coalesce(n.queue, 'default'), coalesce(n.priority, 5), n.run_at,
        n.delay * interval '1 second', n.max_attempts, n.backoff, n.dedupe_key,
        coalesce(n.dedupe_until, 'finish'), coalesce(n.on_conflict, 'return'), n.tags, n.metadata, n.ref
    ) e
$$;

create or replace function @extschema@._check_jobs(jobs jsonb, max_payload_bytes integer) returns void
language plpgsql volatile
as $$
declare
    v_place bigint;
    v_problem text;
begin
    if jsonb_typeof(jobs) <> 'array' then
        raise exception 'jobs is a JSON %; pass an array of objects', jsonb_typeof(jobs) using errcode = 'PQ002';
    end if;
    select n.place, case
        when octet_length((n.job -> 'payload')::text) > max_payload_bytes then 'its payload is over the limit of ' || max_payload_bytes || ' bytes'
        when (n.job ->> 'delay')::float8 < 0 then 'its delay is negative'
        when n.job ->> 'on_conflict' not in ('return', 'replace', 'raise') then 'its on_conflict is not return, replace or raise'
    end
    into v_place, v_problem
    from jsonb_array_elements(jobs) with ordinality n (job, place)
    where octet_length((n.job -> 'payload')::text) > max_payload_bytes
        or (n.job ->> 'delay')::float8 < 0
        or n.job ->> 'on_conflict' not in ('return', 'replace', 'raise')
    limit 1;
    if found then
        raise exception 'job % of the batch cannot be stored: %; nothing was stored', v_place, v_problem
            using errcode = case when v_problem like '%payload%' then 'PQ003' else 'PQ002' end;
    end if;
end
$$;
