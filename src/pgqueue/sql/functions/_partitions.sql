-- Makes the archive's partitions of today and the next days, and drops those whose retention is over.
-- SECURITY DEFINER, because only an owner may attach and drop partitions, and workers are not owners.
-- Attaching does not wait for readers or acks; dropping needs a moment alone with the archive, so it gives
-- up after 100 ms and is tried again with the next call.
create or replace function @extschema@._partitions() returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '100ms'
as $$
declare
    v_now timestamptz := @extschema@.clock();
    v_setting @extschema@.setting;
    v_class text;
    v_kept interval;
    v_from timestamptz;
    v_name text;
    v_old record;
begin
    select s.* into v_setting from @extschema@.setting s;
    foreach v_class in array array['done', 'dead'] loop
        v_kept := case v_class when 'done' then v_setting.retention else v_setting.dead_retention end;
        for v_from in
            select p from generate_series(0, 3) n,
                lateral (select date_bin(v_setting.partition_width, v_now, '2000-01-01 00:00Z') + n * v_setting.partition_width) b (p)
        loop
            v_name := format('archive_%s_%s', v_class, to_char(v_from at time zone 'UTC', 'YYYYMMDD_HH24'));
            continue when to_regclass(format('@extschema@.%I', v_name)) is not null;
            begin
                execute format('create table @extschema@.%I (like @extschema@.archive including defaults including constraints)', v_name);
                execute format(
                    'alter table @extschema@.archive_%s attach partition @extschema@.%I for values from (%L) to (%L)',
                    v_class, v_name, v_from, v_from + v_setting.partition_width
                );
            exception
                -- Rows of this range stand in the default partition already (nobody maintained until now), another
                -- width left an overlapping partition, or a lock was not to be had: the default partition serves.
                when check_violation or invalid_object_definition or lock_not_available or duplicate_table then null;
            end;
        end loop;

        for v_old in
            select c.oid::regclass as name
            from pg_inherits i join pg_class c on c.oid = i.inhrelid
            where i.inhparent = format('@extschema@.archive_%s', v_class)::regclass
                and substring(pg_get_expr(c.relpartbound, c.oid) from 'TO \(''([^'']+)''\)')::timestamptz <= v_now - v_kept
        loop
            begin
                execute format('drop table %s', v_old.name);
            exception
                when lock_not_available then null;
            end;
        end loop;
        execute format('delete from @extschema@.archive_%s_default where finished_at <= $1', v_class) using v_now - v_kept;
    end loop;
end
$$;
