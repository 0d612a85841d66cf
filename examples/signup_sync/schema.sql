-- The application's own table. Its jobs name a row of it.
create table if not exists signup (
    id bigint generated always as identity primary key,
    email text not null unique,
    name text not null,
    plan text not null default 'free',
    version integer not null default 1, -- counts the changes
    remote_id bigint                    -- the third party's number, once it has the person
);
