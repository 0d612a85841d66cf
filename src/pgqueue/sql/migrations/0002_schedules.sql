-- Schedules: recurring enqueues. Words and reasons: docs/guide-schedules.md.

create sequence @extschema@.schedule_id_seq as bigint;

-- Anybody with the right to write a row makes a schedule; a trigger checks it and computes its next slot.
create table @extschema@.schedule (
    id bigint not null default nextval('@extschema@.schedule_id_seq') primary key,
    name text collate "C" not null check (name ~ '^[A-Za-z0-9_.:/@-]+$' and octet_length(name) <= 200),
    -- When: one of the two.
    cron text,
    every interval check (every >= '1 second' and every <= '1000 days'),
    timezone text not null default 'UTC',
    window_start time,
    window_end time,
    starts_at timestamptz not null default @extschema@.clock() check (starts_at >= '1900-01-01 00:00Z' and starts_at < '9999-01-01 00:00Z'),
    ends_at timestamptz check (ends_at >= '1900-01-01 00:00Z' and ends_at < '9999-01-01 00:00Z'),
    jitter interval not null default '0' check (jitter between '0' and '30 days'),
    -- How many missed slots are made up for, the latest ones; 0: those that are later than `grace` are not.
    catch_up integer not null default 1 check (catch_up between 0 and 1000),
    grace interval not null default '10 minutes' check (grace between '0' and '1000 days'),
    -- What becomes of a slot while the job of an earlier one is unfinished.
    overlap text not null default 'queue' check (overlap in ('queue', 'skip', 'replace')),
    enabled boolean not null default true,
    -- By whom it was declared in code; null: it is data.
    declared_by text collate "C" check (declared_by ~ '^[A-Za-z0-9_.:/@-]+$' and octet_length(declared_by) <= 200),
    -- What: as enqueue() takes it.
    kind text collate "C" not null check (kind ~ '^[A-Za-z0-9_.:/@-]+$' and octet_length(kind) <= 128),
    payload jsonb not null default '{}',
    queue text collate "C" not null default 'default' check (queue ~ '^[A-Za-z0-9_.:/@-]+$' and octet_length(queue) <= 128),
    priority integer not null default 5 check (priority between 0 and 9),
    max_attempts integer check (max_attempts > 0),
    backoff jsonb,
    tags text[],
    metadata jsonb check (jsonb_typeof(metadata) = 'object'),
    ref text collate "C",
    -- To whom it belongs, and its jobs: as job.tenant.
    tenant text collate "C" default nullif(current_setting('pgqueue.tenant', true), '')
        check (tenant ~ '^[A-Za-z0-9_.:/@-]+$' and octet_length(tenant) <= 128),
    -- The database's own, by the trigger and tick().
    masks bigint[],
    -- Since when it runs at these times: those before are not made up for.
    changed_at timestamptz,
    -- The next slot; null: none will come, or the schedule is not enabled.
    next_run_at timestamptz,
    -- The last slot that was fired, or passed over by a policy. No later one is fired again, whatever becomes of the history.
    last_run_at timestamptz,
    last_job_id bigint,
    check ((window_start is null) = (window_end is null) and window_start <> window_end),
    check (ends_at > starts_at)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
create unique index schedule_name on @extschema@.schedule (name, (coalesce(tenant, '')));
create index schedule_due on @extschema@.schedule (next_run_at) where next_run_at is not null;
create index schedule_ref on @extschema@.schedule (ref) where ref is not null;
create index schedule_declared_by on @extschema@.schedule (declared_by) where declared_by is not null;

-- What became of each slot, for people.
create table @extschema@.schedule_run (
    schedule_id bigint not null,
    slot timestamptz not null,
    fired_at timestamptz not null,
    -- enqueued; manual: by hand; skipped: an earlier job was not finished; missed: too late; failed: could not be enqueued
    outcome text not null,
    job_id bigint,
    error text,
    tenant text collate "C",
    primary key (schedule_id, slot)
);
create index schedule_run_fired on @extschema@.schedule_run (fired_at);
-- What the doctor looks for: hardly ever written.
create index schedule_run_wrong on @extschema@.schedule_run (fired_at) where outcome in ('failed', 'missed');

-- Registers, as those in 0001_core.sql.
create sequence @extschema@.schedule_floor as bigint minvalue 0 start 0;
create sequence @extschema@.schedule_rescan as bigint minvalue 0 start 0;
create sequence @extschema@.schedule_runs_due as bigint minvalue 0 start 0;
