"""The script that installs the schema, for those who run their own migrations."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from pgqueue import Client, ConfigurationError, SchemaMissing, SchemaOutdated, migrate
from pgqueue.migrate import SchemaState

NAMES = ["fresh", "My-Schema", "schöma"]


@pytest.fixture
def conn(pgqueue_dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to a database of the test's own."""
    with psycopg.connect(pgqueue_dsn) as conn:
        yield conn


def catalog(conn: psycopg.Connection[Any], schema: str) -> list[tuple[Any, ...]]:
    """All that is in a schema: tables with their columns, indexes, functions with their texts."""
    return conn.execute(
        """
        select 'column', c.relname || '.' || a.attname,
            format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull || ' ' || coalesce(
                replace(pg_get_expr(d.adbin, d.adrelid), %(name)s, ''), '')
        from pg_attribute a join pg_class c on c.oid = a.attrelid
        left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
        where c.relnamespace = to_regnamespace(%(quoted)s) and a.attnum > 0 and c.relkind <> 'S'
        union all
        select 'index', c.relname, replace(pg_get_indexdef(c.oid), %(name)s, '') from pg_class c
        where c.relnamespace = to_regnamespace(%(quoted)s) and c.relkind in ('i', 'I')
        union all
        select 'sequence', c.relname, '' from pg_class c
        where c.relnamespace = to_regnamespace(%(quoted)s) and c.relkind = 'S'
        union all
        select 'function', p.proname, replace(pg_get_functiondef(p.oid), %(name)s, '')
        from pg_proc p where p.pronamespace = to_regnamespace(%(quoted)s)
        order by 1, 2, 3
        """,
        {"quoted": f'"{schema}"', "name": schema},
    ).fetchall()


@pytest.mark.parametrize("name", NAMES)
def test_script_is_plain_sql(conn: psycopg.Connection[Any], pgqueue_dsn: str, name: str) -> None:
    """Run as one string, it installs what `Client.migrate` would."""
    conn.execute(migrate.script(name).encode())
    conn.commit()
    with Client(pgqueue_dsn, schema=name) as client:
        client.schema_state().check()
        client.migrate()
        client.enqueue("a")
        client.ack(client.claim())


@pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed")
def test_script_runs_in_psql(pgqueue_dsn: str, tmp_path: Path) -> None:
    """As `pgqueue migrate --sql` would be used: in one transaction, stopping at the first error."""
    file = tmp_path / "install.sql"
    file.write_text(migrate.script("fresh"), "utf-8")
    command = ["psql", "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-f", str(file), pgqueue_dsn]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    with Client(pgqueue_dsn, schema="fresh") as client:
        client.schema_state().check()


def test_every_schema_gets_the_same(conn: psycopg.Connection[Any]) -> None:
    """Names aside."""
    for name in NAMES[1:]:
        conn.execute(migrate.script(name).encode())
    first, second = (catalog(conn, name) for name in NAMES[1:])
    assert len(first) > 100
    assert [row[:2] for row in first] == [row[:2] for row in second]


def test_functions_can_be_applied_again_and_again(conn: psycopg.Connection[Any]) -> None:
    """A release that changed one of them replaces all; what is there stays the same."""
    conn.execute(migrate.script("fresh").encode())
    before = catalog(conn, "fresh")
    outdated = SchemaState("fresh", migrate.latest_version(), "old")
    for _ in range(2):
        conn.execute(migrate.script("fresh", after=outdated).encode())
    assert catalog(conn, "fresh") == before


def test_script_of_what_is_current_changes_nothing(conn: psycopg.Connection[Any]) -> None:
    """It only looks after the partitions."""
    current = SchemaState("pgqueue", migrate.latest_version(), migrate.functions_checksum())
    script = migrate.script(after=current)
    assert "create or replace" not in script
    assert "create table" not in script
    # The database may be from before midnight, and short of a partition.
    conn.execute("select pgqueue._partitions()")
    before = catalog(conn, "pgqueue")
    conn.execute(script.encode())
    assert catalog(conn, "pgqueue") == before


def test_interrupted_script_leaves_nothing(conn: psycopg.Connection[Any]) -> None:
    """All of it is undone with its transaction."""
    conn.execute(migrate.script("fresh").encode())
    conn.rollback()
    assert catalog(conn, "fresh") == []


def test_no_placeholder_is_left() -> None:
    """Each has its meaning, in every function."""
    script = re.sub(r"'@\w+'", "", migrate.script("s"))  # of cron: '@daily'
    assert "@" not in script.replace("/@-]", "")


@pytest.mark.parametrize("name", ["pg_x", "a b", 'x"; drop schema public; --'])
def test_name_that_cannot_be_is_refused(name: str) -> None:
    """Before it gets into any SQL."""
    with pytest.raises(ConfigurationError):
        migrate.script(name)
    with pytest.raises(ConfigurationError):
        migrate.read_state(name)


def test_migrations_are_numbered_without_gaps() -> None:
    """From 1; the file's name says what it does."""
    assert [step.version for step in migrate.migrations()] == list(
        range(1, migrate.latest_version() + 1)
    )
    assert migrate.migrations()[0].name == "core"


def test_every_sql_file_is_part_of_the_script() -> None:
    """None lies about unused."""
    folder = resources.files("pgqueue") / "sql"
    count = sum(file.name.endswith(".sql") for file in (folder / "functions").iterdir())
    assert migrate.functions().count("create or replace ") >= count


def test_state_says_what_is_wrong() -> None:
    """Missing, older, newer, or just other functions."""
    latest, checksum = migrate.latest_version(), migrate.functions_checksum()
    SchemaState("s", latest, checksum).check()
    with pytest.raises(SchemaMissing):
        SchemaState("s", 0, "").check()
    with pytest.raises(SchemaOutdated, match="or its functions"):
        SchemaState("s", latest, "other").check()
    for newer in (
        SchemaState("s", latest + 1, "other"),
        SchemaState("s", latest, "other", (999, 0)),
    ):
        newer.check()
        with pytest.raises(SchemaOutdated, match="upgrade the package"):
            migrate.script("s", after=newer)


def test_dsn_of_the_tests_is_a_database_of_their_own(pgqueue_dsn: str) -> None:
    """These tests install schemas in it."""
    assert str(conninfo_to_dict(pgqueue_dsn)["dbname"]).startswith("pgqueue_test_")
