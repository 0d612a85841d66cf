-- Moves claimed jobs to the archive in one statement; returns the ids that were not ours to end.
create or replace function @extschema@._finish(
    ids bigint[], tokens bigint[], state text, results jsonb, reasons text[]
) returns bigint[]
language plpgsql volatile
@settings@
set enable_nestloop = off
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
    v_keep boolean;
    v_done bigint[];
begin
    select s.retention > '0' into v_keep from @extschema@.setting s where s.only_row;
    -- Both sides of the join come in the order of ids (the condition with any() scans the index in that
    -- order), so rows are locked in it, whatever the order of the arrays: two bulk calls cannot deadlock.
    with ours as (
        select c.id, c.token, nullif(c.result, 'null') as result, c.reason
        from rows from (
            unnest(_finish.ids), unnest(_finish.tokens), jsonb_array_elements(_finish.results), unnest(_finish.reasons)
        ) c (id, token, result, reason)
        order by c.id
    ), ended as (
        delete from @extschema@.job j using ours o
        where j.id = any (_finish.ids) and j.id = o.id and j.token = o.token and j.lease_until is not null
        returning j.*, o.result, o.reason
    ), kept as (
        insert into @extschema@.archive (
            id, state, finished_at, run_at, enqueued_at, claimed_at, token, attempt, max_attempts, priority, queue,
            kind, payload, worker, backoff, dedupe_until, dedupe_key, tags, metadata, ref, history, result,
            tenant
        )
        select e.id, _finish.state, v_now, e.run_at, e.enqueued_at, e.claimed_at, e.token, e.attempt,
            e.max_attempts, e.priority, e.queue, e.kind, e.payload, e.worker, e.backoff, e.dedupe_until,
            e.dedupe_key, e.tags, e.metadata, e.ref,
            case when _finish.reasons is null then e.history else @extschema@._history(
                e.history, e.attempt, e.claimed_at, v_now, e.worker, _finish.state,
                jsonb_build_object('message', e.reason)
            ) end,
            e.result, e.tenant
        from ended e
        where v_keep
    )
    select array_agg(e.id) into v_done from ended e;

    if cardinality(v_done) = cardinality(ids) then
        return '{}';
    end if;
    return @extschema@._lost(ids, tokens, v_done, array[state]);
end
$$;

-- Of the claims (id, token), the ids that are not in `done` and whose jobs were not ended by this very token
-- before, with one of `states`: what was repeated is not lost. With retention 0 nobody remembers acks.
create or replace function @extschema@._lost(ids bigint[], tokens bigint[], done bigint[], states text[])
returns bigint[]
language plpgsql volatile
@settings@
set enable_nestloop = on
as $$
begin
    return array(
        select distinct c.id from unnest(ids, tokens) c (id, token)
        where not c.id = any (coalesce(done, '{}')) and not exists (
            select from @extschema@.archive a where a.id = c.id and a.token = c.token and a.state = any (states)
        )
    );
end
$$;
