-- Ends the running attempt badly: the job waits for its backoff (or for `delays`, where not null) and runs
-- again, or is dead once its attempts are used up. `errors` is a JSON array of objects with class, message and
-- traceback, in the order of `ids`. Returns the ids whose lease was lost; repeating a fail is harmless.
create or replace function @extschema@.fail(
    ids bigint[], tokens bigint[], errors jsonb default null, delays interval[] default null
) returns bigint[]
language plpgsql volatile
@settings@
as $$
begin
    return @extschema@._put_back_ours(ids, tokens, 'failed', errors, delays);
end
$$;

-- Puts jobs back until `delays` are over, without counting the attempt.
create or replace function @extschema@.snooze(ids bigint[], tokens bigint[], delays interval[])
returns bigint[]
language plpgsql volatile
@settings@
as $$
begin
    if exists (select from unnest(delays) d where d is null or d < '0') or delays is null then
        raise exception 'a snooze needs a delay of zero or more for each job' using errcode = 'PQ002';
    end if;
    return @extschema@._put_back_ours(ids, tokens, 'snoozed', null, delays);
end
$$;

-- Gives claimed jobs back unstarted: ready at once, in their old places, the attempt not counted.
create or replace function @extschema@.release(ids bigint[], tokens bigint[]) returns bigint[]
language plpgsql volatile
@settings@
as $$
begin
    return @extschema@._put_back_ours(ids, tokens, 'released', null, null);
end
$$;

create or replace function @extschema@._put_back_ours(
    ids bigint[], tokens bigint[], outcome text, errors jsonb, delays interval[]
) returns bigint[]
language plpgsql volatile
@settings@
set enable_nestloop = off
as $$
#variable_conflict use_column
declare
    v_ids bigint[];
    v_errors jsonb;
    v_delays interval[];
begin
    -- Locked first, in the order of ids (see _finish), so that all that follows works on rows that are ours.
    select array_agg(o.id), jsonb_agg(o.error), array_agg(o.delay) into v_ids, v_errors, v_delays
    from (
        select j.id, c.error, c.delay
        from rows from (
            unnest(_put_back_ours.ids), unnest(_put_back_ours.tokens),
            jsonb_array_elements(_put_back_ours.errors), unnest(_put_back_ours.delays)
        ) c (id, token, error, delay)
        join @extschema@.job j on j.id = c.id
        where j.id = any (_put_back_ours.ids) and j.token = c.token and j.lease_until is not null
        order by j.id
        for update of j
    ) o;
    if v_ids is not null then
        perform @extschema@._put_back(v_ids, outcome, v_delays, v_errors);
    end if;
    if cardinality(v_ids) = cardinality(ids) then
        return '{}';
    end if;
    -- Jobs that wait with this very token are not lost: this call went through before.
    return @extschema@._lost(ids, tokens, v_ids || array(
        select j.id from unnest(_put_back_ours.ids, _put_back_ours.tokens) c (id, token)
        join @extschema@.job j on j.id = c.id and j.token = c.token
        where j.id = any (_put_back_ours.ids)
    ), '{dead,cancelled,skipped}');
end
$$;
