"""What must hold of the schema as such."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgqueue.migrate import functions

if TYPE_CHECKING:
    from .conftest import Db


def test_numbers_that_grow_are_bigint(db: Db) -> None:
    """Ids, positions, tokens, and every sequence."""
    assert (
        db.rows(
            "select sequencename from pg_sequences where schemaname = 'pgqueue' and data_type <> 'bigint'::regtype"
        )
        == []
    )
    assert db.rows(
        "select attrelid::regclass, attname from pg_attribute a join pg_class c on c.oid = a.attrelid "
        "where c.relnamespace = 'pgqueue'::regnamespace and attnum > 0 and atttypid in ('int4'::regtype, 'int2'::regtype) "
        "and (attname ~ 'id$|position|token|head|floor|bottom')"
    ) == []  # fmt: skip


def test_nothing_shared_is_locked_and_nothing_is_lost_in_a_crash(db: Db) -> None:
    """No foreign keys, no unlogged tables, no serial columns, and but two triggers."""
    assert (
        db.rows(
            "select conname from pg_constraint where connamespace = 'pgqueue'::regnamespace and contype = 'f'"
        )
        == []
    )
    assert db.rows(
        "select relname, tgname from pg_trigger t join pg_class c on c.oid = t.tgrelid where c.relnamespace = 'pgqueue'::regnamespace order by 1"
    ) == [("lane", "marks_deleted"), ("schedule", "schedule_changed")]  # fmt: skip
    assert (
        db.rows(
            "select relname from pg_class where relnamespace = 'pgqueue'::regnamespace and relpersistence <> 'p'"
        )
        == []
    )
    assert db.rows(
        "select d.objid::regclass from pg_depend d join pg_class c on c.oid = d.objid "
        "where c.relkind = 'S' and c.relnamespace = 'pgqueue'::regnamespace and d.deptype in ('a', 'i')"
    ) == []  # fmt: skip


def test_every_function_is_parsed_or_has_its_settings(db: Db) -> None:
    """No name is looked up where the caller says, and no plan depends on the statistics."""
    free = {"stats", "_partitions", "_bounds", "grant_access"}
    free |= {"_count_minutes", "_count_minute"}  # once a minute; their plans depend on it
    free |= {"isolate_tenants", "bind_tenant", "_every_tenant"}
    found = db.rows(
        "select proname as name, prosecdef as definer, prosqlbody is not null as parsed, coalesce(proconfig, '{}') as settings "
        "from pg_proc where pronamespace = 'pgqueue'::regnamespace"
    )
    assert len(found) > 40
    for function in found:
        if function.parsed:
            assert not function.definer
            continue
        if function.name == "run_minute":
            continue  # it commits, and so can have none; test_hijack.py sets its traps
        settings = dict(setting.split("=", 1) for setting in function.settings)
        assert settings["search_path"] == "pg_catalog, pg_temp", function.name
        if function.name not in free:
            assert settings["plan_cache_mode"] == "force_generic_plan", function.name
            assert (
                settings["enable_seqscan"]
                == settings["enable_bitmapscan"]
                == settings["jit"]
                == "off"
            )


def test_only_partitions_run_with_the_owners_rights(db: Db) -> None:
    """Each exception is one to audit."""
    rows = db.rows(
        "select proname from pg_proc where pronamespace = 'pgqueue'::regnamespace and prosecdef"
    )
    assert [row.proname for row in rows] == ["_partitions"]


def test_functions_depend_on_no_object_of_ours(db: Db) -> None:
    """So that each can be replaced alone, and tables altered below them."""
    assert db.rows(
        "select p.proname, d.refobjid from pg_depend d join pg_proc p on p.oid = d.objid and d.classid = 'pg_proc'::regclass "
        "where p.pronamespace = 'pgqueue'::regnamespace and d.deptype = 'n' and d.refclassid in ('pg_class'::regclass, 'pg_proc'::regclass)"
    ) == []  # fmt: skip


def test_volatile_clock_is_read_into_variables(db: Db) -> None:
    """In a condition it would be called for each row, and no index could serve it."""
    del db
    for number, line in enumerate(functions().splitlines()):
        if "clock()" in line and not line.lstrip().startswith("--"):
            allowed = ":=" in line or "create or replace function" in line or "_ring(" in line
            assert allowed, (number, line)


@pytest.mark.parametrize("column", ["queue", "kind", "ref"])
def test_indexed_text_survives_an_upgrade_of_the_locales(db: Db, column: str) -> None:
    """It is compared bytewise."""
    assert db.rows(
        "select attrelid::regclass from pg_attribute a join pg_class c on c.oid = a.attrelid "
        "where c.relnamespace = 'pgqueue'::regnamespace and c.relkind in ('r', 'p') and attname = %s "
        "and attcollation <> 'pg_catalog.\"C\"'::regcollation", column,
    ) == []  # fmt: skip


def test_subtransactions_are_for_rare_cases(db: Db) -> None:
    """Many of them in a long transaction stall replicas: a key that is contended, a partition, a zone's name.

    A tick has one for all it fires, and where one of these cannot be fired, for each of fifty. A minute's runs
    have transactions of their own.
    """
    rows = db.rows(
        "select proname from pg_proc where pronamespace = 'pgqueue'::regnamespace and prosrc ~* '\\mexception\\s+when' order by 1"
    )
    assert {row.proname for row in rows} == {
        "_check_times", "_fire_due", "_partitions", "_take_key_back", "_waiting_holder", "run_minute"
    }  # fmt: skip
