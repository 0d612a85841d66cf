-- Moves claimed jobs to the archive in one statement; returns the ids that were not ours to end.
create or replace function @extschema@._finish(
    ids bigint[], tokens bigint[], state text, results jsonb, reasons text[]
) returns bigint[]
language plpgsql volatile
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
    v_keep boolean;
    v_done bigint[];
begin
    select s.retention > '0' into v_keep from @extschema@.setting s;
    -- Joined to the sorted claims row by row, so that rows are locked in the order of their ids, whatever
    -- the order of the arrays: two bulk calls cannot deadlock.
    with ours as (
        select c.id, c.token, nullif(c.result, 'null') as result, c.reason
        from rows from (
            unnest(_finish.ids), unnest(_finish.tokens), jsonb_array_elements(_finish.results), unnest(_finish.reasons)
        ) c (id, token, result, reason)
        order by c.id
    ), ended as (
        delete from @extschema@.job j using ours o
        where j.id = o.id and j.token = o.token and j.lease_until is not null
        returning j.*, o.result, o.reason
    ), kept as (
        insert into @extschema@.archive (
            id, state, finished_at, run_at, enqueued_at, claimed_at, token, attempt, max_attempts, priority, queue,
            kind, payload, worker, backoff, dedupe_until, dedupe_key, tags, metadata, ref, history, result
        )
        select e.id, _finish.state, v_now, e.run_at, e.enqueued_at, e.claimed_at, e.token, e.attempt,
            e.max_attempts, e.priority, e.queue, e.kind, e.payload, e.worker, e.backoff, e.dedupe_until,
            e.dedupe_key, e.tags, e.metadata, e.ref,
            case when _finish.reasons is null then e.history else @extschema@._history(
                e.history, e.attempt, e.claimed_at, v_now, e.worker, _finish.state,
                jsonb_build_object('message', e.reason)
            ) end,
            e.result
        from ended e
        where v_keep
    )
    select array_agg(e.id) into v_done from ended e;

    if cardinality(v_done) = cardinality(_finish.ids) then
        return '{}';
    end if;
    return array(
        select distinct c.id from unnest(_finish.ids, _finish.tokens) c (id, token)
        where not c.id = any (coalesce(v_done, '{}')) and not exists (
            select from @extschema@.archive a where a.id = c.id and a.token = c.token and a.state = _finish.state
        )
    );
end
$$;
