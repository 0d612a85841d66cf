-- Ends the running attempt of claimed jobs without ending the jobs: they wait for the next attempt after
-- their delays, or are dead (attempts used up), or cancelled (as was asked while they ran).
--
-- `outcome` is failed, expired (both count the attempt), snoozed or released (which give it back). `delays`
-- overrides the backoff policy where not null. The caller holds the row locks of `ids`.
create or replace function @extschema@._put_back(
    ids bigint[], outcome text, delays interval[] default null, errors jsonb default null
) returns void
language plpgsql volatile
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
    v_counted boolean := outcome in ('failed', 'expired');
    v_job @extschema@.job;
    v_ended record;
    v_kept_by_key bigint[];
    v_ready text[];
begin
    for v_ended in
        delete from @extschema@.job j
        using rows from (unnest(_put_back.ids), jsonb_array_elements(_put_back.errors)) c (id, error)
        where j.id = c.id and (j.cancel_requested or v_counted and j.attempt >= j.max_attempts)
        returning j as job, c.error
    loop
        v_job := v_ended.job;
        if outcome = 'expired' then
            v_job.token := null;
        end if;
        perform @extschema@._archive(
            v_job, case when v_job.cancel_requested then 'cancelled' else 'dead' end, v_now,
            @extschema@._history(v_job.history, v_job.attempt, v_job.claimed_at, v_now, v_job.worker, outcome, v_ended.error)
        );
    end loop;

    -- A key of scope 'start' went free when the job started; whoever holds it now waits in its stead.
    select array_agg(j.id) into v_kept_by_key from @extschema@.job j
    where j.id = any (_put_back.ids) and j.dedupe_until = 'start';
    if v_kept_by_key is not null then
        perform @extschema@._take_key_back(v_kept_by_key, v_now);
    end if;

    with back as (
        select j.id, c.error, case
            when _put_back.outcome = 'released' then interval '0'
            when c.delay is not null then c.delay
            -- A crashed job has waited since its claim already.
            when _put_back.outcome = 'expired'
                then @extschema@._backoff(j.backoff, j.attempt) - (v_now - j.claimed_at)
            else @extschema@._backoff(j.backoff, j.attempt)
        end as delay
        from rows from (
            unnest(_put_back.ids), unnest(_put_back.delays), jsonb_array_elements(_put_back.errors)
        ) c (id, delay, error)
        join @extschema@.job j on j.id = c.id
    ), waiting as (
        update @extschema@.job j set
            lease_until = null,
            -- The token stays, so that its holder may repeat the call; one that let its lease run out may not.
            token = case when _put_back.outcome = 'expired' then null else j.token end,
            attempt = j.attempt - case when v_counted then 0 else 1 end,
            run_at = case when _put_back.outcome = 'released' then j.run_at else v_now + greatest(b.delay, '0') end,
            -- A released job keeps its place in the lane.
            position = case
                when _put_back.outcome = 'released' then j.position
                when b.delay <= '0' then nextval('@extschema@.position_seq')
            end,
            history = case
                when _put_back.outcome = 'released' then j.history
                else @extschema@._history(j.history, j.attempt, j.claimed_at, v_now, j.worker, _put_back.outcome, b.error)
            end
        from back b
        where j.id = b.id
        returning j.queue, j.position
    )
    select array_agg(distinct w.queue) into v_ready from waiting w where w.position is not null;
    if v_ready is not null then
        perform @extschema@._ring(v_ready, v_now);
    end if;
end
$$;

-- Takes back the keys of jobs that wait again. Where another job holds the key by now, that one stands for
-- both: ours is archived as skipped, so that one taken key never holds up the others.
create or replace function @extschema@._take_key_back(ids bigint[], moment timestamptz) returns void
language plpgsql volatile
as $$
#variable_conflict use_column
declare
    v_job @extschema@.job;
    v_holder bigint;
begin
    for v_job in
        select j.* from @extschema@.job j where j.id = any (ids) order by j.id
    loop
        -- Insert decides the race for the key without an exception, and so without a savepoint.
        delete from @extschema@.job j where j.id = v_job.id;
        v_job.dedupe_hash := @extschema@._dedupe_hash(v_job.kind, v_job.dedupe_key);
        v_holder := @extschema@._enqueue_once(v_job, 'return');
        if v_holder is not null then
            perform @extschema@._archive(v_job, 'skipped', moment, @extschema@._history(
                v_job.history, v_job.attempt, v_job.claimed_at, moment, v_job.worker, 'superseded',
                jsonb_build_object('message', 'job ' || v_holder || ' holds the dedupe key and runs in its stead')
            ));
        end if;
    end loop;
end
$$;
