-- Who works: each process of a worker, and each scheduler, says here what it takes, and every ten seconds that it lives.
-- For people, and for why(): nothing of the queue depends on it, and no secret stands in it.

create table @extschema@.worker (
    -- Made anew at each start; jobs that it claims have it in their column `worker`.
    id text collate "C" primary key check (octet_length(id) <= 1000),
    host text not null,
    pid bigint not null,
    version text not null,
    started_at timestamptz not null,
    beat_at timestamptz not null,
    -- Both empty: a scheduler.
    queues text[] not null,
    kinds text[] not null,
    -- Handlers that it runs at once, and that ran when it last beat.
    concurrency integer not null check (concurrency >= 0),
    running integer not null default 0,
    -- Of its kinds those for which it had no room then: sync and async handlers have rooms of their own.
    full_kinds text[],
    stopping boolean not null default false
) with (
    -- A beat changes no indexed column, and leaves room on its page for the next: it is HOT.
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.1,
    autovacuum_vacuum_threshold = 500
);
