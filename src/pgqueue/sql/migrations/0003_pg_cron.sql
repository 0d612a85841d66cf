-- For pg_cron and pg_net: which endpoints are poked, with which secret, and by which requests. Words and reasons:
-- docs/cron.md.

-- Secrets of hosts that have no Vault, or one whose permissions fail. Row security on top of grants, because many hosts
-- grant new tables to everybody by default: whoever was not named by grant_access(..., 'cron') sees no row.
create table @extschema@.secret (
    name text collate "C" primary key check (name ~ '^[A-Za-z0-9_.:/@-]+$' and octet_length(name) <= 128),
    -- Checked by put_secret() and by who reads it: a constraint would print the row where it fails.
    value text not null,
    updated_at timestamptz not null default @extschema@.clock()
);
revoke all on @extschema@.secret from public;
alter table @extschema@.secret enable row level security;

-- An endpoint that works off a queue, and what it is called with.
create table @extschema@.poke (
    name text collate "C" primary key check (name ~ '^[A-Za-z0-9_.:/@-]+$' and octet_length(name) <= 128),
    queue text collate "C" not null default 'default' check (queue ~ '^[A-Za-z0-9_.:/@-]+$' and octet_length(queue) <= 128),
    url text not null check (url ~ '^https?://[!-~]+$' and octet_length(url) <= 2000),
    -- The secret's name; null: it is called without one.
    secret text collate "C" check (secret ~ '^[A-Za-z0-9_.:/@-]+$' and octet_length(secret) <= 128),
    -- Which header has it; in Authorization it stands behind "Bearer".
    header text not null default 'Authorization' check (header ~ '^[A-Za-z0-9-]+$' and octet_length(header) <= 100),
    body jsonb not null default '{}',
    timeout interval not null default '30 seconds' check (timeout between '100 milliseconds' and '10 minutes')
);

-- The requests of the last day, by the ids that pg_net gave them.
create table @extschema@.poke_request (
    request_id bigint primary key,
    poke text collate "C" not null,
    queue text collate "C" not null,
    requested_at timestamptz not null
);
create index poke_request_time on @extschema@.poke_request (requested_at);
create index poke_request_poke on @extschema@.poke_request (poke, requested_at);
