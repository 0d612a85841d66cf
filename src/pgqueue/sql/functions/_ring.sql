-- The doorbell: notifies those queues for which an idle worker says that it sleeps. NOTIFY takes a
-- database-wide lock at commit, so nothing is sent when nobody waits. The channel is the schema's name,
-- the payload the queue's.
create or replace function @extschema@._ring(queues text[], moment timestamptz) returns void
language plpgsql volatile
@settings@
as $$
begin
    if exists (select from @extschema@.sleeper s where s.queue = any (queues) and s.until > moment) then
        perform pg_notify('@extschema:name@', q.name)
        from (
            select distinct s.queue as name from @extschema@.sleeper s
            where s.queue = any (queues) and s.until > moment
        ) q;
    end if;
end
$$;
