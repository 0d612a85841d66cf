-- Claims one waiting job, ready or scheduled, even where its queue or everything is paused: for people, who run it by
-- hand. The claim is as any other. PQ006: there is no such job; PQ007: it is claimed, or finished.
create or replace function @extschema@.claim_one(
    job_id bigint,
    lease interval default '30 seconds',
    worker text default null
) returns table (
    id bigint, token bigint, queue text, kind text, payload jsonb, priority smallint, attempt integer,
    max_attempts integer, run_at timestamptz, enqueued_at timestamptz, claimed_at timestamptz,
    lease_until timestamptz, "position" bigint, dedupe_key text, tags text[], metadata jsonb, ref text
)
language plpgsql volatile
rows 1
@settings@
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
    -- As in claim().
    v_token bigint := hashtextextended(gen_random_uuid()::text, 0) & 9007199254740991;
    v_lease_until timestamptz := @extschema@._after(v_now, lease);
    v_job @extschema@.job := @extschema@._waiting_job(claim_one.job_id);
begin
    if lease <= interval '0' or lease is null then
        raise exception 'lease % is not positive', lease using errcode = 'PQ002';
    end if;
    if v_lease_until >= '9999-01-01 00:00Z' then
        raise exception 'lease % does not end before the year 9999', lease using errcode = 'PQ002';
    end if;
    -- The reaper looks between a lane's bottom and its head, and only for jobs that have a place there.
    v_job.position := coalesce(v_job.position, nextval('@extschema@.position_seq'));
    if not exists (
        select from @extschema@.lane l
        where l.queue = v_job.queue and l.priority = v_job.priority and l.head >= v_job.position
    ) then
        insert into @extschema@.lane (queue, priority, head)
        values (v_job.queue, v_job.priority, greatest(v_job.position + 10000, @extschema@._new_head()));
    end if;
    return query
    update @extschema@.job j set
        token = v_token,
        lease_until = v_lease_until,
        claimed_at = v_now,
        run_at = least(j.run_at, v_now),
        position = v_job.position,
        attempt = j.attempt + 1,
        worker = claim_one.worker,
        dedupe_hash = case when j.dedupe_until = 'start' then null else j.dedupe_hash end
    where j.id = v_job.id
    returning j.id, j.token, j.queue::text, j.kind::text, j.payload, j.priority::smallint, j.attempt,
        j.max_attempts::integer, j.run_at::timestamptz, j.enqueued_at, j.claimed_at, j.lease_until, j.position, j.dedupe_key,
        j.tags, j.metadata, j.ref;
end
$$;

-- Locks a job that waits, and returns it.
create or replace function @extschema@._waiting_job(job_id bigint) returns @extschema@.job
language plpgsql volatile
@settings@
as $$
declare
    v_job @extschema@.job;
    v_state text;
begin
    select j.* into v_job from @extschema@.job j where j.id = _waiting_job.job_id for update;
    if found then
        if v_job.lease_until is null then
            return v_job;
        end if;
        v_state := 'claimed';
    else
        select a.state into v_state from @extschema@.archive a where a.id = _waiting_job.job_id;
        if not found then
            raise exception 'there is no job %', job_id using errcode = 'PQ006', detail = job_id::text;
        end if;
    end if;
    raise exception 'job % is %', job_id, v_state using errcode = 'PQ007', detail = job_id || ' ' || v_state;
end
$$;
