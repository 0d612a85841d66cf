-- The one clock that decides: the database's. Functions read it once, into a variable.
-- pgqueue.testing replaces this function to travel in time.
create or replace function @extschema@.clock() returns timestamptz
language sql volatile parallel safe
begin atomic
    select pg_catalog.clock_timestamp();
end;
