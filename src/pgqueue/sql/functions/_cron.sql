-- Cron expressions as masks: one number for each field, whose bit n is set where the field admits n. In the order
-- second, minute, hour, day of the month, month, day of the week (0 is Sunday), and a last one: bit 0 where days
-- have to match both of their fields (otherwise either), bit 1 where the clock decides and not the wall (see _next_cron()).
create or replace function @extschema@._cron(expression text) returns bigint[]
language plpgsql immutable strict
@settings@
as $$
declare
    v_fields text[] := regexp_split_to_array(btrim(case lower(btrim(expression))
        when '@hourly' then '0 * * * *'
        when '@daily' then '0 0 * * *'
        when '@midnight' then '0 0 * * *'
        when '@weekly' then '0 0 * * 0'
        when '@monthly' then '0 0 1 * *'
        when '@yearly' then '0 0 1 1 *'
        when '@annually' then '0 0 1 1 *'
        else lower(expression)
    end), '\s+');
    v_masks bigint[];
begin
    if cardinality(v_fields) = 5 then
        v_fields := array['0'] || v_fields;
    end if;
    if cardinality(v_fields) <> 6 then
        raise exception 'cron expression % has % fields; use five (minute hour day month weekday), or six with seconds first',
            quote_literal(expression), cardinality(v_fields) using errcode = 'PQ005';
    end if;
    v_masks := array[
        @extschema@._cron_field(v_fields[1], 'second', 0, 59),
        @extschema@._cron_field(v_fields[2], 'minute', 0, 59),
        @extschema@._cron_field(v_fields[3], 'hour', 0, 23),
        @extschema@._cron_field(v_fields[4], 'day', 1, 31),
        @extschema@._cron_field(v_fields[5], 'month', 1, 12, '{jan,feb,mar,apr,may,jun,jul,aug,sep,oct,nov,dec}', 1),
        @extschema@._cron_field(v_fields[6], 'weekday', 0, 7, '{sun,mon,tue,wed,thu,fri,sat}', 0)
    ];
    -- Sunday is 0 and 7.
    v_masks[6] := v_masks[6] | (v_masks[6] >> 7);
    return v_masks
        || (case when v_fields[4] like '*%' or v_fields[6] like '*%' then 1 else 0 end
            + case when v_fields[2] like '*%' or v_fields[3] like '*%' then 2 else 0 end)::bigint;
end
$$;

create or replace function @extschema@._cron_field(
    field text, name text, lowest integer, highest integer, names text[] default '{}', first integer default 0
) returns bigint
language plpgsql immutable
@settings@
as $$
declare
    v_part text;
    v_found text[];
    v_from integer;
    v_to integer;
    v_step integer;
    v_mask bigint := 0;
begin
    foreach v_part in array string_to_array(field, ',') loop
        v_found := regexp_match(v_part, '^(?:(\*)|(\w{1,3})(?:-(\w{1,3}))?)(?:/(\d{1,3}))?$');
        v_step := coalesce(v_found[4], '1');
        if v_found[1] is not null then
            v_from := lowest;
            v_to := highest;
        else
            v_from := @extschema@._cron_number(v_found[2], names, first);
            v_to := case
                when v_found[3] is not null then @extschema@._cron_number(v_found[3], names, first)
                -- '5/10' is short for '5-59/10'.
                when v_found[4] is not null then highest
                else v_from
            end;
        end if;
        if v_from is null or v_to is null or v_from < lowest or v_to > highest or v_to < v_from or v_step = 0 then
            raise exception '% is no % of a cron expression; use numbers from % to %, ranges, steps and lists of them, or *',
                quote_literal(v_part), name, lowest, highest using errcode = 'PQ005';
        end if;
        for n in v_from..v_to by v_step loop
            v_mask := v_mask | (1::bigint << n);
        end loop;
    end loop;
    return v_mask;
end
$$;

create or replace function @extschema@._cron_number(text text, names text[], first integer) returns integer
language plpgsql immutable
@settings@
as $$
begin
    return case when text ~ '^\d+$' then text::integer else array_position(names, text) - 1 + first end;
end
$$;
