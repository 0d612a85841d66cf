-- From now on a role sees, enqueues, cancels, retries and schedules jobs of one tenant alone: the one that the session's setting
-- `pgqueue.tenant` names. Without it, none: it is closed by default. Those who may read all of the archive, which
-- `worker` and `viewer` may by grant_access(), see every tenant's, as does the owner. Call it again as you like.
--
-- Not FORCE: the owner could undo that anyway, and would be shut out of the partitions that it makes and drops. Names of
-- queues, and how many jobs there are, are no secrets: docs/security.md.
create or replace function @extschema@.isolate_tenants() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
declare
    v_table regclass;
    v_mine constant text := $q$ tenant = (select nullif(current_setting('pgqueue.tenant', true), '')) $q$;
begin
    if current_setting('server_version_num')::integer < 150000 then
        raise exception 'tenants need Postgres 15 or newer: before, a view reads with the rights of its owner'
            using errcode = 'feature_not_supported';
    end if;
    drop policy if exists own_tenant on @extschema@.job;
    -- A key may be taken by its true hash only. Whoever could store another's would shut out the owner of that key.
    execute 'create policy own_tenant on @extschema@.job using (' || v_mine || ') with check (' || v_mine
        || ' and dedupe_hash is not distinct from case when dedupe_hash is not null '
        'then @extschema@._dedupe_hash(tenant, kind, dedupe_key) end)';
    drop policy if exists own_tenant on @extschema@.archive;
    execute 'create policy own_tenant on @extschema@.archive using (' || v_mine || ')';
    drop policy if exists own_tenant on @extschema@.schedule;
    execute 'create policy own_tenant on @extschema@.schedule using (' || v_mine || ')';
    drop policy if exists own_tenant on @extschema@.schedule_run;
    -- Whoever could store a slot of another's schedule would keep it from being fired.
    execute 'create policy own_tenant on @extschema@.schedule_run using (' || v_mine || ') with check (' || v_mine
        || ' and exists (select from @extschema@.schedule s where s.id = schedule_id))';
    drop policy if exists own_tenant on @extschema@.audit;
    execute 'create policy own_tenant on @extschema@.audit using (' || v_mine || ')';
    -- A view reads with its owner's rights otherwise, and so past all policies.
    execute 'alter view @extschema@.all_jobs set (security_invoker = true)';
    alter table @extschema@.job enable row level security;
    alter table @extschema@.schedule enable row level security;
    alter table @extschema@.schedule_run enable row level security;
    alter table @extschema@.audit enable row level security;
    -- Partitions have no policy: nobody but the owner reads them by their own names.
    for v_table in select t.relid from pg_partition_tree('@extschema@.archive') t loop
        execute format('alter table %s enable row level security', v_table);
    end loop;
    perform @extschema@._every_tenant();
end
$$;

-- Keeps a role to one tenant, whatever its sessions set: for tenants that log in to the database themselves. Null lets it go.
create or replace function @extschema@.bind_tenant(grantee name, tenant text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
declare
    v_table regclass;
    v_policy name := 'only_' || (select r.oid from pg_roles r where r.rolname = grantee);
begin
    if v_policy is null then
        raise exception 'there is no role %', grantee using errcode = 'PQ002';
    end if;
    foreach v_table in array array[
        '@extschema@.job', '@extschema@.archive', '@extschema@.schedule', '@extschema@.schedule_run', '@extschema@.audit'
    ]::regclass[] loop
        execute format('drop policy if exists %I on %s', v_policy, v_table);
        if tenant is not null then
            execute format('create policy %I on %s as restrictive to %I using (tenant = %L)', v_policy, v_table, grantee, tenant);
        end if;
    end loop;
end
$$;

-- Lets those see every tenant's jobs who may read the whole archive, by the names of its parts. A change of policies waits for
-- all who use the table, so it is made only where something changed.
create or replace function @extschema@._every_tenant() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'
as $$
declare
    v_table regclass;
    v_roles oid[];
    v_names text;
    v_old oid[];
begin
    if not (select c.relrowsecurity from pg_class c where c.oid = '@extschema@.job'::regclass) then
        return;
    end if;
    select array_agg(distinct g.grantee order by g.grantee),
        string_agg(distinct coalesce(quote_ident(r.rolname), 'public'), ', ')
    into v_roles, v_names
    from pg_class c
    cross join lateral aclexplode(c.relacl) g
    left join pg_roles r on r.oid = g.grantee
    where c.oid = '@extschema@.archive_dead'::regclass and g.privilege_type = 'SELECT' and g.grantee <> c.relowner;
    foreach v_table in array array[
        '@extschema@.job', '@extschema@.archive', '@extschema@.schedule', '@extschema@.schedule_run', '@extschema@.audit'
    ]::regclass[] loop
        select array_agg(o.role order by o.role) into v_old
        from pg_policy p cross join lateral unnest(p.polroles) o (role)
        where p.polrelid = v_table and p.polname = 'every_tenant';
        continue when v_old is not distinct from v_roles;
        execute format('drop policy if exists every_tenant on %s', v_table);
        if v_names is not null then
            execute format('create policy every_tenant on %s to %s using (true)', v_table, v_names);
        end if;
    end loop;
end
$$;
