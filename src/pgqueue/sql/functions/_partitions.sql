-- Makes the archive's partitions of today and the next days, and drops those whose retention is over, with entries of the
-- audit log and figures of minutes.
-- SECURITY DEFINER, because only an owner may attach and drop partitions, and workers are not owners.
-- Attaching needs a moment alone with the default partition, dropping one with the archive. Neither waits for
-- it longer than 100 ms, since acks would wait behind; what could not be done is tried again with the next call.
create or replace function @extschema@._partitions() returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '100ms'
set timezone = 'UTC'
set datestyle = 'ISO'
as $$
declare
    v_now timestamptz := @extschema@.clock();
    v_setting @extschema@.setting;
    v_class text;
    v_kept interval;
    v_from timestamptz;
    v_to timestamptz;
    v_name text;
    v_stray bigint;
    v_old regclass;
begin
    if not pg_try_advisory_xact_lock(hashtextextended('pgqueue partitions @extschema:name@', 0)) then
        return;
    end if;
    select s.* into v_setting from @extschema@.setting s;
    foreach v_class in array array['done', 'dead'] loop
        v_kept := case v_class when 'done' then v_setting.retention else v_setting.dead_retention end;
        for n in 0..3 loop
            v_from := date_bin(v_setting.partition_width, v_now, '2000-01-01 00:00Z') + n * v_setting.partition_width;
            v_to := v_from + v_setting.partition_width;
            -- Partitions of another width may cover the beginning of it, or all.
            select greatest(v_from, max(b.until)) into v_from
            from @extschema@._bounds(v_class) b where b.since < v_to and b.until > v_from;
            continue when v_from >= v_to;
            v_name := format('archive_%s_%s', v_class, to_char(v_from, 'YYYYMMDD_HH24'));
            begin
                execute format('create table @extschema@.%I (like @extschema@.archive including defaults including constraints)', v_name);
                if (select c.relrowsecurity from pg_class c where c.oid = '@extschema@.archive'::regclass) then
                    execute format('alter table @extschema@.%I enable row level security', v_name);
                end if;
                -- What came while there was no partition (nobody maintained) moves over, unless it is much.
                execute format(
                    'select count(*) from (select from @extschema@.archive_%s_default where finished_at >= $1 and finished_at < $2 limit 20001) d',
                    v_class
                ) into v_stray using v_from, v_to;
                if v_stray between 1 and 20000 then
                    execute format('lock table @extschema@.archive_%s_default in access exclusive mode', v_class);
                    execute format(
                        'with moved as (delete from @extschema@.archive_%s_default where finished_at >= $1 and finished_at < $2 returning *) '
                        'insert into @extschema@.%I select * from moved',
                        v_class, v_name
                    ) using v_from, v_to;
                end if;
                execute format(
                    'alter table @extschema@.archive_%s attach partition @extschema@.%I for values from (%L) to (%L)',
                    v_class, v_name, v_from, v_to
                );
            exception
                -- The default partition serves for this range: it holds too much of it, or is in use, or somebody
                -- detached the range's own.
                when check_violation or lock_not_available or duplicate_table then null;
            end;
        end loop;

        execute format(
            'delete from @extschema@.archive_%1$s_default where ctid = any (array('
            'select ctid from @extschema@.archive_%1$s_default where finished_at <= $1 limit 20000 for update skip locked))',
            v_class
        ) using v_now - v_kept;
        for v_old in
            select b.part from @extschema@._bounds(v_class) b where b.until <= v_now - v_kept order by b.until
        loop
            begin
                execute format('drop table %s', v_old);
            exception
                when lock_not_available then exit;
                -- It stays while somebody's view reads it, say.
                when dependent_objects_still_exist then null;
            end;
        end loop;
    end loop;
    -- Here, because nobody but the owner may delete entries of the audit log.
    delete from @extschema@.audit a where a.id = any (array(
        select a.id from @extschema@.audit a where a.at < v_now - v_setting.audit_retention order by a.at limit 20000
    ));
    delete from @extschema@.minute m where m.ctid = any (array(
        select m.ctid from @extschema@.minute m where m.minute < v_now - v_setting.minute_retention limit 50000
        for update skip locked
    ));
end
$$;

-- The range partitions of the archive's part `class` with their bounds.
create or replace function @extschema@._bounds(class text)
returns table (part regclass, since timestamptz, until timestamptz)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO'
as $$
begin
    return query
    select i.inhrelid::regclass, substring(b.bound from 'FROM [(]''([^'']+)''[)]')::timestamptz,
        substring(b.bound from 'TO [(]''([^'']+)''[)]')::timestamptz
    from pg_catalog.pg_inherits i
    join pg_catalog.pg_class c on c.oid = i.inhrelid
    cross join lateral pg_catalog.pg_get_expr(c.relpartbound, c.oid) b (bound)
    where i.inhparent = format('@extschema@.archive_%s', class)::regclass and b.bound <> 'DEFAULT';
end
$$;
