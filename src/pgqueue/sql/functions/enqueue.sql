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
    v_job @extschema@.job;
    v_limit integer;
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
    select s.max_attempts, s.max_payload_bytes into v_job.max_attempts, v_limit
    from @extschema@.setting s where s.only_row;
    if octet_length(payload::text) > v_limit then
        raise exception 'payload of % bytes is over the limit of % bytes; store the data elsewhere and pass a reference',
            octet_length(payload::text), v_limit using errcode = 'PQ003';
    end if;

    v_job.id := nextval('@extschema@.job_id_seq');
    v_job.enqueued_at := v_now;
    v_job.run_at := coalesce(run_at, @extschema@._after(v_now, delay), v_now);
    v_job.position := case when v_job.run_at <= v_now then nextval('@extschema@.position_seq') end;
    v_job.queue := coalesce(queue, 'default');
    v_job.kind := kind;
    v_job.priority := coalesce(priority, 5);
    v_job.payload := coalesce(payload, '{}');
    v_job.attempt := 0;
    v_job.max_attempts := coalesce(max_attempts, v_job.max_attempts);
    v_job.backoff := backoff;
    v_job.cancel_requested := false;
    v_job.tags := tags;
    v_job.metadata := metadata;
    v_job.ref := ref;

    if dedupe_key is null then
        insert into @extschema@.job select v_job.*;
    else
        v_job.dedupe_key := dedupe_key;
        v_job.dedupe_until := coalesce(dedupe_until, 'finish');
        v_job.dedupe_hash := @extschema@._dedupe_hash(kind, dedupe_key);
        id := @extschema@._enqueue_once(v_job, on_conflict);
    end if;
    duplicate := id is not null;
    id := coalesce(id, v_job.id);

    if v_job.position is not null then
        perform @extschema@._enqueued(array[v_job.queue], array[v_job.priority]);
    end if;
end
$$;
