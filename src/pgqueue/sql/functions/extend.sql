-- Renews the leases of jobs that are still ours, to `lease` from now; returns those, each with whether its
-- cancellation was asked for. Ids that do not come back are lost.
create or replace function @extschema@.extend(ids bigint[], tokens bigint[], lease interval)
returns table (id bigint, cancel_requested boolean)
language plpgsql volatile
@settings@
set enable_nestloop = off
as $$
#variable_conflict use_column
declare
    v_lease_until timestamptz := @extschema@._after(@extschema@.clock(), lease);
begin
    if lease <= interval '0' or lease is null then
        raise exception 'lease % is not positive', lease using errcode = 'PQ002';
    end if;
    -- As in claim().
    if v_lease_until >= '9999-01-01 00:00Z' then
        raise exception 'lease % does not end before the year 9999', lease using errcode = 'PQ002';
    end if;
    -- In the order of ids, as in _finish().
    return query
    update @extschema@.job j set lease_until = v_lease_until
    from (
        select c.id, c.token from unnest(extend.ids, extend.tokens) c (id, token) order by c.id
    ) c
    where j.id = any (extend.ids) and j.id = c.id and j.token = c.token and j.lease_until is not null
    returning j.id, j.cancel_requested;
end
$$;
