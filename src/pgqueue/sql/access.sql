-- Applied behind all functions.

-- Nobody calls what grant_access() did not give. The rights on tables alone would let a role call what finds nothing to do.
-- The parts of functions stay open, being SECURITY INVOKER, and clock() too: a function may call a new part from the moment of
-- an upgrade on, before grant_access() is called again.
-- Likewise what an enqueue reads: before Postgres 18 it would fail where it may not.
grant select on sequence @extschema@.marks_deleted, @extschema@.slept_until to public;
do $$
declare
    v_function regprocedure;
begin
    for v_function in
        select p.oid::regprocedure from pg_catalog.pg_proc p
        where p.pronamespace = '@extschema@'::regnamespace
            and (p.proname !~ '^_' and p.proname <> 'clock' or p.prosecdef or p.proname = '_every_tenant')
    loop
        execute pg_catalog.format('revoke execute on routine %s from public', v_function);
    end loop;
    -- A view that was replaced has lost its options, and the policies may be another version's.
    if (select c.relrowsecurity from pg_catalog.pg_class c where c.oid = '@extschema@.job'::regclass) then
        perform @extschema@.isolate_tenants();
    end if;
end
$$;
