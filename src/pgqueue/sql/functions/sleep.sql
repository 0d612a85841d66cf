-- The worker's side of the doorbell. An idle worker says which queues it sleeps for, until when it may be rung, and
-- which kinds it runs (null: any), then looks once more for jobs, then waits for a notification.
create or replace function @extschema@.sleep(
    queues text[], worker text, patience interval, kinds text[] default null
) returns void
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
declare
    v_until timestamptz := @extschema@.clock() + patience;
begin
    delete from @extschema@.sleeper s where s.worker = sleep.worker;
    insert into @extschema@.sleeper (queue, worker, until, kinds)
    select distinct q.name, sleep.worker, v_until, sleep.kinds from unnest(sleep.queues) q (name);
    -- For enqueue(). A second more, for two may write it at once, the lesser of them last.
    if @extschema@._read_register('@extschema@.slept_until') < v_until then
        perform @extschema@._write_register('@extschema@.slept_until', v_until + interval '1 second');
    end if;
end
$$;

-- A busy worker needs no bell: from now on commits of its producers are free of it.
create or replace function @extschema@.wake(worker text) returns void
language plpgsql volatile
@settings@
as $$
begin
    delete from @extschema@.sleeper s where s.worker = wake.worker;
end
$$;
