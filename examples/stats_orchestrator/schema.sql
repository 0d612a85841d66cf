-- The application's own tables, and for how long finished jobs are kept. Run it again as often as you like.
create table if not exists coach (
    id bigint primary key,
    name text not null
);
create table if not exists game_stat (
    game_id bigint primary key,
    coach_id bigint not null references coach,
    points integer not null,
    refreshed_at timestamptz not null default now()
);

-- The upkeep drops what is older, a day's partition at a time; dead jobs stay longer, to be looked at.
update pgqueue.setting set retention = '14 days', dead_retention = '90 days';
