-- Integrations of users, and their credentials. The schedules themselves are rows of pgqueue.schedule. Run it again as you
-- like, as the role that owns pgqueue's schema.
create schema if not exists autosync;

-- The settings page's backend is autosync_web, and acts for the user that `pgqueue.tenant` names. The worker is
-- autosync_service. Both are bound by row security. Give your login roles membership in one of them.
do $$
begin
    create role autosync_web nologin nobypassrls;
exception
    when duplicate_object or unique_violation then null; -- roles are the whole server's
end
$$;
do $$
begin
    create role autosync_service nologin nobypassrls;
exception
    when duplicate_object or unique_violation then null;
end
$$;
select pgqueue.isolate_tenants();
select pgqueue.grant_access('autosync_web', 'tenant'), pgqueue.grant_access('autosync_service', 'worker');
grant usage on schema autosync to autosync_web, autosync_service;

create table if not exists autosync.integration (
    id bigint generated always as identity primary key,
    owner text not null default nullif(current_setting('pgqueue.tenant', true), ''),
    service text not null check (service ~ '^[a-z]+$'),
    unique (owner, service)
);
grant select, delete on autosync.integration to autosync_web, autosync_service;
alter table autosync.integration enable row level security;
drop policy if exists own on autosync.integration;
create policy own on autosync.integration to autosync_web
    using (owner = (select nullif(current_setting('pgqueue.tenant', true), '')));
drop policy if exists service on autosync.integration;
create policy service on autosync.integration to autosync_service using (true);

-- Row security, and not only missing grants: a host that grants all tables to everybody shows nothing of this one. It is not
-- encrypted, so backups have it.
create table if not exists autosync.credential (
    integration_id bigint primary key references autosync.integration on delete cascade,
    api_key text not null,
    changed_at timestamptz not null default now()
);
grant select, insert, update, delete on autosync.credential to autosync_service;
alter table autosync.credential enable row level security;
drop policy if exists service on autosync.credential;
create policy service on autosync.credential to autosync_service using (true);

-- How a user connects a service, or replaces its key: it is written, and read again by nobody but the service role.
create or replace function autosync.connect(service text, api_key text) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    v_id bigint;
begin
    insert into autosync.integration as i (service) values (service)
    on conflict on constraint integration_owner_service_key do update set service = i.service
    returning i.id into v_id;
    insert into autosync.credential (integration_id, api_key) values (v_id, api_key)
    on conflict on constraint credential_pkey do update set api_key = excluded.api_key, changed_at = now();
    return v_id;
end
$$;
revoke execute on function autosync.connect from public;
grant execute on function autosync.connect to autosync_web;

-- An integration takes its schedule along, and the jobs that are unfinished.
create or replace function autosync.integration_deleted() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    delete from pgqueue.schedule where ref = 'integration:' || old.id;
    perform pgqueue.cancel_ref('integration:' || old.id, 'the integration is deleted');
    return null;
end
$$;
create or replace trigger integration_deleted after delete on autosync.integration
    for each row execute function autosync.integration_deleted();
