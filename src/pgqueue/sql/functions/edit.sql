-- Changes when a waiting job is to run, or its priority; null leaves it as it is. Returns the job's state. PQ006: there is
-- no such job; PQ007: it is claimed, or finished.
--
-- A ready job of another priority keeps its position, and so stands among the jobs of its new lane by its age; but not
-- below that lane's floor, where claims would not look for it soon. One that is to run later loses its position; a
-- scheduled one whose time is now, or over, comes to the end of its lane, as promote() would have it.
create or replace function @extschema@.edit(job_id bigint, run_at timestamptz default null, priority integer default null)
returns text
language plpgsql volatile
@settings@
as $$
declare
    v_now timestamptz := @extschema@.clock();
    v_job @extschema@.job;
begin
    if run_at is null and priority is null then
        raise exception 'nothing is to be changed; give run_at or priority' using errcode = 'PQ002';
    end if;
    if priority not between 0 and 9 then
        raise exception 'priority is %; use 0 to 9', priority using errcode = 'PQ002';
    end if;
    v_job := @extschema@._waiting_job(job_id);
    if run_at > v_now then
        v_job.run_at := run_at;
        v_job.position := null;
    elsif run_at is not null and v_job.position is null then
        v_job.run_at := v_now;
        v_job.position := nextval('@extschema@.position_seq');
    end if;
    if priority <> v_job.priority then
        v_job.priority := priority;
        if v_job.position is not null then
            v_job.position := greatest(v_job.position, (
                select max(l.floor) from @extschema@.lane l
                where l.queue = v_job.queue and l.priority = v_job.priority
            ));
        end if;
    end if;
    update @extschema@.job j set run_at = v_job.run_at, priority = v_job.priority, position = v_job.position
    where j.id = v_job.id;
    if v_job.position is null then
        return 'scheduled';
    end if;
    perform @extschema@._enqueued(array[v_job.queue], array[v_job.priority], v_job.kind);
    return 'ready';
end
$$;
