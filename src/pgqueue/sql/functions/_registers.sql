-- Registers: times kept in sequences (why: migrations/0001_core.sql).

create or replace function @extschema@._read_register(register regclass) returns timestamptz
language sql volatile
begin atomic
    select pg_catalog.to_timestamp(coalesce(pg_catalog.pg_sequence_last_value(register), 0) / 1e6);
end;

create or replace function @extschema@._write_register(register regclass, value timestamptz) returns void
language sql volatile
begin atomic
    select pg_catalog.setval(register, greatest(0, (extract(epoch from value) * 1e6)::bigint));
end;

-- Whether work guarded by the register is due; if so, it is taken for `pause`. Two callers at once may both be
-- told yes: all such work is safe to do twice. No pause is over 10 minutes, so one that seems longer was
-- written before the clock was set back.
create or replace function @extschema@._take_turn(register regclass, moment timestamptz, pause interval)
returns boolean
language plpgsql volatile
@settings@
as $$
declare
    v_due timestamptz := @extschema@._read_register(register);
begin
    if v_due > moment and v_due <= moment + interval '10 minutes' then
        return false;
    end if;
    perform @extschema@._write_register(register, moment + pause);
    return true;
end
$$;

-- Puts the next turn off in proportion to what this one cost: at most one part in twenty-five of the time.
create or replace function @extschema@._end_turn(register regclass, started timestamptz, pause interval)
returns void
language plpgsql volatile
@settings@
as $$
declare
    v_now timestamptz := @extschema@.clock();
begin
    perform @extschema@._write_register(
        register, v_now + least(greatest(pause, 25 * (v_now - started)), interval '10 minutes')
    );
end
$$;
