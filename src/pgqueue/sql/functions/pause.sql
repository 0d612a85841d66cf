-- Stops claims from a queue, until resume() or until a time; running jobs go on, enqueues are stored. The queue '*' is all of
-- them: then no schedule fires either, and no endpoint is poked; claim_one() and run_schedule() still work.
-- For ever is the year 9999, because not every language has a timestamp of infinity.
create or replace function @extschema@.pause(
    queue text, until timestamptz default 'infinity', reason text default null
) returns void
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
begin
    insert into @extschema@.queue (name, paused_at, paused_until, pause_reason)
    values (pause.queue, v_now, least(pause.until, '9999-12-31 00:00Z'), pause.reason)
    on conflict (name) do update set
        paused_at = excluded.paused_at, paused_until = excluded.paused_until, pause_reason = excluded.pause_reason;
end
$$;

-- Lets claims go on; true if the queue was paused. '*' lets all go on that were not paused one by one.
create or replace function @extschema@.resume(queue text) returns boolean
language plpgsql volatile
@settings@
as $$
declare
    v_now timestamptz := @extschema@.clock();
    v_was_paused boolean;
begin
    select q.paused_until > v_now into v_was_paused from @extschema@.queue q where q.name = resume.queue for update;
    update @extschema@.queue q set paused_at = null, paused_until = null, pause_reason = null
    where q.name = resume.queue;
    perform @extschema@._ring(case
        when resume.queue = '*' then array(select distinct s.queue from @extschema@.sleeper s where s.until > v_now)
        else array[resume.queue]
    end, v_now);
    return coalesce(v_was_paused, false);
end
$$;

-- Whether all automatic processing is paused.
create or replace function @extschema@._all_paused(moment timestamptz) returns boolean
language plpgsql stable
@settings@
as $$
begin
    return exists (select from @extschema@.queue q where q.name = '*' and q.paused_until > moment);
end
$$;
