-- Checks a schedule's row and computes its next slot, whoever writes it and by whatever means. What leaves the times alone
-- leaves the next slot alone, too; what changes them counts from now on, but a slot that is due stays due.
create or replace function @extschema@._schedule_changed() returns trigger
language plpgsql volatile
@settings@
as $$
declare
    v_now timestamptz := @extschema@.clock();
    v_due timestamptz;
    v_size integer := greatest(octet_length(new.payload::text), octet_length(new.metadata::text));
    v_limit integer;
begin
    select s.max_payload_bytes into v_limit from @extschema@.setting s where s.only_row;
    if v_size > v_limit then
        raise exception 'payload or metadata of % bytes is over the limit of % bytes; store the data elsewhere and pass a reference',
            v_size, v_limit using errcode = 'PQ003';
    end if;
    -- Of 24 hours a day, not of 23 or 25 in some nights: the arithmetic of days is that of the session's time zone.
    new.jitter := @extschema@._without_days(new.jitter, 'jitter');
    new.grace := @extschema@._without_days(new.grace, 'grace');
    new.every := @extschema@._without_days(new.every, 'every');
    if tg_op = 'UPDATE' then
        if (new.cron, new.every, new.timezone, new.window_start, new.window_end, new.starts_at, new.ends_at, new.enabled)
            is not distinct from
            (old.cron, old.every, old.timezone, old.window_start, old.window_end, old.starts_at, old.ends_at, old.enabled)
        then
            return new;
        end if;
        v_due := case when old.next_run_at <= v_now then old.next_run_at end;
        -- If the clock was set back, no slot fires twice. If it was by more than a day, then it was wrong before.
        if new.last_run_at between v_now and v_now + interval '24 hours' then
            v_now := new.last_run_at;
        end if;
    end if;
    perform @extschema@._check_times(new);
    new.masks := case when new.cron is not null then @extschema@._cron(new.cron) end;
    new.changed_at := v_now;
    new.next_run_at := case
        when not new.enabled then null
        when v_due >= new.starts_at and v_due < coalesce(new.ends_at, 'infinity') then v_due
        else @extschema@._next_slot(new, v_now)
    end;
    if new.cron is not null and new.next_run_at is null and @extschema@._next_cron(new.masks, new.timezone, v_now) is null then
        raise exception 'cron expression % never comes true', quote_literal(new.cron) using errcode = 'PQ005';
    end if;
    return new;
end
$$;
do $$
begin
    if not exists (
        select from pg_catalog.pg_trigger t
        where t.tgrelid = '@extschema@.schedule'::pg_catalog.regclass and t.tgname = 'schedule_changed'
    ) then
        -- Not of what tick() writes.
        create trigger schedule_changed
        before insert or update of cron, every, timezone, window_start, window_end, starts_at, ends_at, enabled, jitter, grace,
            payload, metadata
        on @extschema@.schedule for each row execute function @extschema@._schedule_changed();
    end if;
end $$;

create or replace function @extschema@._without_days(span interval, name text) returns interval
language plpgsql immutable
@settings@
as $$
begin
    if date_trunc('month', span) <> '0' then
        raise exception '% has months or years, which differ in length; use days or less, or cron', name
            using errcode = 'PQ005';
    end if;
    return make_interval(secs => extract(epoch from span)::float8);
end
$$;

-- Raises what is wrong with the times of a schedule, if anything is.
create or replace function @extschema@._check_times(schedule @extschema@.schedule) returns void
language plpgsql stable
@settings@
as $$
declare
    v_masks bigint[];
begin
    if num_nonnulls(schedule.cron, schedule.every) <> 1 then
        raise exception 'a schedule has either cron or every; give one' using errcode = 'PQ005';
    end if;
    if not coalesce(schedule.starts_at >= '1900-01-01 00:00Z' and schedule.starts_at < '9999-01-01 00:00Z', true)
        or not coalesce(schedule.ends_at > schedule.starts_at and schedule.ends_at < '9999-01-01 00:00Z', true)
    then
        raise exception 'it starts at % and ends at %; use times between 1900 and the end of 9998, one after the other',
            schedule.starts_at, schedule.ends_at using errcode = 'PQ005';
    end if;
    if schedule.every not between '1 second' and '1000 days' then
        raise exception 'every is %; use 1 second to 1000 days', schedule.every using errcode = 'PQ005';
    end if;
    begin
        perform timestamptz 'epoch' at time zone schedule.timezone;
        -- 'UTC+3' and '+3' mean three hours west of Greenwich, by POSIX, and 'CEST' knows no winter.
        if schedule.timezone !~ '^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$' or schedule.timezone !~ '/' and not (
            upper(schedule.timezone) = 'UTC'
            or exists (select from pg_timezone_names z where lower(z.name) = lower(schedule.timezone))
        ) then
            raise invalid_parameter_value;
        end if;
    exception when invalid_parameter_value then
        raise exception 'time zone % is unknown; use a name such as Europe/Berlin', quote_literal(schedule.timezone)
            using errcode = 'PQ005';
    end;
    if num_nonnulls(schedule.window_start, schedule.window_end) = 1 or schedule.window_start = schedule.window_end then
        raise exception 'a window has a start and an end, which differ; give both or neither' using errcode = 'PQ005';
    end if;
    if schedule.window_start is null then
        return;
    end if;
    if schedule.every > interval '24 hours' then
        raise exception 'slots of % are counted from each day''s opening of the window; use 24 hours or less, or cron',
            schedule.every using errcode = 'PQ005';
    end if;
    if schedule.cron is null then
        return;
    end if;
    v_masks := @extschema@._cron(schedule.cron);
    if not exists (
        select from generate_series(0, 23) h, generate_series(0, 59) m, generate_series(0, 59) s
        where v_masks[3] >> h & 1 > 0 and v_masks[2] >> m & 1 > 0 and v_masks[1] >> s & 1 > 0
            and case
                when schedule.window_start < schedule.window_end
                    then make_time(h, m, s) >= schedule.window_start and make_time(h, m, s) < schedule.window_end
                else make_time(h, m, s) >= schedule.window_start or make_time(h, m, s) < schedule.window_end
            end
    ) then
        raise exception 'cron expression % has no time within the window', quote_literal(schedule.cron)
            using errcode = 'PQ005';
    end if;
end
$$;
