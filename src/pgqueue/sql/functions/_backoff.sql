-- The delay before the next attempt, after `attempt` of them. A policy is one of
--   {"base": 2, "factor": 2, "cap": 3600, "jitter": 0.25}   seconds: base * factor^(attempt - 1)
--   {"delays": [1, 10, 60], "jitter": 0.25}                 seconds: listed, the last one repeats
-- or null for the schema's default. Capped first, then spread over [1 - jitter, 1] of it, so that the cap
-- holds and the attempts of one incident do not come back together.
--
-- No policy and no attempt may raise: one such job would hold up the reaper for all. What is missing or is no
-- number is taken from the defaults; no delay is longer than a year.
create or replace function @extschema@._backoff(policy jsonb, attempt integer) returns interval
language plpgsql volatile
@settings@
as $$
declare
    v_policy jsonb := policy;
    v_random float8 := random();
    v_listed integer;
    v_delay float8;
begin
    if v_policy is null then
        select s.backoff into v_policy from @extschema@.setting s where s.only_row;
    end if;
    v_listed := case when jsonb_typeof(v_policy -> 'delays') = 'array' then jsonb_array_length(v_policy -> 'delays') end;
    if v_listed > 0 then
        v_delay := @extschema@._number(v_policy -> 'delays' -> (least(attempt, v_listed) - 1), 0, 31536000, 2);
    else
        -- In logarithms, because factor^attempt overflows at attempts that a job can reach.
        v_delay := exp(least(
            ln(@extschema@._number(v_policy -> 'base', 0.001, 31536000, 2))
                + ln(@extschema@._number(v_policy -> 'factor', 1, 1000, 2)) * greatest(attempt - 1, 0),
            ln(@extschema@._number(v_policy -> 'cap', 0.001, 31536000, 3600))
        ));
    end if;
    return make_interval(secs => v_delay * (1 - @extschema@._number(v_policy -> 'jitter', 0, 1, 0.25) * v_random));
end
$$;

-- A number out of JSON within bounds, or `otherwise`. Compared as numeric, and rounded: JSON has numbers that overflow
-- a float, and some so small that a product with them underflows, which is an error too.
create or replace function @extschema@._number(value jsonb, least_value numeric, greatest_value numeric, otherwise float8)
returns float8
language sql immutable parallel safe
begin atomic
    select case when jsonb_typeof(value) = 'number'
        then least(greatest(round(value::numeric, 6), least_value), greatest_value)::float8
        else otherwise
    end;
end;
