-- Secrets that endpoints are called with: in Vault where there is one, otherwise in the table `secret`.

-- Stores a secret under its name, in place of what it was; returns where: 'vault' or 'table'. Without `store` it goes where it
-- is, and a new one into Vault if this role may use that. Named, it is taken out of the other.
create or replace function @extschema@.put_secret(name text, value text, store text default null) returns text
language plpgsql volatile
@settings@
as $$
#variable_conflict use_variable
declare
    v_now timestamptz := @extschema@.clock();
    v_place text := @extschema@._secret_place(name);
    v_store text := coalesce(store, v_place, case when @extschema@._has_vault() then 'vault' else 'table' end);
begin
    if name is null or name !~ '^[A-Za-z0-9_.:/@-]{1,128}$' then
        raise exception '% is no name; use 1 to 128 of the characters [A-Za-z0-9_.:/@-]', quote_nullable(name)
            using errcode = 'PQ010';
    end if;
    if value is null or value !~ '^[!-~]+$' or octet_length(value) > 4096 then
        raise exception 'the value of secret % cannot be sent in a header; use 1 to 4096 characters of ASCII without spaces',
            quote_literal(name) using errcode = 'PQ010';
    end if;
    if v_store is distinct from v_place then
        perform @extschema@.remove_secret(name);
    end if;
    if v_store = 'table' then
        insert into @extschema@.secret as s (name, value, updated_at) values (name, value, v_now)
        on conflict on constraint secret_pkey do update set value = excluded.value, updated_at = excluded.updated_at;
    elsif v_store <> 'vault' then
        raise exception 'store is %; use vault or table', quote_literal(v_store) using errcode = 'PQ010';
    elsif not @extschema@._has_vault() then
        raise exception 'there is no Vault in database % that role % may use; use the store ''table''',
            current_database(), current_user using errcode = 'PQ010';
    elsif v_place = 'vault' then
        perform vault.update_secret((select d.id from vault.decrypted_secrets d where d.name = put_secret.name), value);
    else
        perform vault.create_secret(value, name, 'of pgqueue');
    end if;
    return v_store;
end
$$;

-- Removes a secret, wherever it is; true if there was one.
create or replace function @extschema@.remove_secret(name text) returns boolean
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
begin
    if @extschema@._secret_place(remove_secret.name) = 'vault' then
        delete from vault.secrets s where s.name = remove_secret.name;
    else
        delete from @extschema@.secret s where s.name = remove_secret.name;
    end if;
    return found;
end
$$;

create or replace function @extschema@._has_vault() returns boolean
language plpgsql volatile
@settings@
as $$
begin
    return case when to_regclass('vault.decrypted_secrets') is null then false
        when not has_schema_privilege('vault', 'usage') then false
        else has_table_privilege('vault.decrypted_secrets', 'select') end;
end
$$;

-- Where a secret is: 'vault' or 'table', null if nowhere. Vault is asked first.
create or replace function @extschema@._secret_place(name text) returns text
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
begin
    if @extschema@._has_vault() then
        if exists (select from vault.decrypted_secrets d where d.name = _secret_place.name) then
            return 'vault';
        end if;
    end if;
    return case when exists (select from @extschema@.secret s where s.name = _secret_place.name) then 'table' end;
end
$$;

create or replace function @extschema@._secret_value(name text) returns text
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
begin
    if @extschema@._secret_place(_secret_value.name) = 'vault' then
        return (select d.decrypted_secret from vault.decrypted_secrets d where d.name = _secret_value.name);
    end if;
    return (select s.value from @extschema@.secret s where s.name = _secret_value.name);
end
$$;

-- When a secret was put or replaced last; null if it is nowhere.
create or replace function @extschema@._secret_changed_at(name text) returns timestamptz
language plpgsql volatile
@settings@
as $$
#variable_conflict use_column
begin
    if @extschema@._secret_place(_secret_changed_at.name) = 'vault' then
        return (select d.updated_at from vault.decrypted_secrets d where d.name = _secret_changed_at.name);
    end if;
    return (select s.updated_at from @extschema@.secret s where s.name = _secret_changed_at.name);
end
$$;
