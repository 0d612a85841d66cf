-- What every enqueue owes once its rows are written: lanes seen for the first time are marked, and
-- sleepers are rung. Enqueues by COPY call it too, with the distinct lanes of their ready jobs.
create or replace function @extschema@._enqueued(queues text[], priorities smallint[]) returns void
language plpgsql volatile
as $$
begin
    insert into @extschema@.lane (queue, priority)
    select n.queue, n.priority from unnest(queues, priorities) n (queue, priority)
    where not exists (
        select from @extschema@.lane l where l.queue = n.queue and l.priority = n.priority
    );
    perform @extschema@._ring(queues, @extschema@.clock());
end
$$;
