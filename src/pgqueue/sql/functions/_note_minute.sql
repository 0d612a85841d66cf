-- What a worker counted since it last called, of jobs that are not kept; counted as of the minute that is just over. `figures`
-- is a JSON array of objects with queue, succeeded, skipped, cancelled, waits and runs. Returns whether to count, as
-- finished jobs are not kept, and in how many seconds to call again.
create or replace function @extschema@._note_minute(counter text, figures jsonb, out active boolean, out due_in float8)
returns record
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
    v_minute timestamptz := date_bin('1 minute', v_now - interval '5 seconds', '2000-01-01 00:00Z');
begin
    select s.retention = '0' into active from @extschema@.setting s where s.only_row;
    active := active and has_table_privilege('@extschema@.minute', 'insert');
    due_in := 61 - date_part('second', v_now);
    if not active then
        return;
    end if;
    insert into @extschema@.minute as m (minute, queue, source, started, succeeded, skipped, cancelled, waits, runs)
    select v_minute, f.queue, counter, f.succeeded + f.skipped + f.cancelled, f.succeeded, f.skipped, f.cancelled, f.waits, f.runs
    from (
        select f.queue, coalesce(f.succeeded, 0) as succeeded, coalesce(f.skipped, 0) as skipped,
            coalesce(f.cancelled, 0) as cancelled, f.waits, f.runs
        from jsonb_to_recordset(figures)
            f (queue text, succeeded bigint, skipped bigint, cancelled bigint, waits bigint[], runs bigint[])
    ) f
    -- A worker that called twice within a minute, at its end say: the histograms of the greater part stay.
    on conflict (minute, queue, source) do update set
        started = m.started + excluded.started, succeeded = m.succeeded + excluded.succeeded,
        skipped = m.skipped + excluded.skipped, cancelled = m.cancelled + excluded.cancelled,
        waits = case when m.succeeded >= excluded.succeeded then m.waits else excluded.waits end,
        runs = case when m.succeeded >= excluded.succeeded then m.runs else excluded.runs end;
end
$$;
