-- Makes jobs run again, now: finished ones of any state come back from the archive with their history and
-- all their attempts before them, scheduled ones become ready at once. Returns the ids of those; not among
-- them are jobs that are ready or claimed, unknown ids, and finished jobs whose dedupe key another one holds.
create or replace function @extschema@.retry(ids bigint[]) returns setof bigint
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
    v_found record;
    v_old @extschema@.archive;
    v_job @extschema@.job;
begin
    -- In the order of their keys, as in enqueue_many(): each waits for others that take or replace the same.
    for v_found in
        with gone as (
            delete from @extschema@.archive a where a.id = any (array(
                select a.id from @extschema@.archive a where a.id = any (retry.ids) order by a.id for update
            )) returning a.*
        )
        select g.id, @extschema@._dedupe_hash(g.tenant, g.kind, g.dedupe_key) as hash, g as old from gone g
        union all
        select j.id, j.dedupe_hash, null from @extschema@.job j where j.id = any (retry.ids) and j.position is null
        order by hash, id
    loop
        if v_found.old is null then
            update @extschema@.job j set run_at = v_now, position = nextval('@extschema@.position_seq')
            where j.id = v_found.id and j.position is null
            returning j.* into v_job;
            if found then
                -- Its lane may never have had a ready job.
                perform @extschema@._enqueued(array[v_job.queue], array[v_job.priority], v_job.kind);
                return next v_job.id;
            end if;
            continue;
        end if;

        v_old := v_found.old;
        v_job := null;
        v_job.id := v_old.id;
        v_job.position := nextval('@extschema@.position_seq');
        v_job.run_at := v_now;
        v_job.enqueued_at := v_old.enqueued_at;
        v_job.token := v_old.token;
        v_job.attempt := 0;
        v_job.max_attempts := v_old.max_attempts;
        v_job.priority := v_old.priority;
        v_job.cancel_requested := false;
        v_job.queue := v_old.queue;
        v_job.kind := v_old.kind;
        v_job.payload := v_old.payload;
        v_job.backoff := v_old.backoff;
        v_job.dedupe_until := v_old.dedupe_until;
        v_job.dedupe_key := v_old.dedupe_key;
        v_job.dedupe_hash := @extschema@._dedupe_hash(v_old.tenant, v_old.kind, v_old.dedupe_key);
        v_job.tags := v_old.tags;
        v_job.metadata := v_old.metadata;
        v_job.ref := v_old.ref;
        v_job.history := v_old.history;
        v_job.tenant := v_old.tenant;
        if @extschema@._enqueue_once(v_job, 'return') is null then
            perform @extschema@._enqueued(array[v_job.queue], array[v_job.priority], v_job.kind);
            return next v_job.id;
        else
            insert into @extschema@.archive select v_old.*;
        end if;
    end loop;
end
$$;

-- Retries up to `count` dead jobs, the oldest first, of one queue or kind or of all; returns how many are
-- ready now. Call it again for more.
create or replace function @extschema@.redrive(queue text default null, kind text default null, count integer default 1000)
returns bigint
language plpgsql volatile
@settings@
as $$
begin
    return (select count(*) from @extschema@.retry(array(
        select a.id from @extschema@.archive a
        where a.state = 'dead'
            and (redrive.queue is null or a.queue = redrive.queue)
            and (redrive.kind is null or a.kind = redrive.kind)
            -- One whose key is held would be passed over, now and with every call.
            and not exists (
                select from @extschema@.job j
                where j.dedupe_hash = @extschema@._dedupe_hash(a.tenant, a.kind, a.dedupe_key)
            )
        order by a.id
        limit redrive.count
        -- Those that another redrive has are not ours to count, nor to miss.
        for update skip locked
    )));
end
$$;
