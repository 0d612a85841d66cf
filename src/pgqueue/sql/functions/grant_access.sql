-- Gives an existing role what it needs and no more: 'producer' enqueues, 'worker' also claims, ends and
-- maintains, 'viewer' reads. The owner of the schema calls it, again after each upgrade. Functions are
-- SECURITY INVOKER, so these are the grants of the tables beneath.
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
        'select on @extschema@.migration, @extschema@.setting, @extschema@.lane, @extschema@.sleeper, @extschema@.queue',
        'insert on @extschema@.job, @extschema@.lane',
        'select (id, dedupe_hash, lease_until, position, priority, queue) on @extschema@.job',
        'update (attempt, payload, run_at, position, priority, queue, max_attempts, backoff, dedupe_until, tags, metadata, ref) on @extschema@.job'
    ];
    v_view text[] := array[
        'usage on schema @extschema@',
        'select on all tables in schema @extschema@'
    ];
    v_work text[] := v_produce || v_view || array[
        'usage, update on sequence @extschema@.promote_floor, @extschema@.promote_rescan, @extschema@.reap_due, '
        '@extschema@.reap_rescan, @extschema@.lanes_due, @extschema@.lanes_rescan, @extschema@.partitions_due',
        'insert, update, delete on @extschema@.job, @extschema@.lane, @extschema@.sleeper',
        'insert, update on @extschema@.queue',
        -- retry() locks what it takes out, which needs the right to update.
        'insert, update, delete on @extschema@.archive',
        'execute on function @extschema@._partitions()'
    ];
begin
    v_grants := case access when 'producer' then v_produce when 'worker' then v_work when 'viewer' then v_view end;
    if v_grants is null then
        raise exception 'access is %; use producer, worker or viewer', coalesce(access, 'null') using errcode = 'PQ002';
    end if;
    foreach v_grant in array v_grants loop
        execute format('grant %s to %I', v_grant, grantee);
    end loop;
    -- Everybody may run functions by default, but not where default privileges were revoked.
    for v_grant in
        select format('execute on function %s', p.oid::regprocedure) from pg_proc p
        where p.pronamespace = '@extschema@'::regnamespace and not p.prosecdef and p.proname <> 'grant_access'
    loop
        execute format('grant %s to %I', v_grant, grantee);
    end loop;
end
$$;
revoke execute on function @extschema@.grant_access(name, text) from public;
revoke execute on function @extschema@._partitions() from public;
