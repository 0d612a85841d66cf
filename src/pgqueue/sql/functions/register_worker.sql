-- A worker's word that it lives, for workers() and for people who ask why a job does not run. The queue itself
-- needs none of it: jobs are claimed under leases, whoever says what here.
--
-- `worker` is its name, another one at each start, and the one that it claims with. Without kinds and queues it is a
-- scheduler. Call it at the start, beat() every ten seconds, and unregister_worker() at the end; the row of one that is
-- silent for an hour goes by itself.
create or replace function @extschema@.register_worker(
    worker text,
    queues text[] default '{}',
    kinds text[] default '{}',
    concurrency integer default 1,
    host text default '',
    pid bigint default 0,
    version text default ''
) returns void
language plpgsql volatile
@settings@
as $$
#variable_conflict use_variable
declare
    v_now timestamptz := @extschema@.clock();
begin
    insert into @extschema@.worker as w (id, host, pid, version, started_at, beat_at, queues, kinds, concurrency)
    values (
        worker, coalesce(host, ''), coalesce(pid, 0), coalesce(version, ''), v_now, v_now, coalesce(queues, '{}'),
        coalesce(kinds, '{}'), coalesce(concurrency, 1)
    )
    on conflict on constraint worker_pkey do update set
        host = excluded.host, pid = excluded.pid, version = excluded.version, beat_at = excluded.beat_at,
        queues = excluded.queues, kinds = excluded.kinds, concurrency = excluded.concurrency, stopping = false;
end
$$;

-- The worker lives, and runs so many handlers now; it has no room for another job of `full_kinds`; it is about to stop. False:
-- it is not known (any more), and should register again. Null: this role may not write that table, since grant_access() was
-- not called again after an upgrade.
create or replace function @extschema@.beat(
    worker text, running integer default 0, full_kinds text[] default null, stopping boolean default false
) returns boolean
language plpgsql volatile
@settings@
-- Whoever locks this row must not hold up the leases that are renewed on the same connection.
set lock_timeout = '100ms'
as $$
#variable_conflict use_variable
declare
    v_now timestamptz := @extschema@.clock();
begin
    if not has_table_privilege('@extschema@.worker', 'insert, update') then
        return null;
    end if;
    update @extschema@.worker w set
        beat_at = v_now, running = coalesce(running, 0), full_kinds = full_kinds, stopping = coalesce(stopping, false)
    where w.id = worker;
    return found;
end
$$;

-- The worker has stopped; true if it was known.
create or replace function @extschema@.unregister_worker(worker text) returns boolean
language plpgsql volatile
@settings@
set lock_timeout = '100ms'
as $$
#variable_conflict use_variable
begin
    delete from @extschema@.worker w where w.id = worker;
    return found;
end
$$;
