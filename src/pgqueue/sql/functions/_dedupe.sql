-- Keys are per tenant and kind, and stored hashed: a B-tree entry may not exceed 2,704 bytes, a key may. Neither tenants nor
-- kinds have control characters, so that no key of one can pass for that of another.
create or replace function @extschema@._dedupe_hash(tenant text, kind text, dedupe_key text) returns bytea
language sql stable parallel safe
begin atomic
    select sha256(convert_to(coalesce(tenant || chr(30), '') || kind || chr(31) || dedupe_key, 'UTF8'));
end;

-- Stores `new` unless its dedupe key is held; returns the holder's id, or null when it was stored.
-- A unique index and a loop, not an advisory lock: a holder that rolls back takes its key with it.
create or replace function @extschema@._enqueue_once(new @extschema@.job, on_conflict text) returns bigint
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
declare
    v_holder bigint;
begin
    loop
        insert into @extschema@.job select new.*
        on conflict (dedupe_hash) where dedupe_hash is not null do nothing;
        if found then
            return null;
        end if;

        if on_conflict = 'replace' then
            -- A job that runs keeps what it started with; one that waits has all its attempts before it again.
            v_holder := @extschema@._waiting_holder(new.dedupe_hash);
            if v_holder is not null then
                update @extschema@.job j set
                    attempt = 0, payload = new.payload, run_at = new.run_at, priority = new.priority, queue = new.queue,
                    max_attempts = new.max_attempts, backoff = new.backoff, dedupe_until = new.dedupe_until,
                    tags = new.tags, metadata = new.metadata, ref = new.ref,
                    position = case
                        when new.position is not null and j.priority = new.priority and j.queue = new.queue
                        then coalesce(j.position, new.position) else new.position
                    end
                where j.id = v_holder;
                return v_holder;
            end if;
        end if;

        select j.id into v_holder from @extschema@.job j where j.dedupe_hash = new.dedupe_hash;
        if found then
            if on_conflict = 'raise' then
                raise exception 'job % holds the dedupe key % of kind %', v_holder, left(new.dedupe_key, 100), new.kind
                    using errcode = 'PQ001', detail = v_holder::text;
            end if;
            return v_holder;
        end if;
        -- The holder ended between the two statements: the key is free again.
    end loop;
end
$$;

-- Locks the job that holds the key, if it waits, and returns its id; null if there is none. One that runs must not stay
-- locked: its ack would wait for us, while the next key of our batch waits for that ack. Yet who waits for a lock has
-- it in the end, although the job was claimed meanwhile. So first without waiting; else in a block whose end unlocks it.
create or replace function @extschema@._waiting_holder(hash bytea) returns bigint
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
declare
    v_holder bigint;
    v_waits boolean;
begin
    select j.id into v_holder from @extschema@.job j
    where j.dedupe_hash = hash and j.lease_until is null
    for update skip locked;
    if found or not exists (select from @extschema@.job j where j.dedupe_hash = hash and j.lease_until is null) then
        return v_holder;
    end if;

    begin
        select j.id, j.lease_until is null into v_holder, v_waits from @extschema@.job j
        where j.dedupe_hash = hash
        for update;
        if v_waits then
            return v_holder;
        end if;
        raise exception 'locked in vain' using errcode = 'PQ009';
    exception
        when sqlstate 'PQ009' then return null;
    end;
end
$$;
