-- The schedule's first slot after `after`; null if none will come. Slots of `every` are counted from its start, or from the
-- opening of each day's window; those of cron that are outside of the window are none.
create or replace function @extschema@._next_slot(schedule @extschema@.schedule, after timestamptz) returns timestamptz
language plpgsql stable
@settings@
as $$
declare
    v_after timestamptz := greatest(after, schedule.starts_at - interval '1 microsecond');
    v_slot timestamptz;
begin
    if schedule.cron is null and schedule.window_start is null then
        -- Intervals have no days here, see _schedule_changed(): 24 hours are 24 hours.
        v_slot := date_bin(schedule.every, v_after, schedule.starts_at);
        if v_slot <= v_after then
            v_slot := v_slot + schedule.every;
        end if;
    elsif schedule.cron is null then
        v_slot := @extschema@._next_in_window(schedule, v_after);
    else
        v_slot := @extschema@._next_cron(schedule.masks, schedule.timezone, v_after);
        while v_slot < coalesce(schedule.ends_at, 'infinity') and not @extschema@._in_window(schedule, v_slot) loop
            -- On to the second before the window opens again.
            v_slot := @extschema@._next_cron(
                schedule.masks, schedule.timezone,
                greatest(v_slot, @extschema@._next_opening(schedule, v_slot) - interval '1 second')
            );
        end loop;
    end if;
    -- Jobs have no later times.
    return case when v_slot < coalesce(schedule.ends_at, '9998-01-01 00:00Z') then v_slot end;
end
$$;

-- Whether a window is open: from when clocks first show its start, to when they first show its end. What they show at the
-- moment does not tell, since they may be set back over either.
create or replace function @extschema@._in_window(schedule @extschema@.schedule, moment timestamptz) returns boolean
language plpgsql stable
@settings@
as $$
declare
    v_day date := (moment at time zone schedule.timezone)::date;
begin
    if schedule.window_start is null then
        return true;
    end if;
    -- Yesterday's may still be open; tomorrow's may be, if clocks were set back over midnight.
    for n in -1..1 loop
        if @extschema@._opening(schedule, v_day + n) <= moment and moment < @extschema@._closing(schedule, v_day + n) then
            return true;
        end if;
    end loop;
    return false;
end
$$;

-- When the schedule's window opens next after `after`.
create or replace function @extschema@._next_opening(schedule @extschema@.schedule, after timestamptz) returns timestamptz
language plpgsql stable
@settings@
as $$
declare
    v_day date := (after at time zone schedule.timezone)::date;
    v_opening timestamptz;
begin
    for n in 0..3 loop
        v_opening := @extschema@._opening(schedule, v_day + n);
        exit when v_opening > after;
    end loop;
    return v_opening;
end
$$;

-- When the schedule's window opens on a day. If clocks jump over the opening, as soon as they have; if over the whole
-- window, it is as good as closed: see _closing().
create or replace function @extschema@._opening(schedule @extschema@.schedule, day date) returns timestamptz
language plpgsql stable
@settings@
as $$
begin
    return @extschema@._wall_to_time(day + schedule.window_start, schedule.timezone);
end
$$;

-- When the window that opens on a day closes.
create or replace function @extschema@._closing(schedule @extschema@.schedule, day date) returns timestamptz
language plpgsql stable
@settings@
as $$
declare
    v_day date := case when schedule.window_start < schedule.window_end then day else day + 1 end;
begin
    return @extschema@._wall_to_time(v_day + schedule.window_end, schedule.timezone);
end
$$;

create or replace function @extschema@._next_in_window(schedule @extschema@.schedule, after timestamptz) returns timestamptz
language plpgsql stable
@settings@
as $$
declare
    v_day date := (after at time zone schedule.timezone)::date;
    v_opening timestamptz;
    v_slot timestamptz;
begin
    -- The window that opened yesterday may still be open. Tomorrow's may be left out, but not that of three days.
    for n in -1..3 loop
        v_opening := @extschema@._opening(schedule, v_day + n);
        v_slot := v_opening;
        if v_slot <= after then
            v_slot := date_bin(schedule.every, after, v_opening) + schedule.every;
        end if;
        if v_slot < @extschema@._closing(schedule, v_day + n) then
            return v_slot;
        end if;
    end loop;
    return null;
end
$$;
