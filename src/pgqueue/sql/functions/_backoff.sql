-- The delay before the next attempt, after `attempt` of them. A policy is one of
--   {"base": 2, "factor": 2, "cap": 3600, "jitter": 0.25}   seconds: base * factor^(attempt - 1)
--   {"delays": [1, 10, 60], "jitter": 0.25}                 seconds: listed, the last one repeats
-- or null for the schema's default. Capped first, then spread over [1 - jitter, 1] of it, so that the cap
-- holds and the attempts of one incident do not come back together. Any attempt number is safe.
create or replace function @extschema@._backoff(policy jsonb, attempt integer) returns interval
language plpgsql volatile
as $$
declare
    v_policy jsonb := policy;
    v_random float8 := random();
    v_base float8;
    v_factor float8;
    v_cap float8;
    v_delay float8;
begin
    if v_policy is null then
        select s.backoff into v_policy from @extschema@.setting s;
    end if;
    if v_policy ? 'delays' then
        v_delay := v_policy -> 'delays' ->> least(attempt, jsonb_array_length(v_policy -> 'delays')) - 1;
    else
        v_base := greatest((v_policy ->> 'base')::float8, 0.001);
        v_factor := greatest(coalesce((v_policy ->> 'factor')::float8, 2), 1);
        v_cap := coalesce((v_policy ->> 'cap')::float8, 3600);
        -- In logarithms, because factor^attempt overflows at attempts that a job can reach.
        v_delay := exp(least(ln(v_base) + ln(v_factor) * (attempt - 1), ln(greatest(v_cap, 0.001))));
    end if;
    return make_interval(secs => v_delay * (1 - coalesce((v_policy ->> 'jitter')::float8, 0.25) * v_random));
end
$$;
