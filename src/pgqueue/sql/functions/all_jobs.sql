-- Every job, unfinished or finished, with its state. For people and dashboards: filter it freely, by id
-- it is fast. Jobs are read with their payloads only where a query names that column. The casts give both sides the same
-- types: otherwise Postgres would read all jobs before it filters.
create or replace view @extschema@.all_jobs as
select j.id,
    case
        when j.lease_until is not null then 'claimed'
        when j.position is not null then 'ready'
        else 'scheduled'
    end as state,
    j.queue::text, j.kind::text, j.priority::smallint, j.attempt, j.max_attempts::integer, j.run_at::timestamptz,
    j.enqueued_at, j.claimed_at, j.lease_until,
    null::timestamptz as finished_at, j.worker, j.cancel_requested, j.dedupe_key, j.tags, j.metadata, j.ref,
    j.payload, null::jsonb as result, j.history, j.tenant::text
from @extschema@.job j
union all
select a.id, a.state, a.queue, a.kind, a.priority, a.attempt, a.max_attempts, a.run_at, a.enqueued_at,
    a.claimed_at, null, a.finished_at, a.worker, false, a.dedupe_key, a.tags, a.metadata, a.ref,
    a.payload, a.result, a.history, a.tenant
from @extschema@.archive a;
