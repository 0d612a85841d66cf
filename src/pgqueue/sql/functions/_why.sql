-- The facts behind "why does this job not run?", as JSON; what they mean, pgqueue.why decides. All are STABLE, so that they read
-- the one snapshot of the statement that called them, and no two facts are of different moments. (Registers know none.)
-- Each look is bounded, so that it takes no longer with five million jobs than with a hundred thousand.

-- What a job waits for, or how it ended; "job" is null where there is none that this role sees.
create or replace function @extschema@._why_job(id bigint) returns jsonb
language plpgsql stable
@settings@
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
    v_facts jsonb := @extschema@._why_here(v_now);
    v_job @extschema@.job;
    v_xmax text;
    v_state text;
    v_found jsonb;
begin
    if not has_table_privilege('@extschema@.job', 'select') then
        return v_facts;
    end if;
    select j.* into v_job from @extschema@.job j where j.id = _why_job.id;
    if v_job.id is null then
        select jsonb_build_object(
            'id', a.id, 'state', a.state, 'queue', a.queue, 'kind', a.kind, 'attempt', a.attempt,
            'max_attempts', a.max_attempts, 'enqueued_at', a.enqueued_at, 'run_at', a.run_at, 'claimed_at', a.claimed_at,
            'finished_at', a.finished_at, 'worker', a.worker, 'dedupe_key', a.dedupe_key,
            'last', (a.history -> -1) - 'traceback', 'schedule', a.metadata ->> 'schedule', 'slot', a.metadata ->> 'slot',
            'key_holder', @extschema@._why_holder(@extschema@._dedupe_hash(a.tenant, a.kind, a.dedupe_key))
        ) into v_found
        from @extschema@.archive a where a.id = _why_job.id limit 1;
        return v_facts || jsonb_build_object('job', v_found);
    end if;
    select j.xmax::text into v_xmax from @extschema@.job j where j.id = _why_job.id;
    v_state := case
        when v_job.lease_until is not null then 'claimed' when v_job.position is not null then 'ready' else 'scheduled'
    end;
    v_facts := v_facts || jsonb_build_object('job', jsonb_build_object(
        'id', v_job.id, 'state', v_state, 'queue', v_job.queue, 'kind', v_job.kind, 'priority', v_job.priority,
        'attempt', v_job.attempt, 'max_attempts', v_job.max_attempts, 'enqueued_at', v_job.enqueued_at,
        'run_at', v_job.run_at, 'claimed_at', v_job.claimed_at, 'lease_until', v_job.lease_until, 'worker', v_job.worker,
        'cancel_requested', v_job.cancel_requested, 'dedupe_key', v_job.dedupe_key,
        'last', (v_job.history -> -1) - 'traceback',
        'schedule', v_job.metadata ->> 'schedule', 'slot', v_job.metadata ->> 'slot',
        'key_holder', case when v_job.dedupe_hash is null then
            @extschema@._why_holder(@extschema@._dedupe_hash(v_job.tenant, v_job.kind, v_job.dedupe_key)) end,
        'locked_by', @extschema@._why_locker(v_xmax)
    ));
    if v_state = 'claimed' then
        return v_facts || jsonb_build_object(
            'holder', @extschema@._why_worker(v_job.worker, v_now),
            'pace', @extschema@._why_pace(v_job.queue, v_job.kind, v_now)
        );
    end if;
    v_facts := v_facts || @extschema@._why_claims_of(v_job.queue, v_job.kind, v_now);
    if v_state = 'ready' then
        v_facts := v_facts || jsonb_build_object(
            'ahead', @extschema@._why_ahead(v_job.queue, v_job.priority, v_job.position),
            'pace', @extschema@._why_pace(v_job.queue, v_job.kind, v_now)
        );
    end if;
    return v_facts;
end
$$;

-- What holds up a queue as a whole.
create or replace function @extschema@._why_queue(queue text) returns jsonb
language plpgsql stable
@settings@
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
    v_facts jsonb := @extschema@._why_here(v_now);
begin
    if not has_table_privilege('@extschema@.job', 'select') then
        return v_facts;
    end if;
    return v_facts || @extschema@._why_claims_of(_why_queue.queue, null, v_now) || jsonb_build_object(
        'queue', _why_queue.queue,
        'known', exists (select from @extschema@.lane l where l.queue = _why_queue.queue),
        'ahead', @extschema@._why_ahead(_why_queue.queue, 10, null),
        'pace', @extschema@._why_pace(_why_queue.queue, null, v_now),
        'oldest', (
            select min(j.run_at)
            from (
                select l.priority, max(l.floor) as floor from @extschema@.lane l
                where l.queue = _why_queue.queue group by l.priority
            ) l
            cross join lateral (
                select j.run_at from @extschema@.job j
                where j.queue = _why_queue.queue and j.priority = l.priority and j.position >= l.floor
                    and j.lease_until is null
                order by j.position limit 1
            ) j
        ),
        'claimed', (select count(*) from @extschema@._claims(array[_why_queue.queue])),
        -- Of the first thousand that are due in any queue: there is no index by queue.
        'overdue', (
            select count(*) from (
                select j.queue from @extschema@.job j where j.position is null and j.run_at < v_now - interval '2 seconds'
                order by j.run_at limit 1000
            ) j where j.queue = _why_queue.queue
        ),
        'next_run_at', (
            select min(j.run_at) from (
                select j.queue, j.run_at from @extschema@.job j where j.position is null order by j.run_at limit 1000
            ) j where j.queue = _why_queue.queue
        )
    );
end
$$;

-- Who holds a dedupe key, which belongs to a tenant (the session's) and a kind. Without a kind, those are tried that workers have,
-- of the queue or of all, and those of the queue's jobs that are first.
create or replace function @extschema@._why_key(dedupe_key text, kind text, queue text) returns jsonb
language plpgsql stable
@settings@
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
    v_facts jsonb := @extschema@._why_here(v_now);
    v_tenant text := nullif(current_setting('pgqueue.tenant', true), '');
    v_kinds text[] := array[_why_key.kind];
begin
    if not has_table_privilege('@extschema@.job', 'select') then
        return v_facts;
    end if;
    if _why_key.kind is null then
        v_kinds := array(
            select k.name from (
                select k.name from @extschema@.lane l
                cross join lateral (
                    select j.kind as name from @extschema@.job j
                    where j.queue = l.queue and j.priority = l.priority and j.position >= l.bottom
                    order by j.position limit 500
                ) k
                where l.queue = _why_key.queue
                union
                select j.kind from (
                    select j.queue, j.kind from @extschema@.job j where j.position is null order by j.run_at limit 1000
                ) j where j.queue = coalesce(_why_key.queue, j.queue)
                union
                select k.name from unnest(@extschema@._why_kinds(_why_key.queue)) k (name)
            ) k limit 1000
        );
    end if;
    return v_facts || jsonb_build_object(
        'kinds', to_jsonb(v_kinds),
        'key_holder', (
            select h.holder from unnest(v_kinds) k (name)
            cross join lateral @extschema@._why_holder(@extschema@._dedupe_hash(v_tenant, k.name, _why_key.dedupe_key)) h (holder)
            where h.holder is not null and (_why_key.queue is null or h.holder ->> 'queue' = _why_key.queue)
            limit 1
        )
    );
end
$$;

-- Where a schedule of the session's tenant stands.
create or replace function @extschema@._why_schedule(name text) returns jsonb
language plpgsql stable
@settings@
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
    v_facts jsonb := @extschema@._why_here(v_now);
    v_schedule @extschema@.schedule;
begin
    if not has_table_privilege('@extschema@.schedule', 'select') then
        return v_facts || '{"sees_jobs": false}';
    end if;
    select s.* into v_schedule from @extschema@.schedule s
    where s.name = _why_schedule.name and coalesce(s.tenant, '') = coalesce(current_setting('pgqueue.tenant', true), '');
    if v_schedule.id is null then
        return v_facts || '{"schedule": null}';
    end if;
    return v_facts || jsonb_build_object('schedule', to_jsonb(v_schedule) - 'payload' - 'metadata' - 'masks' - 'backoff'
        || jsonb_build_object(
            'job', (
                select jsonb_build_object('id', j.id, 'state', case
                    when j.lease_until is not null then 'claimed' when j.position is not null then 'ready' else 'scheduled' end)
                from @extschema@.job j where j.id = v_schedule.last_job_id
            ),
            'run', (
                select to_jsonb(r) - 'tenant' from @extschema@.schedule_run r where r.schedule_id = v_schedule.id
                order by r.slot desc limit 1
            )
        ));
end
$$;

-- The moment, what this role may see, and when the upkeep was done last.
create or replace function @extschema@._why_here(moment timestamptz) returns jsonb
language plpgsql stable
@settings@
set timezone = 'UTC'
as $$
begin
    return jsonb_build_object(
        'now', moment,
        'role', current_user,
        'tenant', nullif(current_setting('pgqueue.tenant', true), ''),
        'row_security', row_security_active('@extschema@.job'),
        'sees_jobs', has_table_privilege('@extschema@.job', 'select'),
        'sees_workers', has_table_privilege('@extschema@.worker', 'select'),
        'pause_all', (
            select jsonb_build_object('since', q.paused_at, 'until', q.paused_until, 'reason', q.pause_reason)
            from @extschema@.queue q where q.name = '*' and q.paused_until > moment
        ),
        'last_id', @extschema@._why_register('@extschema@.job_id_seq'),
        'sees_upkeep', has_sequence_privilege('@extschema@.promote_floor', 'usage, select'),
        -- The promoter's floor stays five seconds behind.
        'upkeep_at', to_timestamp(nullif(@extschema@._why_register('@extschema@.promote_floor'), 0) / 1e6) + interval '5 seconds',
        'reap_at', to_timestamp(least(
            @extschema@._why_register('@extschema@.reap_due'), @extschema@._why_register('@extschema@.reap_rescan')
        ) / 1e6),
        'retention', (select extract(epoch from s.retention) from @extschema@.setting s where s.only_row),
        'dead_retention', (select extract(epoch from s.dead_retention) from @extschema@.setting s where s.only_row)
    );
end
$$;

create or replace function @extschema@._why_register(register regclass) returns bigint
language plpgsql stable
@settings@
as $$
begin
    if has_sequence_privilege(register, 'usage, select') then
        return pg_sequence_last_value(register);
    end if;
    return null;
end
$$;

-- A job that holds the key, while it is unfinished.
create or replace function @extschema@._why_holder(hash bytea) returns jsonb
language plpgsql stable
@settings@
set timezone = 'UTC'
as $$
begin
    return (
        select jsonb_build_object(
            'id', j.id, 'queue', j.queue, 'kind', j.kind, 'dedupe_until', j.dedupe_until, 'enqueued_at', j.enqueued_at,
            'run_at', j.run_at, 'state', case
                when j.lease_until is not null then 'claimed' when j.position is not null then 'ready' else 'scheduled' end
        ) from @extschema@.job j where j.dedupe_hash = hash
    );
end
$$;

-- The session whose open transaction has the row locked: claims pass over it. It is one that uses our table.
create or replace function @extschema@._why_locker(row_xmax text) returns jsonb
language plpgsql stable
@settings@
set timezone = 'UTC'
as $$
begin
    if row_xmax = '0' then
        return null;
    end if;
    return (
        select jsonb_build_object(
            'pid', l.pid, 'program', coalesce(a.application_name, ''), 'user', coalesce(a.usename, ''),
            'state', a.state, 'since', a.xact_start
        )
        from pg_locks l left join pg_stat_activity a on a.pid = l.pid
        where l.locktype = 'transactionid' and l.granted and l.transactionid::text = row_xmax and l.pid <> pg_backend_pid()
            and exists (
                select from pg_locks t
                where t.pid = l.pid and t.locktype = 'relation' and t.relation = '@extschema@.job'::regclass
            )
        limit 1
    );
end
$$;

create or replace function @extschema@._why_worker(name text, moment timestamptz) returns jsonb
language plpgsql stable
@settings@
set timezone = 'UTC'
as $$
begin
    if not has_table_privilege('@extschema@.worker', 'select') then
        return null;
    end if;
    return (
        select jsonb_build_object(
            'id', w.id, 'host', w.host, 'pid', w.pid, 'started_at', w.started_at, 'beat_at', w.beat_at,
            'stopping', w.stopping, 'alive', w.beat_at > moment - interval '30 seconds'
        ) from @extschema@.worker w where w.id = name
    );
end
$$;

-- The kinds that live workers of the queue have, or those of any.
create or replace function @extschema@._why_kinds(queue text) returns text[]
language plpgsql stable
@settings@
as $$
declare
    v_now timestamptz := @extschema@.clock();
begin
    if not has_table_privilege('@extschema@.worker', 'select') then
        return null;
    end if;
    return array(
        select distinct k.name from @extschema@.worker w cross join unnest(w.kinds) k (name)
        where w.beat_at > v_now - interval '30 seconds' and (_why_kinds.queue is null or _why_kinds.queue = any (w.queues))
        order by k.name limit 1000
    );
end
$$;

-- Whether jobs of the queue, and of this kind in it, are claimed: pauses, workers and their room, what they are busy with.
create or replace function @extschema@._why_claims_of(queue text, kind text, moment timestamptz) returns jsonb
language plpgsql stable
@settings@
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
    v_queue text := _why_claims_of.queue;
    v_kind text := _why_claims_of.kind;
    v_facts jsonb;
    v_workers jsonb;
    v_busy text[];
    v_busy_queues text[];
    v_known text[];
begin
    v_facts := jsonb_build_object(
        'pause', (
            select jsonb_build_object('since', q.paused_at, 'until', q.paused_until, 'reason', q.pause_reason)
            from @extschema@.queue q where q.name = v_queue and q.paused_until > moment
        ),
        'marked', exists (select from @extschema@.lane l where l.queue = v_queue),
        'sleepers', (
            select count(*) from (
                select from @extschema@.sleeper s
                where s.queue = v_queue and s.until > moment and (v_kind is null or s.kinds is null or v_kind = any (s.kinds))
                limit 1000
            ) s
        )
    );
    if has_table_privilege('@extschema@.worker', 'select') then
        with w as materialized (
            select w.id, w.host, w.pid, w.beat_at, w.started_at, w.running, w.concurrency, w.stopping, w.queues,
                w.kinds, v_queue = any (w.queues) as on_queue,
                v_kind is null or v_kind = any (w.kinds) as has_kind,
                w.running >= w.concurrency or coalesce(v_kind = any (w.full_kinds), false) as is_full,
                w.beat_at > moment - interval '30 seconds' as alive
            from @extschema@.worker w where cardinality(w.kinds) > 0
        )
        select jsonb_build_object(
                'on_queue', count(*) filter (where w.alive and w.on_queue and not w.stopping),
                'able', count(*) filter (where w.alive and w.on_queue and w.has_kind and not w.stopping),
                'room', count(*) filter (where w.alive and w.on_queue and w.has_kind and not w.stopping and not w.is_full),
                'stopping', count(*) filter (where w.alive and w.on_queue and w.stopping),
                'silent', count(*) filter (where not w.alive and w.on_queue),
                'silent_since', max(w.beat_at) filter (where not w.alive and w.on_queue),
                'concurrency', sum(w.concurrency) filter (where w.alive and w.on_queue and w.has_kind and not w.stopping),
                'running', sum(w.running) filter (where w.alive and w.on_queue and w.has_kind and not w.stopping),
                'kinds', array(
                    select distinct k.name from w cross join unnest(w.kinds) k (name)
                    where w.alive and w.on_queue order by k.name limit 20
                ),
                'elsewhere', (
                    select jsonb_agg(e.worker) from (
                        select jsonb_build_object('id', w.id, 'queues', w.queues[1:5]) as worker from w
                        where w.alive and not w.on_queue and w.has_kind and not w.stopping and v_kind is not null
                        order by w.id limit 5
                    ) e
                ),
                'here', (
                    select jsonb_agg(e.worker) from (
                        select jsonb_build_object('id', w.id, 'kinds', w.kinds[1:5], 'running', w.running,
                            'concurrency', w.concurrency, 'able', w.has_kind) as worker from w
                        where w.alive and w.on_queue and not w.stopping order by w.has_kind desc, w.id limit 5
                    ) e
                )
            ),
            array_agg(w.id) filter (where w.alive and w.on_queue and w.has_kind and not w.stopping and w.is_full),
            array_agg(w.id)
        into v_workers, v_busy, v_known from w;
        v_facts := v_facts || jsonb_build_object('workers', v_workers);
        if v_workers -> 'room' = '0' and v_busy is not null then
            v_busy_queues := array(
                select distinct q.name from @extschema@.worker w cross join unnest(w.queues) q (name)
                where w.id = any (v_busy[1:100]) limit 500
            );
            v_facts := v_facts || jsonb_build_object('busy_with', (
                select jsonb_agg(to_jsonb(b)) from (
                    select c.queue, c.kind, count(*) as jobs, min(c.claimed_at) as since
                    from @extschema@._claims(v_busy_queues) c where c.worker = any (v_busy)
                    group by c.queue, c.kind order by count(*) desc, c.kind limit 5
                ) b
            ));
        end if;
    end if;
    -- Endpoints and loops of one's own claim as well, and are not registered.
    return v_facts || jsonb_build_object('strangers', (
        select jsonb_agg(to_jsonb(s)) from (
            select coalesce(c.worker, '') as worker, max(c.claimed_at) as claimed_at
            from @extschema@._claims(array[v_queue]) c
            where c.lease_until > moment and (c.worker = any (v_known)) is not true
            group by c.worker order by 2 desc limit 5
        ) s
    ));
end
$$;

-- How many ready jobs stand before a place: in its own lane, and in those of higher priority; up to 100,000 are counted. Beyond
-- that, `about` is their number if they stand as densely as those that were counted. Null as a place is the lane's end.
create or replace function @extschema@._why_ahead(queue text, priority integer, place bigint) returns jsonb
language plpgsql stable
@settings@
as $$
#variable_conflict use_column
declare
    v_kinds text[] := @extschema@._why_kinds(_why_ahead.queue);
    v_left bigint := 100000;
    v_end bigint;
    v_lane record;
    v_found record;
    v_own jsonb;
    v_higher bigint := 0;
    v_higher_runnable bigint := 0;
    v_lanes jsonb := '[]';
begin
    for v_lane in
        select l.priority, max(l.floor) as floor from @extschema@.lane l
        where l.queue = _why_ahead.queue and l.priority <= _why_ahead.priority
        group by l.priority order by l.priority desc
    loop
        -- The hint may be far below, or none.
        select greatest(v_lane.floor, min(j.position)) into v_lane.floor from (
            select j.position from @extschema@.job j
            where j.queue = _why_ahead.queue and j.priority = v_lane.priority and j.position >= v_lane.floor
            order by j.position limit 1
        ) j;
        v_end := case when v_lane.priority = _why_ahead.priority then _why_ahead.place end;
        select count(*) as jobs, count(*) filter (where v_kinds is null or j.kind = any (v_kinds)) as runnable,
            max(j.position) as last
        into v_found
        from (
            select j.position, j.kind from @extschema@.job j
            where j.queue = _why_ahead.queue and j.priority = v_lane.priority and j.position >= v_lane.floor
                and j.position < coalesce(v_end, 9223372036854775807) and j.lease_until is null
            order by j.position limit v_left
        ) j;
        if v_lane.priority = _why_ahead.priority then
            v_own := jsonb_build_object('jobs', v_found.jobs, 'runnable', v_found.runnable,
                'counted', v_found.jobs < v_left, 'about', case
                    when v_found.jobs < v_left then v_found.jobs
                    -- In numeric: positions may be far apart.
                    else greatest(v_found.jobs, round(
                        v_found.jobs::numeric * (v_end - v_lane.floor) / greatest(v_found.last - v_lane.floor, 1)))
                end);
        else
            v_higher := v_higher + v_found.jobs;
            v_higher_runnable := v_higher_runnable + v_found.runnable;
        end if;
        if v_found.jobs > 0 then
            v_lanes := v_lanes || jsonb_build_object('priority', v_lane.priority, 'jobs', v_found.jobs);
        end if;
        v_left := v_left - v_found.jobs;
        exit when v_left <= 0;
    end loop;
    return jsonb_build_object('own', v_own, 'higher', v_higher, 'higher_runnable', v_higher_runnable,
        'counted', v_left > 0, 'lanes', v_lanes);
end
$$;

-- How fast jobs of the queue were finished lately, and how long those of the kind ran: by the last pages of the archive's present
-- part, some five thousand jobs. Null where nothing finished, where finished jobs are not kept, and where row security would
-- have us read the part as a whole.
create or replace function @extschema@._why_pace(queue text, kind text, moment timestamptz) returns jsonb
language plpgsql stable
@settings@
set timezone = 'UTC'
as $$
declare
    v_part regclass;
    v_since timestamptz;
    v_until timestamptz;
    v_first text;
    v_found jsonb;
begin
    if row_security_active('@extschema@.archive') or not has_table_privilege('@extschema@.archive', 'select') then
        return null;
    end if;
    select b.part, b.since, b.until into v_part, v_since, v_until
    from @extschema@._bounds('done') b where b.since <= moment and b.until > moment limit 1;
    if v_part is null then
        return null;
    end if;
    v_first := format('(%s,0)', greatest(0, pg_relation_size(v_part) / current_setting('block_size')::bigint - 200));
    -- By the archive's name, since nobody was given rights on its parts; bounds are constants, so that the others are left out.
    execute format(
        'select jsonb_build_object('
        '''since'', greatest(min(f.finished_at), $3 - interval ''10 minutes''), '
        '''finished'', count(*) filter (where f.queue = $1 and f.finished_at > $3 - interval ''10 minutes''), '
        '''last_finished_at'', max(f.finished_at) filter (where f.queue = $1), '
        '''runs'', count(f.ran), '
        '''median'', percentile_cont(0.5) within group (order by f.ran), '
        '''p99'', percentile_cont(0.99) within group (order by f.ran)) '
        'from (select a.queue, a.finished_at, case when a.kind = $2 and a.state = ''succeeded'' '
        'then extract(epoch from a.finished_at - a.claimed_at)::float8 end as ran from @extschema@.archive a '
        'where a.state in (''succeeded'', ''cancelled'', ''skipped'') and a.claimed_at is not null '
        'and a.finished_at >= %L and a.finished_at < %L and a.ctid >= %L::tid) f',
        v_since, v_until, v_first
    ) into v_found using queue, kind, moment;
    return v_found;
end
$$;
