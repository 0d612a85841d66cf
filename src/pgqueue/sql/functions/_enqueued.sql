-- What every enqueue owes once its rows are written: lanes without a mark get one, and sleepers are rung.
-- Enqueues by COPY call it too, with the distinct lanes of their ready jobs. `kind` is that of the one job, if
-- there is but one.
create or replace function @extschema@._enqueued(queues text[], priorities smallint[], kind text default null)
returns void
language plpgsql volatile
@settings@
as $$
begin
    perform @extschema@._mark_lanes(queues, priorities);
    perform @extschema@._ring(queues, @extschema@.clock(), kind);
end
$$;

-- Gives lanes without a mark one. A bulk enqueue calls it before it draws positions: else its jobs, of which none is
-- claimed, would stand below the head, and whoever looks for claimed jobs would read them all.
create or replace function @extschema@._mark_lanes(queues text[], priorities smallint[]) returns void
language plpgsql volatile
@settings@
as $$
begin
    insert into @extschema@.lane (queue, priority, head)
    select n.queue, n.priority, @extschema@._new_head() from unnest(queues, priorities) n (queue, priority)
    where not exists (
        select from @extschema@.lane l where l.queue = n.queue and l.priority = n.priority
    );
end
$$;

-- The head of a lane's first mark: above every position drawn so far, since jobs of an older mark that was
-- forgotten may have been claimed meanwhile.
create or replace function @extschema@._new_head() returns bigint
language plpgsql volatile
@settings@
as $$
begin
    return coalesce(pg_sequence_last_value('@extschema@.position_seq'), 0) + 10000;
end
$$;
