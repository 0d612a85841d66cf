-- Ends jobs as succeeded, with their results (a JSON array in the order of `ids`); returns the ids whose
-- lease was lost (empty: all went well). A job is ours while its token is: a late ack after the lease is
-- accepted as long as nobody claimed the job since. Repeating an ack that went through is harmless; it is known by the token in the archive.
create or replace function @extschema@.ack(ids bigint[], tokens bigint[], results jsonb default null)
returns bigint[]
language plpgsql volatile
@settings@
as $$
begin
    return @extschema@._finish(ids, tokens, 'succeeded', results, null);
end
$$;

-- Ends jobs as skipped: finished without doing anything, on purpose. `reasons` go to their histories.
create or replace function @extschema@.skip(ids bigint[], tokens bigint[], reasons text[] default null)
returns bigint[]
language plpgsql volatile
@settings@
as $$
begin
    return @extschema@._finish(ids, tokens, 'skipped', null, reasons);
end
$$;

-- Ends claimed jobs as cancelled, by the worker that holds them.
create or replace function @extschema@.cancel_claimed(ids bigint[], tokens bigint[], reasons text[] default null)
returns bigint[]
language plpgsql volatile
@settings@
as $$
begin
    return @extschema@._finish(ids, tokens, 'cancelled', null, reasons);
end
$$;
