"""What is installed, and what a role may do with it."""

from __future__ import annotations

import pytest

from pgqueue import Client, migrate
from pgqueue.doctor import Level, examine, schema

from .conftest import Examine, Sql, levels


def test_schema_of_this_version_is_well(look: Examine) -> None:
    """Its functions, too."""
    assert levels(look("schema")) == {Level.OK}
    assert levels(look("functions")) == {Level.OK}


def test_missing_schema_is_the_finding(pgqueue_dsn: str) -> None:
    """The server is examined all the same; what needs the schema is left out."""
    with Client(pgqueue_dsn, schema="elsewhere") as client:
        found = {finding.check: finding for finding in examine(client)}
    assert found["schema"].level is Level.CRITICAL
    assert found["schema"].advice == "pgqueue migrate --schema elsewhere"
    assert "durability" in found
    assert "waiting" not in found


def test_older_schema_is_critical(look: Examine, sql: Sql) -> None:
    """Workers would refuse to start."""
    sql("update pgqueue.migration set checksum = 'older' where version = 0")
    (found,) = look("schema")
    assert (found.level, found.advice) == (Level.CRITICAL, "pgqueue migrate")
    assert levels(look("functions")) == {Level.NOTICE}


def test_schema_that_lost_tables_does_not_end_the_examination(look: Examine, sql: Sql) -> None:
    """What cannot be done says so."""
    sql("alter table pgqueue.sleeper rename to dozer")
    (found,) = look("workers")
    assert found.level is Level.NOTICE
    assert "sleeper" in found.seen


def test_newer_schema_is_a_notice(look: Examine, sql: Sql) -> None:
    """Workers of this version go on meanwhile."""
    sql("insert into pgqueue.migration (version, name) values (999, 'later')")
    (found,) = look("schema")
    assert found.level is Level.NOTICE
    assert "999" in found.seen


def test_changed_and_missing_functions_are_named(
    look: Examine, sql: Sql, pgqueue_client: Client
) -> None:
    """The advice brings them back."""
    sql(
        "create or replace function pgqueue.wake(worker text) returns void language sql as 'select'"
    )
    sql("drop function pgqueue.stats()")
    missing, changed = sorted(look("functions"), key=lambda f: f.seen)
    assert (missing.seen, changed.seen) == ("stats is missing", "wake is not as shipped")
    sql(changed.advice.partition("  --")[0])
    pgqueue_client.migrate()
    assert levels(look("functions")) == {Level.OK}


def test_every_function_is_compared(sql: Sql) -> None:
    """The text of each is found in what is shipped."""
    there = sql("select distinct proname from pg_proc where pronamespace = 'pgqueue'::regnamespace")
    assert {name for name, _ in schema.shipped_functions("pgqueue")} == {row[0] for row in there}
    shipped = migrate.functions()
    kinds = ("function", "procedure")
    assert sum(shipped.count(f"create or replace {kind}") for kind in kinds) == len(there)


def test_superuser_and_owner_are_told(look: Examine, sql: Sql, role: str, as_role: Client) -> None:
    """A worker needs neither."""
    assert look("role")[0].seen.endswith("is a superuser")
    sql(f"alter schema pgqueue owner to {role}")
    try:
        assert look("role", target=as_role)[0].seen == f"{role} owns the schema"
    finally:
        sql("alter schema pgqueue owner to postgres")


@pytest.mark.parametrize(
    "access", ["cron", "worker", "viewer", "producer", "tenant", "tenant_viewer"]
)
def test_role_with_all_its_grants_is_well(
    look: Examine, sql: Sql, role: str, as_role: Client, access: str
) -> None:
    """It is known by what it may do."""
    if access.startswith("tenant"):
        sql("select pgqueue.isolate_tenants()")
    sql("select pgqueue.grant_access(%s, %s)", role, access)
    (found,) = look("role", target=as_role)
    assert (found.level, found.seen) == (Level.OK, f"{role} is a {access}")


def test_lacking_grants_are_named(look: Examine, sql: Sql, role: str, as_role: Client) -> None:
    """With the statement that gives them."""
    (nobody,) = look("role", target=as_role)
    assert nobody.level is Level.CRITICAL
    sql("select pgqueue.grant_access(%s, 'worker')", role)
    sql(f"revoke insert on pgqueue.archive from {role}")
    (found,) = look("role", target=as_role)
    assert found.level is Level.WARNING
    assert "lacks insert on archive" in found.seen
    sql(found.advice)
    assert levels(look("role", target=as_role)) == {Level.OK}


def test_unlogged_table_is_critical(look: Examine, sql: Sql) -> None:
    """A crash would empty it; the advice mends it."""
    assert levels(look("unlogged")) == {Level.OK}
    sql("alter table pgqueue.job set unlogged")
    found = look("unlogged")
    assert levels(found) == {Level.CRITICAL}
    for finding in found:
        sql(finding.advice)
    assert levels(look("unlogged")) == {Level.OK}
