-- `moment` plus `span`, whose days have 24 hours, whatever the session's time zone does in that night.
create or replace function @extschema@._after(moment timestamptz, span interval) returns timestamptz
language sql immutable parallel safe
begin atomic
    select (moment at time zone 'UTC' + span) at time zone 'UTC';
end;
