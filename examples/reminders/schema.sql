-- What the application has already. Nothing in here knows of reminders, and uninstall.sql leaves it as it is.
create schema if not exists sync_app;

create table if not exists sync_app.sync (
    id bigint generated always as identity primary key,
    owner text not null,
    recipients text[] not null,
    status text not null check (status in ('running', 'paused', 'finished')),
    confirmed_at timestamptz
);

-- A user sees and changes syncs of their own: those of the user that the session names.
do $$
begin
    create role reminders_user nologin;
exception
    when duplicate_object or unique_violation then null; -- roles are the whole server's
end
$$;
grant usage on schema sync_app to reminders_user;
grant select, insert, update, delete on sync_app.sync to reminders_user;
alter table sync_app.sync enable row level security;
drop policy if exists own on sync_app.sync;
create policy own on sync_app.sync to reminders_user
    using (owner = (select nullif(current_setting('sync_app.user', true), '')));
