-- A double of pg_net and of Vault, for tests: their schemas, functions and tables with the signatures of pg_net 0.14 and
-- supabase_vault 0.3, so that what is written for them runs here. Nothing is encrypted; who sends is tests/hosted/net_double.py.
create schema net;
grant usage on schema net to public;
create table net.http_request_queue (
    id bigint generated always as identity primary key,
    method text not null,
    url text not null,
    headers jsonb not null,
    body bytea,
    timeout_milliseconds integer not null
);
create table net._http_response (
    id bigint,
    status_code integer,
    content_type text,
    headers jsonb,
    content text,
    timed_out boolean,
    error_msg text,
    created timestamptz not null default now()
);
create function net.http_post(
    url text, body jsonb default '{}', params jsonb default '{}',
    headers jsonb default '{"Content-Type": "application/json"}', timeout_milliseconds integer default 5000
) returns bigint language plpgsql volatile parallel safe security definer as $$
declare
    v_id bigint;
begin
    insert into net.http_request_queue (method, url, headers, body, timeout_milliseconds)
    values ('POST', http_post.url, http_post.headers, convert_to(http_post.body::text, 'UTF8'), http_post.timeout_milliseconds)
    returning id into v_id;
    notify net_double;
    return v_id;
end
$$;
create function net.worker_restart() returns boolean language sql as 'select true';
