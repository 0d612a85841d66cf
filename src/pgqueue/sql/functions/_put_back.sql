-- Ends the running attempt of claimed jobs without ending the jobs: they wait for the next attempt after
-- their delays, or are dead (attempts used up), or cancelled (as was asked while they ran).
--
-- `outcome` is failed, expired (both count the attempt), snoozed or released (which give it back). `delays`
-- overrides the backoff policy where not null. The caller holds the row locks of `ids`.
create or replace function @extschema@._put_back(
    ids bigint[], outcome text, delays interval[] default null, errors jsonb default null
) returns void
language plpgsql volatile
@settings@
set enable_nestloop = off
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
    v_counted boolean := outcome in ('failed', 'expired');
    v_expired boolean := outcome = 'expired';
    -- Not where grant_access() was not called again yet since an upgrade.
    v_counts boolean := v_counted and has_table_privilege('@extschema@.attempt_end', 'insert');
    v_job @extschema@.job;
    v_ended record;
    v_holder bigint;
    v_ready text[];
begin
    for v_ended in
        delete from @extschema@.job j
        using rows from (unnest(_put_back.ids), jsonb_array_elements(_put_back.errors)) c (id, error)
        where j.id = any (_put_back.ids) and j.id = c.id
            and (j.cancel_requested or v_counted and j.attempt >= j.max_attempts)
        returning j as job, c.error
    loop
        v_job := v_ended.job;
        v_job.token := case when v_expired then null else v_job.token end;
        perform @extschema@._archive(
            v_job, case when v_job.cancel_requested then 'cancelled' else 'dead' end, v_now,
            @extschema@._history(v_job.history, v_job.attempt, v_job.claimed_at, v_now, v_job.worker, outcome, v_ended.error)
        );
    end loop;

    -- A key of scope 'start' went free when the job started; a job that waits again takes it back. Where another
    -- job holds it by now, that one stands for both, and ours is archived as skipped.
    for v_job in
        select j.* from @extschema@.job j
        where j.id = any (_put_back.ids) and j.dedupe_until = 'start' and j.dedupe_hash is null
        order by j.id
    loop
        v_holder := @extschema@._take_key_back(v_job.id, @extschema@._dedupe_hash(v_job.tenant, v_job.kind, v_job.dedupe_key));
        if v_holder is not null then
            delete from @extschema@.job j where j.id = v_job.id;
            v_job.token := case when v_expired then null else v_job.token end;
            perform @extschema@._archive(v_job, 'skipped', v_now, @extschema@._history(
                v_job.history, v_job.attempt, v_job.claimed_at, v_now, v_job.worker, 'superseded',
                jsonb_build_object('message', 'job ' || v_holder || ' holds the dedupe key and runs in its stead')
            ));
        end if;
    end loop;

    with back as (
        select j.id, c.error, case
            when _put_back.outcome = 'released' then interval '0'
            when c.delay is not null then c.delay
            -- A crashed job has waited since its claim already.
            when v_expired then @extschema@._backoff(j.backoff, j.attempt) - (v_now - j.claimed_at)
            else @extschema@._backoff(j.backoff, j.attempt)
        end as delay
        from rows from (
            unnest(_put_back.ids), unnest(_put_back.delays), jsonb_array_elements(_put_back.errors)
        ) c (id, delay, error)
        join @extschema@.job j on j.id = c.id and j.id = any (_put_back.ids)
    ), waiting as (
        update @extschema@.job j set
            lease_until = null,
            -- The token stays, so that its holder may repeat the call; one that let its lease run out may not.
            token = case when v_expired then null else j.token end,
            attempt = j.attempt - case when v_counted then 0 else 1 end,
            run_at = case
                when _put_back.outcome = 'released' then j.run_at
                else @extschema@._after(v_now, greatest(b.delay, '0'))
            end,
            -- What its worker left behind keeps its place in the lane: nobody's fault, least of all the job's.
            position = case
                when _put_back.outcome = 'released' or v_expired and b.delay <= '0' then j.position
                when b.delay <= '0' then nextval('@extschema@.position_seq')
            end,
            history = case
                when _put_back.outcome = 'released' then j.history
                else @extschema@._history(j.history, j.attempt, j.claimed_at, v_now, j.worker, _put_back.outcome, b.error)
            end
        from back b
        where j.id = any (_put_back.ids) and j.id = b.id
        returning j.queue, j.position
    ), counted as (
        -- By statement, not by job; _count_minutes() adds them up.
        insert into @extschema@.attempt_end (queue, ended_at, failed)
        select w.queue, v_now, count(*) from waiting w where v_counts group by w.queue
    )
    select array_agg(distinct w.queue) into v_ready from waiting w where w.position is not null;
    if v_ready is not null then
        perform @extschema@._ring(v_ready, v_now);
    end if;
end
$$;

-- Takes the key for the job, or returns who holds it. Where a transaction is still open that may take it, the job
-- goes on without: nobody's open transaction may hold up the reaper, nor may the two deadlock.
create or replace function @extschema@._take_key_back(id bigint, hash bytea) returns bigint
language plpgsql volatile
@settings@
set lock_timeout = '10ms'
as $$
#variable_conflict use_column
declare
    v_holder bigint;
begin
    select j.id into v_holder from @extschema@.job j where j.dedupe_hash = hash;
    if not found then
        begin
            update @extschema@.job j set dedupe_hash = hash where j.id = _take_key_back.id;
        exception
            when unique_violation then
                select j.id into v_holder from @extschema@.job j where j.dedupe_hash = hash;
            when lock_not_available or deadlock_detected then null;
        end;
    end if;
    return v_holder;
end
$$;
