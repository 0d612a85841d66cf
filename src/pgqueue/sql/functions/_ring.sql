-- The doorbell: notifies idle workers that say that they sleep. NOTIFY takes a database-wide lock at commit, so
-- nothing is sent when nobody waits. The channel is the schema's name, the payload the queue's.
--
-- Nor is anything sent once the server's queue of notifications is half full: a session that listens and never ends
-- its transaction fills it, anywhere in the cluster, and when it is full every commit that notifies fails. The
-- workers' polls find the jobs then.
--
-- For one job, of `kind`, not all are woken, or a hundred workers would look for it: two that run its kind (one
-- may have died), by chance. The payload then names the sleeper behind the queue. Without `kind`, all are.
create or replace function @extschema@._ring(queues text[], moment timestamptz, kind text default null) returns void
language plpgsql volatile
@settings@
as $$
begin
    if not exists (select from @extschema@.sleeper s where s.queue = any (queues) and s.until > moment)
        or pg_notification_queue_usage() >= 0.5
    then
        return;
    end if;
    if kind is null then
        perform pg_notify('@extschema:name@', q.name)
        from (
            select distinct s.queue as name from @extschema@.sleeper s
            where s.queue = any (queues) and s.until > moment
        ) q;
    else
        perform pg_notify('@extschema:name@', r.queue || ' ' || r.worker)
        from (
            select s.queue, s.worker from @extschema@.sleeper s
            where s.queue = any (queues) and s.until > moment
                and (s.kinds is null or _ring.kind = any (s.kinds))
                and octet_length(s.worker) < 7000 -- a payload may have 8,000 bytes
            order by random()
            limit 2
        ) r;
    end if;
end
$$;
