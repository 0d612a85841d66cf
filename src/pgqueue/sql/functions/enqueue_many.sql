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
    v_tenant text := nullif(current_setting('pgqueue.tenant', true), '');
    v_count integer;
    v_ids bigint[];
    v_positions bigint[];
    v_held boolean[];
    v_setting @extschema@.setting;
    v_new record;
    v_job @extschema@.job;
    v_holder bigint;
    v_queues text[];
    v_priorities smallint[];
begin
    select s.* into v_setting from @extschema@.setting s where s.only_row;
    perform @extschema@._check_jobs(jobs, v_setting.max_payload_bytes);
    v_count := jsonb_array_length(jobs);
    v_ids := array(select nextval('@extschema@.job_id_seq') from generate_series(1, v_count));
    v_positions := array(select nextval('@extschema@.position_seq') from generate_series(1, v_count));
    v_held := array_fill(false, array[v_count]);

    insert into @extschema@.job (
        id, position, run_at, enqueued_at, queue, kind, priority, payload, max_attempts, backoff, tags, metadata, ref
    )
    select v_ids[n.place], case when n.run_at <= v_now then v_positions[n.place] end, n.run_at, v_now, n.queue, n.kind,
        n.priority, n.payload, coalesce(n.max_attempts, v_setting.max_attempts), n.backoff, n.tags, n.metadata, n.ref
    from @extschema@._incoming(jobs, v_now) n
    where n.dedupe_key is null;

    -- Those with keys go one by one, in one order for all: each waits for others that are about to take the same key.
    -- To take the free keys in one statement, and then to come back to those that were held, broke that order where a
    -- holder ended in between: of four producers' batches of the same keys a quarter ended in deadlocks.
    for v_new in
        select n.*, @extschema@._dedupe_hash(v_tenant, n.kind, n.dedupe_key) as hash
        from @extschema@._incoming(jobs, v_now) n
        where n.dedupe_key is not null
        order by hash, n.place
    loop
        v_job.id := v_ids[v_new.place];
        v_job.position := case when v_new.run_at <= v_now then v_positions[v_new.place] end;
        v_job.run_at := v_new.run_at;
        v_job.enqueued_at := v_now;
        v_job.attempt := 0;
        v_job.max_attempts := coalesce(v_new.max_attempts, v_setting.max_attempts);
        v_job.priority := v_new.priority;
        v_job.cancel_requested := false;
        v_job.queue := v_new.queue;
        v_job.kind := v_new.kind;
        v_job.payload := v_new.payload;
        v_job.backoff := v_new.backoff;
        v_job.dedupe_until := v_new.dedupe_until;
        v_job.dedupe_key := v_new.dedupe_key;
        v_job.dedupe_hash := v_new.hash;
        v_job.tags := v_new.tags;
        v_job.metadata := v_new.metadata;
        v_job.ref := v_new.ref;
        v_job.tenant := v_tenant;
        v_holder := @extschema@._enqueue_once(v_job, v_new.on_conflict);
        if v_holder is not null then
            v_ids[v_new.place] := v_holder;
            v_held[v_new.place] := true;
        end if;
    end loop;

    select array_agg(l.queue), array_agg(l.priority) into v_queues, v_priorities
    from (
        select distinct n.queue, n.priority from @extschema@._incoming(jobs, v_now) n where n.run_at <= v_now
    ) l;
    if v_queues is not null then
        perform @extschema@._enqueued(v_queues, v_priorities);
    end if;
    return query select n.place, n.id, n.held from unnest(v_ids, v_held) with ordinality n (id, held, place);
end
$$;

-- The objects of enqueue_many() with their defaults, but for `max_attempts`.
create or replace function @extschema@._incoming(jobs jsonb, moment timestamptz)
returns table (
    place bigint, kind text, payload jsonb, queue text, priority smallint, run_at timestamptz, max_attempts integer,
    backoff jsonb, dedupe_key text, dedupe_until text, on_conflict text, tags text[], metadata jsonb, ref text
)
language sql stable
begin atomic
    select n.ordinality, n.kind, coalesce(n.payload, '{}'), coalesce(n.queue, 'default'),
        coalesce(n.priority, 5::smallint), coalesce(n.run_at, moment + n.delay * interval '1 second', moment),
        n.max_attempts, n.backoff, n.dedupe_key, coalesce(n.dedupe_until, 'finish'), n.on_conflict, n.tags,
        n.metadata, n.ref
    from rows from (jsonb_to_recordset(jobs) as (
        kind text, payload jsonb, queue text, priority smallint, run_at timestamptz, delay float8,
        max_attempts integer, backoff jsonb, dedupe_key text, dedupe_until text, on_conflict text, tags text[],
        metadata jsonb, ref text
    )) with ordinality n;
end;

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
        when octet_length((n.job -> 'metadata')::text) > max_payload_bytes
            then 'its metadata is over the limit of ' || max_payload_bytes || ' bytes'
        when (n.job ->> 'delay')::float8 < 0 then 'its delay is negative'
        when n.job ->> 'delay' is not null and n.job ->> 'run_at' is not null then 'it has both run_at and delay'
        when n.job ->> 'on_conflict' not in ('return', 'replace', 'raise') then 'its on_conflict is not return, replace or raise'
    end as problem) c
    where c.problem is not null
    limit 1;
    if found then
        raise exception 'job % of the batch cannot be stored: %; nothing was stored', v_bad.place, v_bad.problem
            using errcode = case when v_bad.problem like '%over the limit%' then 'PQ003' else 'PQ002' end;
    end if;
end
$$;
