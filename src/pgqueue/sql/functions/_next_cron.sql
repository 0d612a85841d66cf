-- The first moment after `after` that a cron expression's masks admit in a time zone; null if none comes within 30 years
-- (29 February on a Friday takes 28, and 40 around the year 2100).
--
-- When clocks change: a schedule that names its hour and minute runs by the wall: once in the night in which its time
-- comes twice, at the first; and in the night in which its time is left out, as soon as the clocks have jumped. One with a
-- * there runs by the clock: every 10 minutes stay every 10 minutes. As Debian's cron does it.
create or replace function @extschema@._next_cron(masks bigint[], timezone text, after timestamptz) returns timestamptz
language plpgsql stable
@settings@
as $$
declare
    v_by_clock boolean := masks[7] & 2 > 0;
    v_at timestamptz := date_trunc('second', after, 'UTC') + interval '1 second';
    -- By the wall the next second is that of the wall, which may be one of those that are left out.
    v_wall timestamp := case
        when v_by_clock then v_at at time zone timezone
        else date_trunc('second', after at time zone timezone) + interval '1 second'
    end;
    v_latest timestamp := v_wall + interval '30 years';
    v_step interval;
begin
    loop
        v_step := @extschema@._cron_step(masks, v_wall);
        if v_step = '0' then
            exit when v_by_clock;
            v_at := @extschema@._wall_to_time(v_wall, timezone);
            exit when v_at > after;
            v_step := '1 second';
        end if;
        -- Within the hour by the clock: it is never changed by part of an hour but at the end of one.
        if v_by_clock and v_step <= interval '1 hour' then
            v_at := v_at + v_step;
            v_wall := v_at at time zone timezone;
        else
            v_wall := v_wall + v_step;
            if v_by_clock then
                -- Back by as much as clocks may have been set back, lest an hour that comes twice be passed over.
                v_at := greatest(v_at + interval '1 second', @extschema@._wall_to_time(v_wall, timezone));
                v_wall := v_at at time zone timezone;
            end if;
        end if;
        if v_wall > v_latest then
            return null;
        end if;
    end loop;
    return v_at;
end
$$;

-- How far it is, at least, from `wall` to a time that the masks admit: to the next month or day, or within the day to the
-- next hour, minute or second that is admitted.
create or replace function @extschema@._cron_step(masks bigint[], wall timestamp) returns interval
language plpgsql immutable
@settings@
as $$
declare
    v_day boolean := masks[4] >> extract(day from wall)::integer & 1 > 0;
    v_weekday boolean := masks[6] >> extract(dow from wall)::integer & 1 > 0;
    v_hour integer := extract(hour from wall);
    v_minute integer := extract(minute from wall);
    v_second integer := trunc(extract(second from wall));
begin
    if masks[5] >> extract(month from wall)::integer & 1 = 0 then
        return date_trunc('month', wall) + interval '1 month' - wall;
    elsif not (v_day and v_weekday or (v_day or v_weekday) and masks[7] & 1 = 0) then
        return date_trunc('day', wall) + interval '1 day' - wall;
    elsif masks[3] >> v_hour & 1 = 0 then
        return date_trunc('day', wall) + make_interval(hours => @extschema@._next_bit(masks[3], v_hour, 24)) - wall;
    elsif masks[2] >> v_minute & 1 = 0 then
        return date_trunc('hour', wall) + make_interval(mins => @extschema@._next_bit(masks[2], v_minute, 60)) - wall;
    elsif masks[1] >> v_second & 1 = 0 then
        return make_interval(secs => @extschema@._next_bit(masks[1], v_second, 60) - v_second);
    end if;
    return '0';
end
$$;

-- The first bit of `mask` from `first` on; `otherwise` if there is none.
create or replace function @extschema@._next_bit(mask bigint, first integer, otherwise integer) returns integer
language sql immutable parallel safe
begin atomic
    select case when mask >> first = 0 then otherwise
        else first + round(ln(((mask >> first) & -(mask >> first))::float8) / ln(2::float8))::integer end;
end;

-- The moment at which clocks on the wall of a time zone show `wall`: the first of two, and where they leave it out, the
-- moment at which they jump.
create or replace function @extschema@._wall_to_time(wall timestamp, timezone text) returns timestamptz
language plpgsql stable
@settings@
as $$
declare
    -- By the offsets of a day earlier and later: clocks are not changed twice in that time.
    v_before timestamptz := (wall - interval '1 day') at time zone timezone + interval '24 hours';
    v_after timestamptz := (wall + interval '1 day') at time zone timezone - interval '24 hours';
    v_low timestamptz := least(v_before, v_after);
    v_high timestamptz := greatest(v_before, v_after);
    v_middle timestamptz;
begin
    if v_low at time zone timezone = wall then
        return v_low;
    elsif v_high at time zone timezone = wall then
        return v_high;
    end if;
    while v_high - v_low > interval '1 second' loop
        v_middle := date_trunc('second', v_low + (v_high - v_low) / 2, 'UTC');
        if v_middle at time zone timezone > wall then
            v_high := v_middle;
        else
            v_low := v_middle;
        end if;
    end loop;
    return v_high;
end
$$;
