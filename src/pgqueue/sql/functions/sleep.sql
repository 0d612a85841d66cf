-- The worker's side of the doorbell. An idle worker says which queues it sleeps for and until when it may be
-- rung, then looks once more for jobs, then waits for a notification.
create or replace function @extschema@.sleep(queues text[], worker text, patience interval) returns void
language sql volatile
as $$
    insert into @extschema@.sleeper (queue, worker, until)
    select q, sleep.worker, @extschema@.clock() + sleep.patience from unnest(sleep.queues) q
    on conflict (queue, worker) do update set until = excluded.until
$$;

-- A busy worker needs no bell: from now on commits of its producers are free of it.
create or replace function @extschema@.wake(worker text) returns void
language sql volatile
as $$
    delete from @extschema@.sleeper s where s.worker = wake.worker
$$;
