-- Takes reminders and pgqueue away: triggers, functions, tables, jobs. The application's tables stay as they are.
drop schema if exists reminders, pgqueue cascade;
do $$
begin
    if exists (select from pg_roles where rolname = 'reminders_service') then
        drop owned by reminders_service;
    end if;
end
$$;
