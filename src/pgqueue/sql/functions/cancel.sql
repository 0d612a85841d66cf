-- Cancels jobs by id, whoever has them: a waiting one ends at once, a claimed one is asked to stop (its worker
-- learns of it with the next heartbeat; if the worker is gone, the reaper ends the job). Returns, for each
-- unfinished id, its state now: cancelled, or claimed while it stops.
create or replace function @extschema@.cancel(ids bigint[], reason text default null)
returns table (id bigint, state text)
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
    v_job @extschema@.job;
begin
    for v_job in
        select j.* from @extschema@.job j where j.id = any (cancel.ids)
        -- Those that wait with a key in the order in which enqueues replace them, then all others as acks lock them.
        order by case when j.lease_until is null then j.dedupe_hash end, j.id
        for update
    loop
        id := v_job.id;
        if v_job.lease_until is null then
            state := 'cancelled';
            delete from @extschema@.job j where j.id = v_job.id;
            perform @extschema@._archive(v_job, state, v_now, @extschema@._history(
                v_job.history, v_job.attempt, null, v_now, null, state, jsonb_build_object('message', cancel.reason)
            ));
        else
            state := 'claimed';
            update @extschema@.job j set cancel_requested = true where j.id = v_job.id;
        end if;
        return next;
    end loop;
end
$$;

-- Cancels all unfinished jobs that refer to `ref`; returns how many. For cascades: call it from an AFTER DELETE
-- trigger of the table that `ref` points to.
create or replace function @extschema@.cancel_ref(ref text, reason text default null) returns bigint
language plpgsql volatile
@settings@
as $$
begin
    return (select count(*) from @extschema@.cancel(
        array(select j.id from @extschema@.job j where j.ref = cancel_ref.ref), reason
    ));
end
$$;
