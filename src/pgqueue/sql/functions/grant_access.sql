-- Gives an existing role what it needs and no more: 'producer' enqueues, 'worker' also claims, ends and
-- maintains, 'viewer' reads; 'tenant' enqueues, reads, cancels, retries and schedules what is its own, and 'tenant_viewer'
-- reads that and no more, see isolate_tenants(); 'cron' does what a worker does, and pokes endpoints and reads and writes their secrets: it is for who runs
-- the jobs of pg_cron. The owner of the schema calls it, again after each upgrade. Functions are SECURITY INVOKER, so these are
-- the grants of the tables beneath.
create or replace function @extschema@.grant_access(grantee name, access text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_grant text;
    v_grants text[];
    v_produce text[] := array[
        'usage on schema @extschema@',
        'usage on sequence @extschema@.job_id_seq, @extschema@.position_seq',
        'select on sequence @extschema@.marks_deleted, @extschema@.slept_until',
        'select on @extschema@.migration, @extschema@.setting, @extschema@.lane, @extschema@.sleeper, @extschema@.queue',
        'insert on @extschema@.job',
        -- Not its floor, below which claims do not look.
        'insert (queue, priority, head) on @extschema@.lane',
        'select (id, dedupe_hash, lease_until, position, priority, queue) on @extschema@.job',
        'update (attempt, payload, run_at, position, priority, queue, max_attempts, backoff, dedupe_until, tags, metadata, ref) on @extschema@.job'
    ];
    v_view text[] := array[
        'usage on schema @extschema@',
        'select on ' || (
            select string_agg(c.oid::regclass::text, ', ') from pg_class c
            where c.relnamespace = '@extschema@'::regnamespace and c.relkind in ('r', 'p', 'v') and c.relname <> 'secret'
        ),
        -- When the upkeep was last done, and whether a job ever was.
        'select on sequence @extschema@.job_id_seq, @extschema@.promote_floor, @extschema@.reap_due, @extschema@.reap_rescan'
    ];
    -- Row security keeps these two to rows of their own. They may not read the archive's parts, by which the viewers of every
    -- tenant are known.
    v_view_own text[] := array[
        'usage on schema @extschema@',
        'select on @extschema@.migration, @extschema@.setting, @extschema@.lane, @extschema@.queue, @extschema@.all_jobs',
        'select on @extschema@.job, @extschema@.archive, @extschema@.schedule, @extschema@.schedule_run'
    ];
    -- It has no right to write a token, and so cannot claim.
    v_own text[] := v_produce || v_view_own || array[
        'delete on @extschema@.job',
        'update (cancel_requested) on @extschema@.job',
        'insert, update, delete on @extschema@.archive',
        'usage on sequence @extschema@.schedule_id_seq',
        'delete on @extschema@.schedule',
        -- Not what tick() goes by.
        format('insert (%s), update (%1$s, last_job_id) on @extschema@.schedule',
            'name, kind, payload, cron, every, timezone, window_start, window_end, starts_at, ends_at, jitter, catch_up, grace, '
            'overlap, enabled, queue, priority, max_attempts, backoff, tags, metadata, ref, declared_by'),
        'insert on @extschema@.schedule_run',
        'usage on sequence @extschema@.audit_id_seq',
        'select, insert, update (affected) on @extschema@.audit'
    ];
    v_work text[] := v_produce || v_view || array[
        'usage, update on sequence @extschema@.marks_deleted, @extschema@.slept_until, @extschema@.promote_floor, @extschema@.promote_rescan, @extschema@.reap_due, '
        '@extschema@.reap_rescan, @extschema@.lanes_due, @extschema@.lanes_rescan, @extschema@.partitions_due, '
        '@extschema@.schedule_floor, @extschema@.schedule_rescan, @extschema@.schedule_runs_due, @extschema@.minutes_due, @extschema@.alerts_due',
        'usage on sequence @extschema@.schedule_id_seq',
        'insert, update, delete on @extschema@.schedule, @extschema@.schedule_run',
        'insert, update, delete on @extschema@.job, @extschema@.lane, @extschema@.sleeper, @extschema@.worker',
        'insert, update, delete on @extschema@.alert, @extschema@.attempt_count',
        'delete, update (requested_at) on @extschema@.poke_request',
        'insert, update on @extschema@.queue',
        'insert, update on @extschema@.minute',
        'insert, update, delete on @extschema@.attempt_end',
        -- Nobody takes an entry back.
        'usage on sequence @extschema@.audit_id_seq',
        'insert, update (affected) on @extschema@.audit',
        -- retry() locks what it takes out, which needs the right to update.
        'insert, update, delete on @extschema@.archive',
        'execute on function @extschema@._partitions()'
    ];
    v_policy name := 'cron_' || (select r.oid from pg_roles r where r.rolname = grantee);
begin
    v_grants := case access
        when 'producer' then v_produce when 'worker' then v_work when 'viewer' then v_view when 'tenant' then v_own
        when 'tenant_viewer' then v_view_own
        when 'cron' then v_work || array[
            'select, insert, update, delete on @extschema@.secret, @extschema@.poke, @extschema@.poke_request'
        ]
    end;
    if v_grants is null then
        raise exception 'access is %; use producer, worker or viewer, or cron, or tenant, or tenant_viewer', coalesce(access, 'null') using errcode = 'PQ002';
    end if;
    if access like 'tenant%' and not (select c.relrowsecurity from pg_class c where c.oid = '@extschema@.job'::regclass) then
        raise exception 'without row security a tenant would see all jobs; call isolate_tenants() first' using errcode = 'PQ002';
    end if;
    foreach v_grant in array v_grants loop
        execute format('grant %s to %I', v_grant, grantee);
    end loop;
    if access = 'cron' then
        execute format('drop policy if exists %I on @extschema@.secret', v_policy);
        execute format('create policy %I on @extschema@.secret to %I using (true)', v_policy, grantee);
    end if;
    for v_grant in
        select format('execute on routine %s', p.oid::regprocedure) from pg_proc p
        where p.pronamespace = '@extschema@'::regnamespace and case
            when p.prosecdef or p.proname in ('grant_access', 'isolate_tenants', 'bind_tenant', '_every_tenant') then false
            -- The parts of others, which everybody may run by default, but not where default privileges were revoked.
            when p.proname ~ '^_' or p.proname = 'clock' or access = 'cron' then true
            when access = 'worker' then p.proname not in ('poke', 'run_minute', 'put_secret', 'remove_secret')
            when access = 'producer' then p.proname in ('enqueue', 'enqueue_many')
            when access = 'viewer' then p.proname in ('stats', 'next_slots', 'poke_failures', 'vitals', 'workers')
            when access = 'tenant_viewer' then p.proname in ('stats', 'next_slots')
            else p.proname in (
                'enqueue', 'enqueue_many', 'stats', 'cancel', 'cancel_ref', 'retry', 'redrive', 'purge', 'edit', 'delete',
                'schedule', 'unschedule', 'sync_schedules', 'run_schedule', 'next_slots'
            )
        end
    loop
        execute format('grant %s to %I', v_grant, grantee);
    end loop;
    perform @extschema@._every_tenant();
end
$$;
