-- Calls the endpoint of that name through pg_net if a job of its queue is ready, or is made ready by the upkeep that it does
-- first: schedules that are due, jobs that are due, leases that ran out. Returns the id of the request, null if none was
-- needed. pg_cron calls it; `force` calls the endpoint in any case. What is wrong with the set-up is raised also where there
-- is no work, so that it does not come up with the first job at night.
--
-- pg_net sends after the commit. While the last request of the endpoint still waits to be sent, another would bring nothing:
-- thus pg_net's queue has at most one for each endpoint, however long its worker is down.
create or replace function @extschema@.poke(name text, force boolean default false) returns bigint
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
    v_poke @extschema@.poke;
    v_headers jsonb;
    v_request bigint;
begin
    select * into v_poke from @extschema@.poke p where p.name = poke.name;
    if not found then
        raise exception 'there is no endpoint named %; make it with `pgqueue cron install --name % --url ...`',
            quote_nullable(poke.name), coalesce(poke.name, 'NAME') using errcode = 'PQ010';
    end if;
    v_headers := @extschema@._poke_headers(v_poke);
    perform @extschema@._check_net('execute');
    if not force then
        perform @extschema@.maintain();
        if not @extschema@._has_ready(v_poke.queue) or @extschema@._is_unsent(v_poke.name) then
            return null;
        end if;
    end if;
    v_request := net.http_post(
        url := v_poke.url, body := v_poke.body, headers := v_headers,
        timeout_milliseconds := (extract(epoch from v_poke.timeout) * 1000)::integer
    );
    -- pg_net that was dropped and made again counts from 1 again.
    insert into @extschema@.poke_request (request_id, poke, queue, requested_at)
    values (v_request, v_poke.name, v_poke.queue, v_now)
    on conflict (request_id) do update set
        poke = excluded.poke, queue = excluded.queue, requested_at = excluded.requested_at;
    return v_request;
end
$$;

-- Whether a claim from the queue would find a job: one probe of the index for each priority, from where claims begin.
create or replace function @extschema@._has_ready(queue text) returns boolean
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
begin
    return exists (
        select
        from (
            select l.queue, l.priority, max(l.floor) as floor from @extschema@.lane l
            where l.queue = _has_ready.queue
                and not exists (select from @extschema@.queue p where p.name in (l.queue, '*') and p.paused_until > v_now)
            group by l.queue, l.priority
        ) l
        cross join lateral (
            select from @extschema@.job j
            where j.queue = l.queue and j.priority = l.priority and j.position >= l.floor and j.lease_until is null
            order by j.position
            limit 1
        ) j
    );
end
$$;

-- Whether the last request of an endpoint still waits in pg_net's queue; false where we may not look there.
create or replace function @extschema@._is_unsent(poke text) returns boolean
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
declare
    v_request bigint;
begin
    if not coalesce(has_table_privilege(to_regclass('net.http_request_queue'), 'select'), false) then
        return false;
    end if;
    select r.request_id into v_request from @extschema@.poke_request r
    where r.poke = _is_unsent.poke order by r.requested_at desc limit 1;
    return exists (select from net.http_request_queue q where q.id = v_request);
end
$$;

create or replace function @extschema@._poke_headers(poke @extschema@.poke) returns jsonb
language plpgsql volatile
@settings@
as $$
declare
    v_headers jsonb := '{"Content-Type": "application/json"}';
    v_secret text;
begin
    if poke.secret is null then
        return v_headers;
    end if;
    v_secret := @extschema@._secret_value(poke.secret);
    if v_secret is null then
        raise exception 'the secret % is missing: neither Vault nor %.secret has it; run '
            '`pgqueue cron sync-secret % --from-env VARIABLE`, or: select %.put_secret(%, ''...'')',
            quote_literal(poke.secret), '@extschema@', poke.secret, '@extschema@', quote_literal(poke.secret)
            using errcode = 'PQ011', detail = poke.secret;
    end if;
    if v_secret !~ '^[!-~]+$' then
        raise exception 'the secret % is no header: it is empty, or has spaces, line ends or other than ASCII; put another',
            quote_literal(poke.secret) using errcode = 'PQ010';
    end if;
    if lower(poke.header) = 'authorization' then
        v_secret := 'Bearer ' || v_secret;
    end if;
    return v_headers || jsonb_build_object(poke.header, v_secret);
end
$$;

-- Raises what keeps this role from using pg_net: to call, or (`need` is 'select') to look.
create or replace function @extschema@._check_net(need text) returns void
language plpgsql volatile
@settings@
as $$
declare
    v_post regprocedure := (
        select p.oid from pg_proc p
        where p.pronamespace = to_regnamespace('net') and p.proname = 'http_post'
        order by p.pronargs desc limit 1
    );
begin
    if v_post is null then
        raise exception 'pg_net is not in database %; have its owner run: create extension pg_net', current_database()
            using errcode = 'PQ010';
    end if;
    if not has_schema_privilege('net', 'usage') then
        raise exception 'role % may not use pg_net; have its owner run: grant usage on schema net to %',
            current_user, quote_ident(current_user) using errcode = 'PQ010';
    end if;
    if need = 'execute' and not has_function_privilege(v_post, 'execute') then
        raise exception 'role % may not call pg_net; have its owner run: grant execute on function % to %',
            current_user, v_post, quote_ident(current_user) using errcode = 'PQ010';
    end if;
    if need = 'select' and not (has_table_privilege('net.http_request_queue', 'select')
            and has_table_privilege('net._http_response', 'select')) then
        raise exception 'role % may not see the requests of pg_net; have its owner run: '
            'grant select on net.http_request_queue, net._http_response to %',
            current_user, quote_ident(current_user) using errcode = 'PQ010';
    end if;
end
$$;

-- Those of the last `count` requests that failed: another status than 2xx, or no answer. Why: the error of pg_net, or the
-- beginning of the answer. pg_net forgets answers after some hours (its setting pg_net.ttl).
--
-- A request that is neither waiting nor answered, long after its time-out, was lost: the tables of pg_net are not logged, so
-- a crash of the server empties them, and a batch that ran out of memory may be gone without a word.
create or replace function @extschema@.poke_failures(count integer default 100)
returns table (request_id bigint, poke text, requested_at timestamptz, status integer, timed_out boolean, error text)
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
declare
    v_now timestamptz := @extschema@.clock();
    v_kept interval := coalesce(nullif(current_setting('pg_net.ttl', true), ''), '6 hours')::interval;
begin
    perform @extschema@._check_net('select');
    return query
    select r.request_id, r.poke, r.requested_at, h.status_code, coalesce(h.timed_out, false),
        case when h.id is null then 'pg_net lost it: it neither waits nor was it answered'
            else coalesce(h.error_msg, left(h.content, 200)) end
    from (
        select * from @extschema@.poke_request r order by r.requested_at desc limit poke_failures.count
    ) r
    left join @extschema@.poke p on p.name = r.poke
    left join net._http_response h on h.id = r.request_id
    where (h.status_code between 200 and 299) is not true
        and (h.id is not null or (
            r.requested_at > v_now - v_kept
            and r.requested_at < v_now - coalesce(p.timeout, '10 minutes') - interval '1 minute'
            and not exists (select from net.http_request_queue q where q.id = r.request_id)
        ))
    order by r.requested_at desc, r.request_id desc;
end
$$;

-- Deletes up to `count` requests that are older than a day; returns how many.
create or replace function @extschema@._prune_pokes(moment timestamptz, count integer) returns integer
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
declare
    v_pruned integer;
begin
    delete from @extschema@.poke_request r where r.ctid = any (array(
        select o.ctid from @extschema@.poke_request o
        where o.requested_at < moment - interval '1 day' order by o.requested_at limit _prune_pokes.count
        for update skip locked
    ));
    get diagnostics v_pruned = row_count;
    return v_pruned;
end
$$;
