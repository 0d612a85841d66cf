-- The parts of alerts: `pgqueue.alerts` calls them, in any number of processes.

-- Adds to the counts of ended attempts by kind; those older than an hour are deleted.
create or replace function @extschema@._count_attempts(kinds text[], ended bigint[], failed bigint[], dead bigint[]) returns void
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
begin
    insert into @extschema@.attempt_count (counted_at, kind, ended, failed, dead)
    select v_now, c.kind, c.ended, c.failed, c.dead
    from unnest(
        _count_attempts.kinds, _count_attempts.ended, _count_attempts.failed, _count_attempts.dead
    ) c (kind, ended, failed, dead);
    delete from @extschema@.attempt_count c where c.ctid = any (array(
        select o.ctid from @extschema@.attempt_count o
        where o.counted_at < v_now - interval '1 hour' order by o.counted_at limit 1000 for update skip locked
    ));
end
$$;

-- How attempts ended within the last `span`, by kind.
create or replace function @extschema@._attempt_counts(span interval)
returns table (kind text, ended bigint, failed bigint, dead bigint)
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
begin
    return query
    select c.kind, sum(c.ended)::bigint, sum(c.failed)::bigint, sum(c.dead)::bigint
    from @extschema@.attempt_count c
    where c.counted_at > v_now - span and c.counted_at <= v_now
    group by c.kind;
end
$$;

-- Whether it is the caller's turn to look for what is wrong: one process's in each `pause`.
create or replace function @extschema@._alerts_turn(pause interval) returns boolean
language plpgsql volatile
@settings@
as $$
declare
    v_now timestamptz := @extschema@.clock();
begin
    return @extschema@._take_turn('@extschema@.alerts_due', v_now, pause);
end
$$;

-- Notes what `rules` found wrong, [{"rule", "key", "summary", "value", "cool_down", "quiet"}], and what of theirs is over by now.
-- Returns what is to be told, and by the caller alone: until `lease` is over, nobody else is asked to. Once somebody was
-- told, call _alert_told(); otherwise it is returned again, to whoever comes then.
create or replace function @extschema@._note_alerts(alarms jsonb, rules text[], lease interval)
returns table (rule text, key text, firing boolean, since timestamptz, summary text, value float8, token bigint)
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
    v_token bigint := hashtextextended(gen_random_uuid()::text, 0) & 9007199254740991;
begin
    -- In the order of their keys, so that two callers cannot deadlock.
    insert into @extschema@.alert as a (rule, key, firing, since, seen_at, summary, value, cool_down, quiet)
    select f.rule, f.key, true, v_now, v_now, left(f.summary, 1000), f.value, f.cool_down, f.quiet
    from jsonb_to_recordset(_note_alerts.alarms) f (
        rule text, key text, summary text, value float8, cool_down interval, quiet interval
    )
    order by f.rule collate "C", f.key collate "C"
    on conflict (rule, key) do update set
        firing = true,
        since = case when a.firing then a.since else excluded.since end,
        seen_at = greatest(a.seen_at, excluded.seen_at),
        summary = excluded.summary, value = excluded.value, cool_down = excluded.cool_down, quiet = excluded.quiet;

    update @extschema@.alert a set firing = false, since = v_now
    where a.ctid = any (array(
        select o.ctid from @extschema@.alert o
        where o.firing and o.rule = any (_note_alerts.rules) and o.seen_at <= v_now - o.quiet
        order by o.rule, o.key for update skip locked
    ));
    -- Told long ago, or never: a rule that is not used any more leaves nothing behind either.
    delete from @extschema@.alert a where a.ctid = any (array(
        select o.ctid from @extschema@.alert o
        where o.seen_at < v_now - greatest(interval '1 day', 2 * o.cool_down) for update skip locked
    ));

    return query
    update @extschema@.alert a set token = v_token, claimed_until = v_now + _note_alerts.lease
    where a.ctid = any (array(
        select o.ctid from @extschema@.alert o
        where o.rule = any (_note_alerts.rules)
            and (o.claimed_until is null or o.claimed_until < v_now)
            and case when o.firing then o.told_at is null or o.told_at <= v_now - o.cool_down else o.told end
        order by o.rule, o.key limit 100 for update skip locked
    ))
    returning a.rule, a.key, a.firing, a.since, a.summary, a.value, a.token;
end
$$;

-- Notes that somebody was told, by whoever has the token; whether that is still the caller.
create or replace function @extschema@._alert_told(rule text, key text, token bigint, firing boolean) returns boolean
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
begin
    update @extschema@.alert a set
        told = _alert_told.firing,
        told_at = case when _alert_told.firing then v_now else a.told_at end,
        token = null, claimed_until = null
    where a.rule = _alert_told.rule and a.key = _alert_told.key and a.token = _alert_told.token;
    return found;
end
$$;
