-- For pg_cron before 1.5, which knows no seconds: started once a minute, does the upkeep, or pokes an endpoint, every so long
-- until the minute is over, each time in a transaction of its own. It holds a connection (a background worker) all the
-- minute, and a snapshot while it waits, for at most `pace`.
--
-- It commits, and so can have no settings: every name here is qualified. A run that fails does not take the later ones of
-- its minute with it; at the end the last error is raised, for the history of pg_cron. It ends early once the job of pg_cron
-- that started it is paused, where it can see that: in the database of pg_cron.
create or replace procedure @extschema@.run_minute(pace interval, poke text default null)
language plpgsql
as $$
declare
    v_started pg_catalog.timestamptz := @extschema@.clock();
    -- Not up to the next minute: pg_cron would find this run still going.
    v_end pg_catalog.timestamptz := pg_catalog.date_trunc('minute', v_started) operator(pg_catalog.+) '59 seconds'::pg_catalog.interval;
    v_next pg_catalog.timestamptz := v_started;
    v_now pg_catalog.timestamptz;
    v_error pg_catalog.text;
    v_state pg_catalog.text;
    v_paused pg_catalog.bool;
    v_sees pg_catalog.bool := case
        when pg_catalog.to_regclass('cron.job') is null then false
        when not pg_catalog.has_schema_privilege('cron', 'usage') then false
        else pg_catalog.has_table_privilege('cron.job', 'select')
    end;
begin
    if pace is null or pace operator(pg_catalog.<) '1 second'::pg_catalog.interval then
        raise exception 'the pace is %; use a second or more', pace using errcode = 'PQ010';
    end if;
    loop
        begin
            if poke is null then
                perform @extschema@.maintain();
            else
                perform @extschema@.poke(poke);
            end if;
        exception
            when others then
                v_error := sqlerrm;
                v_state := sqlstate;
        end;
        -- pg_net sends what is committed.
        commit;
        v_now := @extschema@.clock();
        loop
            v_next := v_next operator(pg_catalog.+) pace;
            exit when v_next operator(pg_catalog.>) v_now;
        end loop;
        exit when v_next operator(pg_catalog.>=) v_end;
        perform pg_catalog.pg_sleep(pg_catalog.date_part('epoch', v_next operator(pg_catalog.-) v_now));
        if v_sees then
            select exists (
                select from cron.job j
                where j.command operator(pg_catalog.=) pg_catalog.current_query() and not j.active
                    and j.username operator(pg_catalog.=) current_user
            ) into v_paused;
            exit when v_paused;
        end if;
    end loop;
    if v_error is not null then
        raise exception '%', v_error using errcode = v_state;
    end if;
end
$$;
