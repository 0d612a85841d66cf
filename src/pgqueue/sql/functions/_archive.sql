-- Stores one job that has left the table of unfinished jobs. (Bulk acks have their own statement, _finish.)
create or replace function @extschema@._archive(job @extschema@.job, state text, moment timestamptz, history jsonb)
returns void
language plpgsql volatile
@settings@
as $$
begin
    if state <> 'dead' and (select s.retention = '0' from @extschema@.setting s) then
        return;
    end if;
    insert into @extschema@.archive (
        id, state, finished_at, run_at, enqueued_at, claimed_at, token, attempt, max_attempts, priority, queue,
        kind, payload, worker, backoff, dedupe_until, dedupe_key, tags, metadata, ref, history,
        tenant
    )
    values (
        job.id, state, moment, job.run_at, job.enqueued_at, job.claimed_at, job.token, job.attempt,
        job.max_attempts, job.priority, job.queue, job.kind, job.payload, job.worker, job.backoff,
        job.dedupe_until, job.dedupe_key, job.tags, job.metadata, job.ref, history, job.tenant
    );
end
$$;
