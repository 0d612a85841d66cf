-- What a monitor wants to know, as rows of a name, a label and a number; times are in seconds. It reads the first places of each
-- lane, as claims do, of the first 500 lanes: so it is as quick with five million jobs as with five. (What has to be
-- counted, stats() counts.)
--
--   oldest_wait         queue  how long its oldest ready job has been due; nothing where none is, or it is paused
--   workers             queue  worker processes that serve it, as far as they are seen; '' stands for all of them
--   workers_registered  ''     1 where workers register, so that all of them are seen; 0 where they are seen only while idle
--                              or while they hold jobs
--   upkeep_lag          ''     for how long the first scheduled job has been due and not made ready
--   schedule_lag        ''     the same of schedules and their slots
--   horizon_age         ''     age of the oldest snapshot in this database that keeps dead rows from being removed; of other
--                              roles' sessions only where the caller has pg_monitor
--   horizon_xids        ''     the same in transactions
--   dead_rows           table  as the statistics have it, likewise live_rows
create or replace function @extschema@.vitals() returns table (name text, label text, value float8)
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
    v_registered boolean := to_regclass('@extschema@.worker') is not null;
begin
    return query
    select 'oldest_wait', l.queue, greatest(0, extract(epoch from v_now - min(j.run_at)))::float8
    from @extschema@._lanes_seen() l
    cross join lateral (
        select j.run_at from @extschema@.job j
        where j.queue = l.queue and j.priority = l.priority and j.position is not null
            and j.position >= l.floor and j.lease_until is null
        order by j.position limit 1
    ) j
    where not exists (select from @extschema@.queue p where p.name = l.queue and p.paused_until > v_now)
    group by l.queue;

    return query select 'workers_registered', '', v_registered::integer::float8;
    return query
    select 'workers', coalesce(w.queue, ''), count(distinct w.process)::float8
    from @extschema@._workers_seen(v_now, v_registered) w
    group by rollup (w.queue);

    return query
    select 'upkeep_lag', '', greatest(0, extract(epoch from v_now - (
        select j.run_at from @extschema@.job j where j.position is null order by j.run_at limit 1
    )))::float8;
    return query
    select 'schedule_lag', '', greatest(0, extract(epoch from v_now - (
        select s.next_run_at from @extschema@.schedule s where s.next_run_at is not null order by s.next_run_at limit 1
    )))::float8;

    return query
    select v.name, '', coalesce(v.value, 0)
    from (
        select max(extract(epoch from v_now - a.xact_start))::float8 as age,
            max(greatest(age(a.backend_xmin), age(a.backend_xid)))::float8 as xids
        from pg_stat_activity a
        where a.datname = current_database() and a.pid <> pg_backend_pid()
            and (a.backend_xmin is not null or a.backend_xid is not null)
            and coalesce(a.backend_type, '') not in ('autovacuum worker', 'walsender')
            and coalesce(a.query, '') !~* '^\s*vacuum'
    ) o
    cross join lateral (values
        ('horizon_age', greatest(o.age, (
            select max(extract(epoch from v_now - p.prepared))::float8 from pg_prepared_xacts p where p.database = current_database()
        ))),
        ('horizon_xids', greatest(
            o.xids,
            (select max(age(p.transaction))::float8 from pg_prepared_xacts p where p.database = current_database()),
            (select max(age(s.xmin))::float8 from pg_replication_slots s),
            (select max(age(r.backend_xmin))::float8 from pg_stat_replication r)
        ))
    ) v (name, value);

    return query
    select v.name, t.relname::text, v.value
    from pg_stat_all_tables t
    cross join lateral (values ('dead_rows', t.n_dead_tup::float8), ('live_rows', t.n_live_tup::float8)) v (name, value)
    where t.schemaname = '@extschema:name@' and t.relname in ('job', 'schedule', 'lane', 'sleeper');
end
$$;

-- The first 500 lanes, with their marks.
create or replace function @extschema@._lanes_seen()
returns table (queue text, priority smallint, head bigint, floor bigint, bottom bigint)
language plpgsql stable
@settings@
as $$
#variable_conflict use_column
begin
    return query
    select l.queue, l.priority, max(l.head), max(l.floor), max(l.bottom)
    from @extschema@.lane l group by l.queue, l.priority order by l.queue, l.priority limit 500;
end
$$;

-- The processes of workers that are seen, and the queues that they serve: those that are registered, that sleep, or that hold
-- a job. Their names are host:pid:random, with a random part for each sort of handler.
create or replace function @extschema@._workers_seen(moment timestamptz, registered boolean)
returns table (queue text, process text)
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
begin
    return query
    select s.queue, regexp_replace(s.worker, ':[^:]*$', '') from @extschema@.sleeper s where s.until > moment
    union
    select l.queue, regexp_replace(j.worker, ':[^:]*$', '')
    from @extschema@._lanes_seen() l
    cross join lateral (
        select j.* from (
            select j.worker, j.lease_until from @extschema@.job j
            where j.queue = l.queue and j.priority = l.priority and j.position >= l.bottom and j.position <= l.head
            order by j.position limit 1000
        ) j where j.lease_until > moment and j.worker is not null
    ) j;
    if registered then
        return query
        select q.name, regexp_replace(w.id, ':[^:]*$', '')
        from @extschema@.worker w cross join lateral unnest(w.queues) q (name)
        where w.beat_at > moment - interval '30 seconds' and not w.stopping;
    end if;
end
$$;
