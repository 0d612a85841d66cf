-- Stores one job in the caller's transaction; it is claimed from `run_at` (or now + `delay`) on.
--
-- With a `dedupe_key`, at most one job of this kind holds the key: until it starts (`dedupe_until` =
-- 'start'; a new one may wait while the first runs) or until it finishes ('finish'). If the key is taken,
-- `on_conflict` decides: 'return' the holder's id with duplicate = true; 'replace' the holder's payload,
-- time and options if it still waits (debounce), and return it likewise; 'raise' PQ001. Null is the default,
-- of every parameter but `kind`.
create or replace function @extschema@.enqueue(
    kind text,
    payload jsonb default '{}',
    queue text default 'default',
    priority integer default 5,
    run_at timestamptz default null,
    delay interval default null,
    max_attempts integer default null,
    backoff jsonb default null,
    dedupe_key text default null,
    dedupe_until text default 'finish',
    on_conflict text default 'return',
    tags text[] default null,
    metadata jsonb default null,
    ref text default null,
    out id bigint,
    out duplicate boolean
) returns record
language plpgsql volatile
@settings@
as $$
#variable_conflict use_variable
declare
    v_now timestamptz := @extschema@.clock();
    v_run_at timestamptz := coalesce(run_at, @extschema@._after(v_now, delay), v_now);
    v_ready boolean := v_run_at <= v_now;
    v_queue text := coalesce(queue, 'default');
    v_priority smallint := coalesce(priority, 5);
    v_size integer := greatest(octet_length(payload::text), octet_length(metadata::text));
    v_limit integer;
    v_max_attempts integer;
    v_setting text;
    v_mark text;
    v_job @extschema@.job;
begin
    if delay < interval '0' then
        raise exception 'delay % is negative; use zero or more', delay using errcode = 'PQ002';
    end if;
    if run_at is not null and delay is not null then
        raise exception 'both run_at and delay are given; give one' using errcode = 'PQ002';
    end if;
    if on_conflict not in ('return', 'replace', 'raise') then
        raise exception 'on_conflict is %; use return, replace or raise', on_conflict using errcode = 'PQ002';
    end if;
    select s.max_attempts, s.max_payload_bytes into v_max_attempts, v_limit
    from @extschema@.setting s where s.only_row;
    if v_size > v_limit then
        raise exception '% of % bytes is over the limit of % bytes; store the data elsewhere and pass a reference',
            case when octet_length(payload::text) = v_size then 'payload' else 'metadata' end, v_size, v_limit
            using errcode = 'PQ003';
    end if;

    duplicate := false;
    if dedupe_key is null then
        insert into @extschema@.job as j (
            position, run_at, enqueued_at, max_attempts, priority, queue, kind, payload, backoff, tags, metadata, ref
        )
        values (
            case when v_ready then nextval('@extschema@.position_seq') end, v_run_at, v_now,
            coalesce(max_attempts, v_max_attempts), v_priority, v_queue, kind, coalesce(payload, '{}'), backoff, tags,
            metadata, ref
        )
        returning j.id into id;
    else
        v_job.id := nextval('@extschema@.job_id_seq');
        v_job.position := case when v_ready then nextval('@extschema@.position_seq') end;
        v_job.run_at := v_run_at;
        v_job.enqueued_at := v_now;
        v_job.attempt := 0;
        v_job.max_attempts := coalesce(max_attempts, v_max_attempts);
        v_job.priority := v_priority;
        v_job.cancel_requested := false;
        v_job.queue := v_queue;
        v_job.kind := kind;
        v_job.payload := coalesce(payload, '{}');
        v_job.backoff := backoff;
        v_job.dedupe_until := coalesce(dedupe_until, 'finish');
        v_job.dedupe_key := dedupe_key;
        v_job.tenant := nullif(current_setting('pgqueue.tenant', true), '');
        v_job.dedupe_hash := @extschema@._dedupe_hash(v_job.tenant, kind, dedupe_key);
        v_job.tags := tags;
        v_job.metadata := metadata;
        v_job.ref := ref;
        id := @extschema@._enqueue_once(v_job, on_conflict);
        duplicate := id is not null;
        id := coalesce(id, v_job.id);
    end if;
    if v_ready then
        -- As _enqueued() does, but to look for the lane's mark and for sleepers took a quarter of an enqueue's time. So the
        -- session remembers a mark, in one of 32 settings, while none is deleted; a transaction that is undone takes back
        -- what it has set. And one register says whether anybody sleeps at all. PUBLIC may read both
        -- sequences; where that was revoked, comes null (an error before Postgres 18), and they are looked up.
        v_setting := 'pgqueue.lane_' || (hashtext(v_queue) & 31);
        v_mark := '@extschema:name@ ' || pg_sequence_last_value('@extschema@.marks_deleted') || ' ' || v_priority || ' ' || v_queue;
        if v_mark is null or current_setting(v_setting, true) is distinct from v_mark then
            perform @extschema@._mark_lanes(array[v_queue], array[v_priority]);
            perform set_config(v_setting, coalesce(v_mark, ''), false);
        end if;
        if coalesce(to_timestamp(pg_sequence_last_value('@extschema@.slept_until') / 1e6::float8) > v_now, true) then
            if exists (select from @extschema@.sleeper z where z.queue = v_queue and z.until > v_now) then
                perform @extschema@._ring(array[v_queue], v_now, kind);
            end if;
        end if;
    end if;
end
$$;
