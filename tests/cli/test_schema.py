"""`migrate` and `grant`."""

from __future__ import annotations

import psycopg
import pytest

from pgqueue import Client

from .conftest import Run, invoke


def test_migrate_installs_and_then_has_nothing_to_do(run: Run) -> None:
    """The second time it says so, and both times it is well."""
    first = run("migrate", "--schema", "other")
    assert (first.code, first.out) == (
        0,
        "schema 'other': installed, now at version 4\n",
    )
    second = run("migrate", "--schema", "other")
    assert (second.code, second.out) == (0, "schema 'other' is current, at version 4\n")


def test_migrate_says_in_json_what_it_did(run: Run) -> None:
    """The keys are stable, and say whether anything changed."""
    done = run("migrate", "--schema", "other", "--json")
    assert done.json == {
        "schema": "other", "version": 4, "latest": 4, "current": True, "changed": True,
    }  # fmt: skip
    assert run("migrate", "--schema", "other", "--json").json["changed"] is False


def test_check_changes_nothing_and_exits_1(run: Run) -> None:
    """A deployment can ask before it goes on."""
    for _ in range(2):
        done = run("migrate", "--check", "--schema", "other")
        assert done.code == 1
        assert "not installed" in done.out
    assert run("migrate", "--check").code == 0


def test_check_notices_other_functions_and_newer_tables(run: Run, pgqueue_dsn: str) -> None:
    """Both are not current; newer ones ask for an upgrade of the package."""
    with psycopg.connect(pgqueue_dsn) as conn:
        conn.execute("update pgqueue.migration set checksum = 'other' where version = 0")
    outdated = run("migrate", "--check")
    assert (outdated.code, "older than this pgqueue" in outdated.out) == (1, True)
    assert "upgraded" in run("migrate").out
    with psycopg.connect(pgqueue_dsn) as conn:
        conn.execute("insert into pgqueue.migration (version, name) values (999, 'future')")
    newer = run("migrate", "--check")
    assert (newer.code, "newer than this pgqueue" in newer.out) == (1, True)


def test_script_needs_no_database_and_installs(run: Run, pgqueue_dsn: str, no_server: str) -> None:
    """What --sql prints can be run by anyone, in one transaction."""
    script = invoke("--dsn", no_server, "--schema", "scripted", "migrate", "--sql")
    assert script.code == 0
    assert script.out.startswith("-- Run this in one transaction")
    with psycopg.connect(pgqueue_dsn) as conn:
        conn.execute(script.out.encode())
    assert run("migrate", "--check", "--schema", "scripted").code == 0


def test_script_from_installed_has_only_what_is_missing(run: Run) -> None:
    """On a current schema that is neither tables nor functions."""
    whole = run("migrate", "--sql", "--json").json["script"]
    missing = run("migrate", "--sql", "--from-installed", "--json").json["script"]
    assert "create table" in whole
    assert "create table" not in missing
    assert "create or replace function" not in missing


@pytest.mark.parametrize("options", [("--check", "--sql"), ("--from-installed",)])
def test_options_that_make_no_sense_together_are_refused(options: tuple[str, ...]) -> None:
    """Before anything is connected to."""
    assert invoke("migrate", *options).code == 2


def test_granted_role_can_do_that_and_no_more(run: Run, pgqueue_dsn: str, role: str) -> None:
    """A producer enqueues; that it may not read is a matter of permission."""
    as_role = psycopg.conninfo.make_conninfo(pgqueue_dsn, user=role)
    assert invoke("--dsn", as_role, "enqueue", "mail").code == 5
    granted = run("grant", role, "producer")
    assert (granted.code, granted.out) == (
        0, f"role '{role}' has producer access to schema 'pgqueue'\n",
    )  # fmt: skip
    assert invoke("--dsn", as_role, "enqueue", "mail").code == 0
    refused = invoke("--dsn", as_role, "jobs")
    assert refused.code == 5
    assert refused.err.startswith("pgqueue: permission denied")
    assert run("--json", "grant", role, "viewer").json == {
        "schema": "pgqueue", "role": role, "access": "viewer",
    }  # fmt: skip
    assert invoke("--dsn", as_role, "jobs").code == 0


def test_unknown_role_and_access_are_usage_errors(run: Run) -> None:
    """Each says what it is about."""
    unknown = run("grant", "nobody_of_this_name", "viewer")
    assert (unknown.code, "there is no role 'nobody_of_this_name'" in unknown.err) == (2, True)
    assert run("grant", "postgres", "owner").code == 2


def test_only_the_owner_may_grant(pgqueue_dsn: str, role: str) -> None:
    """Anyone else lacks the permission."""
    as_role = psycopg.conninfo.make_conninfo(pgqueue_dsn, user=role)
    assert invoke("--dsn", as_role, "grant", role, "worker").code == 5


def test_migration_without_permission_says_so(pgqueue_dsn: str, role: str) -> None:
    """A role that may not create schemas is told, not shown a traceback."""
    as_role = psycopg.conninfo.make_conninfo(pgqueue_dsn, user=role)
    assert invoke("--dsn", as_role, "--schema", "mine", "migrate").code == 5


def test_schema_option_reaches_every_command(run: Run) -> None:
    """What is enqueued in one schema is not seen in the other."""
    run("migrate", "--schema", "other")
    run("enqueue", "mail", "--schema", "other")
    assert run("jobs").out == "no jobs\n"
    assert len(run("jobs", "--json", "--schema", "other").lines) == 1


def test_client_sees_what_the_command_installed(run: Run, pgqueue_dsn: str) -> None:
    """The command and the library agree on what is current."""
    run("migrate", "--schema", "other")
    with Client(pgqueue_dsn, schema="other") as client:
        assert client.schema_state().current
