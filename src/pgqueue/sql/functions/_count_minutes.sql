-- Counts what happened in the minutes that are over, and how many jobs wait now, from the tables themselves: nothing is
-- written per job. One snapshot has each job once, in the table of unfinished jobs or in the archive. A minute that is
-- counted again is replaced, so no number of callers can count it twice.
--
-- It reads the jobs that finished since the minute began, by the index, and all unfinished ones. What is committed more
-- than some seconds after its minute is not counted. If nobody came for long, the last ten minutes are made up for.
create or replace function @extschema@._count_minutes() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set jit = off
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
    v_to timestamptz := date_bin('1 minute', v_now - interval '10 seconds', '2000-01-01 00:00Z');
    v_from timestamptz;
begin
    if not pg_try_advisory_xact_lock(hashtextextended('pgqueue minutes @extschema:name@', 0)) then
        return;
    end if;
    select greatest(max(m.minute) + interval '1 minute', v_to - interval '10 minutes') into v_from
    from @extschema@.minute m where m.source = '' and m.minute < v_to;
    while v_from < v_to loop
        perform @extschema@._count_minute(v_from, v_from + interval '1 minute', v_from + interval '1 minute' = v_to);
        v_from := v_from + interval '1 minute';
    end loop;
    perform @extschema@._count_ends(v_to);
end
$$;

-- Counts one minute; `last` says whether to note how many jobs wait now.
create or replace function @extschema@._count_minute(since timestamptz, until timestamptz, last boolean) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set jit = off
-- Which index, or none, depends on the minute.
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
    v_ended bigint;
begin
    insert into @extschema@.minute as m (
        minute, queue, enqueued, started, succeeded, dead, cancelled, skipped, ready, scheduled, claimed, oldest_wait
    )
    select since, queue,
        coalesce(a.enqueued, 0) + coalesce(j.enqueued, 0), coalesce(a.started, 0) + coalesce(j.started, 0),
        coalesce(a.succeeded, 0), coalesce(a.dead, 0), coalesce(a.cancelled, 0), coalesce(a.skipped, 0),
        case when last then coalesce(j.ready, 0) end, case when last then coalesce(j.scheduled, 0) end,
        case when last then coalesce(j.claimed, 0) end, case when last then v_now - j.oldest end
    from (
        select a.queue, count(*) filter (where a.finished_at < until) as ended,
            count(*) filter (where a.enqueued_at >= since and a.enqueued_at < until) as enqueued,
            count(*) filter (where a.claimed_at >= since and a.claimed_at < until) as started,
            count(*) filter (where a.finished_at < until and a.state = 'succeeded') as succeeded,
            count(*) filter (where a.finished_at < until and a.state = 'dead') as dead,
            count(*) filter (where a.finished_at < until and a.state = 'cancelled') as cancelled,
            count(*) filter (where a.finished_at < until and a.state = 'skipped') as skipped
        from @extschema@.archive a where a.finished_at >= since group by a.queue
    ) a
    full join (
        select j.queue, count(*) as waiting,
            count(*) filter (where j.enqueued_at >= since and j.enqueued_at < until) as enqueued,
            count(*) filter (where j.claimed_at >= since and j.claimed_at < until) as started,
            count(*) filter (where j.position is not null and j.lease_until is null) as ready,
            count(*) filter (where j.position is null) as scheduled,
            count(*) filter (where j.lease_until is not null) as claimed,
            min(j.run_at) filter (where j.position is not null and j.lease_until is null) as oldest
        from @extschema@.job j group by j.queue
    ) j using (queue)
    where greatest(a.enqueued, a.started, a.ended, j.enqueued, j.started) > 0 or last and j.waiting > 0
    -- A queue per customer must not fill the table: the busiest ones, then the deepest.
    order by coalesce(a.enqueued, 0) + coalesce(j.enqueued, 0) + coalesce(a.ended, 0) desc, coalesce(j.waiting, 0) desc
    limit 1000
    on conflict (minute, queue, source) do update set
        enqueued = excluded.enqueued, started = excluded.started, succeeded = excluded.succeeded,
        dead = excluded.dead, cancelled = excluded.cancelled, skipped = excluded.skipped,
        ready = excluded.ready, scheduled = excluded.scheduled, claimed = excluded.claimed,
        oldest_wait = excluded.oldest_wait;

    -- Of many, one in so many stands for all: the shares stay true within a per cent.
    select greatest(1, sum(m.succeeded + m.dead + m.cancelled + m.skipped) / 50000) into v_ended
    from @extschema@.minute m where m.minute = since and m.source = '';
    with sample as (
        select a.queue, @extschema@._bucket(a.claimed_at - a.run_at) as wait, @extschema@._bucket(a.finished_at - a.claimed_at) as run
        from @extschema@.archive a
        where a.finished_at >= since and a.finished_at < until and a.claimed_at is not null
            and (v_ended = 1 or a.id % v_ended = 0)
    )
    update @extschema@.minute m set waits = w.counts, runs = r.counts
    from (
        select w.queue, @extschema@._counts(array_agg(w.wait), array_agg(w.n)) as counts
        from (select s.queue, s.wait, count(*) * v_ended as n from sample s group by s.queue, s.wait) w group by w.queue
    ) w
    join (
        select r.queue, @extschema@._counts(array_agg(r.run), array_agg(r.n)) as counts
        from (select s.queue, s.run, count(*) * v_ended as n from sample s group by s.queue, s.run) r group by r.queue
    ) r using (queue)
    where m.minute = since and m.queue = w.queue and m.source = '';
end
$$;

-- Adds up the attempts that ended without their jobs; each entry is counted by who takes it out.
create or replace function @extschema@._count_ends(until timestamptz) returns void
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
begin
    with taken as (
        delete from @extschema@.attempt_end e where e.ctid = any (array(
            select e.ctid from @extschema@.attempt_end e where e.ended_at < _count_ends.until limit 100000 for update skip locked
        ))
        returning e.queue, date_bin('1 minute', e.ended_at, '2000-01-01 00:00Z') as minute, e.failed
    )
    insert into @extschema@.minute as m (minute, queue, failed)
    select t.minute, t.queue, sum(t.failed) from taken t group by t.minute, t.queue
    on conflict (minute, queue, source) do update set failed = m.failed + excluded.failed;
end
$$;

-- Which bucket of a histogram a duration is of, from 1: each ends 2^(1/4) later than the one before, the first at 2^-13
-- seconds, the last one (133) has all that took longer than twelve days.
create or replace function @extschema@._bucket(span interval) returns integer
language sql immutable parallel safe
begin atomic
    select case
        when date_part('epoch', span) <= 0.0001220703125 then 1
        else least(133, ceil(4 * (ln(date_part('epoch', span)) / 0.6931471805599453 + 13))::integer)
    end;
end;

-- A histogram of the buckets that there are.
create or replace function @extschema@._counts(buckets integer[], counts numeric[]) returns bigint[]
language sql immutable parallel safe
begin atomic
    select array_agg(coalesce(c.n, 0)::bigint order by b.place)
    from generate_series(1, (select max(k.bucket) from unnest(buckets) k (bucket))) b (place)
    left join rows from (unnest(buckets), unnest(counts)) c (bucket, n) on c.bucket = b.place;
end;
