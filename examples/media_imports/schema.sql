-- The application's own table. Run it again as often as you like; no URL and no secret is in it.
create table if not exists media_import (
    media_id text primary key,
    requested_at timestamptz not null default now(),
    media jsonb,
    imported_at timestamptz
);
