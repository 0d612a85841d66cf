-- The tables of pgqueue. @extschema@ is replaced by the quoted schema name.
-- Words and reasons: docs/architecture.md.

-- For the defaults below; functions/clock.sql says more.
create function @extschema@.clock() returns timestamptz language sql volatile parallel safe
begin atomic
    select pg_catalog.clock_timestamp();
end;

-- What a job's columns may hold, as domains: Postgres reads the text of a table's own checks anew for each statement, and
-- evaluates all of them for each row that a claim updates. Measured: an INSERT took 12 us instead of 27 with domains.
-- Collation "C" for all that is indexed: cheaper to compare, and no upgrade of the system's locales can corrupt the
-- index. A bounded quantifier such as {1,128} would cost 7 us a value, sixty times this expression. An error names the
-- domain, and so each column of names has one.
create domain @extschema@.identifier as text collate "C" check (value ~ '^[A-Za-z0-9_.:/@-]+$' and octet_length(value) <= 128);
create domain @extschema@.queue_name as @extschema@.identifier;
create domain @extschema@.kind_name as @extschema@.identifier;
create domain @extschema@.tenant_name as @extschema@.identifier;
create domain @extschema@.run_time as timestamptz check (value >= '1900-01-01 00:00Z' and value < '9999-01-01 00:00Z');
create domain @extschema@.priority as smallint check (value between 0 and 9);
create domain @extschema@.attempt_limit as integer check (value > 0);
create domain @extschema@.dedupe_scope as text check (value in ('start', 'finish'));

create sequence @extschema@.job_id_seq as bigint;
create sequence @extschema@.position_seq as bigint;

-- Unfinished jobs only: scheduled (position is null), ready, claimed (lease_until is not null).
-- A claim writes none of the indexed columns, so that it is a HOT update and leaves no dead index entry;
-- fillfactor 40 leaves each row the room for its claimed version, which is longer, on the same page: measured, 100%
-- of claims are HOT (50: 75%), and claim and ack together 15% cheaper.
create table @extschema@.job (
    id bigint not null default nextval('@extschema@.job_id_seq') primary key,
    -- Place in the lane (queue, priority); drawn when the job becomes ready.
    position bigint default nextval('@extschema@.position_seq'),
    run_at @extschema@.run_time not null default @extschema@.clock(),
    enqueued_at timestamptz not null default @extschema@.clock(),
    claimed_at timestamptz,
    lease_until timestamptz,
    -- The fencing number of the last claim; it stays after a fail, so that a replayed fail is known.
    token bigint,
    attempt integer not null default 0,
    max_attempts @extschema@.attempt_limit not null,
    priority @extschema@.priority not null default 5,
    cancel_requested boolean not null default false,
    queue @extschema@.queue_name not null,
    kind @extschema@.kind_name not null,
    payload jsonb not null,
    worker text,
    backoff jsonb,
    dedupe_until @extschema@.dedupe_scope,
    dedupe_key text,
    -- Holds the key; null while a job with scope 'start' runs.
    dedupe_hash bytea,
    tags text[],
    metadata jsonb,
    ref text collate "C",
    history jsonb,
    -- To whom the job belongs: the session says. It matters once isolate_tenants() was called, and a null takes no room.
    tenant @extschema@.tenant_name default nullif(current_setting('pgqueue.tenant', true), '')
) with (
    fillfactor = 40,
    -- Dead rows are the cost of a queue: vacuum early, without pauses, and never take the
    -- exclusive lock that truncating the file would need.
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0.1,
    autovacuum_analyze_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = off,
    toast.vacuum_truncate = off
);

-- One B-tree, one question each: what is next in a lane, what is due, who holds a key, whose job is it.
create index job_ready on @extschema@.job (queue, priority, position) where position is not null;
create index job_scheduled on @extschema@.job (run_at) where position is null;
create unique index job_dedupe on @extschema@.job (dedupe_hash) where dedupe_hash is not null;
create index job_ref on @extschema@.job (ref) where ref is not null;

-- Finished jobs. Dead ones are kept apart, for their longer retention. Partitions by finish time are
-- made and dropped by _partitions(); the default ones only catch what comes when nobody maintains.
create table @extschema@.archive (
    id bigint not null,
    state text not null,
    finished_at timestamptz not null,
    run_at timestamptz not null,
    enqueued_at timestamptz not null,
    claimed_at timestamptz,
    token bigint,
    attempt integer not null,
    max_attempts integer not null,
    priority smallint not null,
    queue text collate "C" not null,
    kind text collate "C" not null,
    payload jsonb not null,
    worker text,
    backoff jsonb,
    dedupe_until text,
    dedupe_key text,
    tags text[],
    metadata jsonb,
    ref text collate "C",
    history jsonb,
    result jsonb,
    tenant text collate "C"
) partition by list (state);
create index archive_id on @extschema@.archive (id);

create table @extschema@.archive_dead partition of @extschema@.archive
    for values in ('dead') partition by range (finished_at);
create table @extschema@.archive_done partition of @extschema@.archive
    for values in ('succeeded', 'cancelled', 'skipped') partition by range (finished_at);
create table @extschema@.archive_dead_default partition of @extschema@.archive_dead default;
create table @extschema@.archive_done_default partition of @extschema@.archive_done default;

-- What is known of a lane, as marks: only ever inserted by enqueue (a new lane) and claim (a higher
-- head), so that nobody waits for anybody; the greatest value counts. Maintenance folds them, forgets
-- lanes that fell out of use, and finds lanes that lack a mark.
--   head:   no claimed job stands above it (rises in steps, so that few claims write it)
--   floor:  a hint, no ready job below it      bottom: a hint, no unfinished job below it
create table @extschema@.lane (
    queue text collate "C" not null,
    priority smallint not null,
    head bigint not null,
    floor bigint not null default 0,
    bottom bigint not null default 0
);
create index lane_queue on @extschema@.lane (queue, priority);

create table @extschema@.queue (
    name text collate "C" primary key,
    paused_at timestamptz,
    paused_until timestamptz,
    pause_reason text
);

-- Idle workers; enqueue rings only for these (NOTIFY at every commit would end group commit).
create table @extschema@.sleeper (
    queue text collate "C" not null,
    worker text not null,
    until timestamptz not null,
    -- That it runs; null: any.
    kinds text[]
);
-- Enqueue asks for what lies in the future, and so passes over all rows that are dead or expired.
create index sleeper_until on @extschema@.sleeper (queue, until);
create index sleeper_worker on @extschema@.sleeper (worker);

create table @extschema@.setting (
    only_row boolean primary key default true check (only_row),
    max_payload_bytes integer not null default 262144 check (max_payload_bytes between 1024 and 67108864),
    -- Zero: succeeded, cancelled and skipped jobs are not kept at all.
    retention interval not null default '14 days' check (retention between '0' and '100 years'),
    dead_retention interval not null default '90 days' check (dead_retention between '1 second' and '100 years'),
    partition_width interval not null default '1 day' check (partition_width in ('1 hour', '1 day')),
    max_attempts integer not null default 20 check (max_attempts > 0),
    -- Seconds; see _backoff().
    backoff jsonb not null default '{"base": 2, "factor": 2, "cap": 3600, "jitter": 0.25}'
);
insert into @extschema@.setting default values;

-- Registers of the maintenance, in microseconds since 1970. Sequences, because one is overwritten in
-- place: a row updated every second would grow a chain of dead versions under an old snapshot.
create sequence @extschema@.promote_floor as bigint minvalue 0 start 0;
create sequence @extschema@.promote_rescan as bigint minvalue 0 start 0;
create sequence @extschema@.reap_due as bigint minvalue 0 start 0;
create sequence @extschema@.reap_rescan as bigint minvalue 0 start 0;
create sequence @extschema@.lanes_due as bigint minvalue 0 start 0;
create sequence @extschema@.lanes_rescan as bigint minvalue 0 start 0;
create sequence @extschema@.partitions_due as bigint minvalue 0 start 0;

-- Likewise a register: until when workers sleep, of all the one that sleeps longest.
create sequence @extschema@.slept_until as bigint minvalue 0 start 0;
-- Counts how often marks were deleted, by whomever; see functions/enqueue.sql. It begins with the time, for a session may
-- remember the marks of an earlier schema of this name.
create sequence @extschema@.marks_deleted as bigint;
select setval('@extschema@.slept_until', 0), setval('@extschema@.marks_deleted', (extract(epoch from clock_timestamp()) * 1000000)::bigint);
