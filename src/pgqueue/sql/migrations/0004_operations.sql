-- For those who operate queues: figures of each minute, who did what, and lists of finished jobs. Words and reasons:
-- docs/architecture.md.

-- Lists go through finished jobs from the latest on, and the figures of a minute are of those that finished in it. Jobs
-- finish in the order of this index, and those of one ack at one moment: it is written at its end, and kept small.
create index archive_finished on @extschema@.archive (finished_at);
-- Few among many that succeeded.
create index archive_unusual on @extschema@.archive (state, finished_at) where state in ('cancelled', 'skipped');
create index archive_ref on @extschema@.archive (ref) where ref is not null;

-- What happened in each minute, by queue. Rows of several sources are summed: '' is what the upkeep counts in the tables,
-- others are what workers counted of jobs that are not kept (retention 0).
create table @extschema@.minute (
    minute timestamptz not null,
    queue text collate "C" not null,
    source text collate "C" not null default '',
    enqueued bigint not null default 0,
    started bigint not null default 0,
    succeeded bigint not null default 0,
    failed bigint not null default 0,
    dead bigint not null default 0,
    cancelled bigint not null default 0,
    skipped bigint not null default 0,
    -- How many jobs waited (from when they were ready until they started), and ran, for how long: see _bucket().
    waits bigint[] not null default '{}',
    runs bigint[] not null default '{}',
    -- As it was when it was counted; null in rows of workers.
    ready bigint,
    scheduled bigint,
    claimed bigint,
    oldest_wait interval,
    primary key (minute, queue, source)
) with (autovacuum_vacuum_scale_factor = 0.05);
create index minute_queue on @extschema@.minute (queue, minute);

-- Attempts that ended without ending their jobs, a row for each statement and queue; the upkeep adds them up.
create table @extschema@.attempt_end (
    queue text collate "C" not null,
    ended_at timestamptz not null,
    failed bigint not null
);

-- What people did, in the transaction in which they did it.
create sequence @extschema@.audit_id_seq as bigint;
create table @extschema@.audit (
    id bigint not null default nextval('@extschema@.audit_id_seq') primary key,
    at timestamptz not null default @extschema@.clock(),
    actor text not null check (octet_length(actor) between 1 and 1000),
    via text collate "C" not null check (via ~ '^[a-z_-]+$' and octet_length(via) <= 32),
    action text collate "C" not null check (action ~ '^[a-z_]+$' and octet_length(action) <= 32),
    -- The jobs that were named, or the filter that chose them.
    job_ids bigint[],
    filter jsonb,
    queue text collate "C",
    detail jsonb,
    affected bigint not null default 0,
    tenant text collate "C" default nullif(current_setting('pgqueue.tenant', true), '')
        check (tenant ~ '^[A-Za-z0-9_.:/@-]+$' and octet_length(tenant) <= 128)
);
create index audit_at on @extschema@.audit (at);

alter table @extschema@.setting
    add column minute_retention interval not null default '7 days'
        check (minute_retention between '0' and '100 years'),
    add column audit_retention interval not null default '365 days'
        check (audit_retention between '0' and '100 years');

-- A register, as those in 0001_core.sql.
create sequence @extschema@.minutes_due as bigint minvalue 0 start 0;
