-- Alerts: what is wrong now, who was told, and how attempts ended of late. Words and reasons: docs/observability.md.

-- One row for each thing that is, or was within the last day, wrong: a rule and what it is about, a queue or a kind say.
create table @extschema@.alert (
    rule text collate "C" not null check (octet_length(rule) <= 200),
    key text collate "C" not null check (octet_length(key) <= 500),
    firing boolean not null,
    -- Of the present state.
    since timestamptz not null,
    -- When it was last found wrong.
    seen_at timestamptz not null,
    summary text not null,
    value float8,
    -- While it goes on, it is told again after so long; nor is it told again sooner where it comes and goes.
    cool_down interval not null,
    -- It is over once it was not seen for so long.
    quiet interval not null,
    -- When somebody was last told that it is wrong; and whether nobody was told since that it is over.
    told_at timestamptz,
    told boolean not null default false,
    -- Who tells it now: until then nobody else does.
    token bigint,
    claimed_until timestamptz,
    primary key (rule, key)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_threshold = 200);

-- How attempts ended, by kind, as the workers that watch add it up every some seconds. Only inserted, and deleted after an hour:
-- a count that is updated in place would leave a chain of dead versions under an old snapshot.
create table @extschema@.attempt_count (
    counted_at timestamptz not null,
    kind text collate "C" not null,
    ended bigint not null,
    -- Of these, the dead ones included.
    failed bigint not null,
    dead bigint not null
);
create index attempt_count_time on @extschema@.attempt_count (counted_at);

-- A register, as those in 0001_core.sql.
create sequence @extschema@.alerts_due as bigint minvalue 0 start 0;
