-- Whoever deletes marks makes all sessions look for them again; see enqueue().
create or replace function @extschema@._count_deleted_marks() returns trigger
language plpgsql volatile
@settings@
as $$
begin
    perform nextval('@extschema@.marks_deleted');
    return null;
end
$$;
do $$
begin
    if not exists (
        select from pg_catalog.pg_trigger t
        where t.tgrelid = '@extschema@.lane'::pg_catalog.regclass and t.tgname = 'marks_deleted'
    ) then
        create trigger marks_deleted after delete or truncate on @extschema@.lane
        for each statement execute function @extschema@._count_deleted_marks();
    end if;
end $$;
