"""A caller that puts operators, functions, types and tables of its own before the system's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgqueue import migrate

from .roles import CALLS, CRON, PUBLIC, Roles, made

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgqueue.testing.databases import Databases

    from .conftest import Db

TRAP = "language plpgsql as $trap$ begin raise exception 'hijacked'; end $trap$"
PATH = "set search_path = evil, pg_temp, pg_catalog"
# Of these types are all values that our functions compare, add and call with.
TYPES = ("int2", "int4", "int8", "float8", "numeric", "text", "bool", "jsonb", "bytea", "tid", "oid", "name",
         "regclass", "timestamptz", "interval", "int8[]", "text[]", "tid[]", "interval[]", "anyarray", "anyelement",
         "anynonarray", "anycompatible", "anycompatiblearray", "record")  # fmt: skip
CALLERS = {
    "producer": ("clock", "enqueue", "enqueue_many"),
    "worker": tuple(
        name
        for name in CALLS
        if name not in {"bind_tenant", "grant_access", "isolate_tenants", *CRON}
    ),
    "viewer": ("stats", "next_slots", "poke_failures"),
    "acme": (
        "enqueue",
        "enqueue_many",
        "cancel",
        "cancel_ref",
        "delete",
        "edit",
        "retry",
        "redrive",
        "purge",
        "stats",
        "schedule",
        "run_schedule",
        "sync_schedules",
        "unschedule",
        "next_slots",
    ),
    "owner": tuple(CALLS),
}


def _words() -> set[str]:
    return set(re.findall(r"[a-z_0-9]+", migrate.functions().lower()))


def _spring_operators(db: Db) -> int:
    """An operator in `evil` for each of the system's that our functions could mean."""
    symbols = sorted(set(re.findall(r"[-+*/<>=~!@#%^&|`?]+", migrate.functions())))
    rows = db.rows(
        "select oprname as name, oprleft::regtype::text as left, oprright::regtype::text as right "
        "from pg_operator where oprnamespace = 'pg_catalog'::regnamespace and oprname = any(%s) "
        "and oprleft::regtype::text = any(array(select t::regtype::text from unnest(%s::text[]) t)) "
        "and oprright::regtype::text = any(array(select t::regtype::text from unnest(%s::text[]) t))",
        symbols, list(TYPES), list(TYPES),
    )  # fmt: skip
    for number, row in enumerate(rows):
        db.rows(
            f"create function evil.operator_{number}({row.left}, {row.right}) returns bool {TRAP}"
        )
        db.rows(
            f"create operator evil.{row.name} "
            f"(leftarg = {row.left}, rightarg = {row.right}, function = evil.operator_{number})"
        )
    return len(rows)


def _spring_functions(db: Db) -> int:
    """A function in `evil` for each of the system's whose name stands in ours, of the same arguments."""
    rows = db.rows(
        "select proname as name, array(select t::regtype::text from unnest(proargtypes) t) as types "
        "from pg_proc where pronamespace = 'pg_catalog'::regnamespace and prokind = 'f' and proname = any(%s) "
        "and not proargtypes::oid[] && '{2281,2275}' and provariadic = 0",
        sorted(_words()),
    )  # fmt: skip
    for row in rows:
        db.rows(
            f'create or replace function evil."{row.name}"({", ".join(row.types)}) returns text {TRAP}'
        )
    return len(rows)


def _spring_relations(db: Db) -> None:
    """Temporary tables with the names of our tables and of the catalog's."""
    names = db.rows(
        "select distinct relname as name from pg_class where relkind in ('r', 'v', 'p', 'S') and "
        "(relnamespace = 'pgqueue'::regnamespace or relnamespace = 'pg_catalog'::regnamespace and relname = any(%s))",
        sorted(_words()),
    )  # fmt: skip
    for row in names:
        db.rows(f'create temporary table "{row.name}" (id text)')


def _spring_types(db: Db) -> None:
    """Domains in `evil` that no value belongs to, with the names of types."""
    for name in (
        "text",
        "jsonb",
        "int4",
        "int8",
        "regclass",
        "timestamptz",
        "bytea",
        "tid",
        "oid",
        "name",
    ):
        db.rows(f'create domain evil."{name}" as pg_catalog.text check (1/0 = 1)')


@pytest.fixture(scope="module")
def roles(_pgqueue_databases: Databases) -> Iterator[Roles]:
    """With a schema in which everybody may create."""
    with made(_pgqueue_databases) as roles:
        with roles.as_owner() as owner:
            owner.call("isolate_tenants")
            owner.rows("create schema evil; grant all on schema evil to public")
        roles.grant("acme", "tenant")
        with roles.as_("producer") as db:  # for all: each makes its temporary tables itself
            assert _spring_operators(db) > 100
            assert _spring_functions(db) > 50
            _spring_types(db)
        yield roles


def test_traps_close_on_whoever_does_not_qualify(roles: Roles) -> None:
    """Else the other tests would show nothing."""
    with roles.as_("worker") as db:
        _spring_relations(db)
        db.rows(PATH)
        for statement in (
            "select 1 = 1",
            "select coalesce(1::bigint + 1::bigint)",
            "select 'a'::pg_catalog.text || 'b'::pg_catalog.text",
            "select pg_notify('a', 'b')",
            "select clock_timestamp()",
            "select pg_catalog.now() > pg_catalog.now()",
        ):
            with pytest.raises(psycopg.Error, match="hijacked"):
                db.rows(statement)
        with pytest.raises(psycopg.Error):
            db.rows("select token from job")


@pytest.mark.parametrize("caller", CALLERS)
def test_no_public_function_falls_into_a_trap(roles: Roles, caller: str) -> None:
    """Each one, called with everything of the caller's in front, does its work."""
    with roles.as_owner() as db:
        assert set(CALLS) == {row[0] for row in db.rows(PUBLIC)}
        for number in range(5):
            db.enqueue("k", dedupe_key=f"{number}", ref="r")
    with roles.as_owner() if caller == "owner" else roles.as_(caller, pgqueue__tenant="acme") as db:
        _spring_relations(db)
        db.rows(PATH)
        for name in CALLERS[caller]:
            db.conn.execute("begin")
            db.conn.execute(f"select * from pgqueue.{CALLS[name]}".encode())
            db.conn.execute("rollback")


def test_procedure_without_settings_falls_into_no_trap(roles: Roles) -> None:
    """It commits, and so can have none; what it calls has them."""
    with roles.as_owner() as db:
        _spring_relations(db)
        db.rows(PATH)
        db.conn.execute("call pgqueue.run_minute('61 s', 'media')")
        db.conn.execute("call pgqueue.run_minute('61 s')")
        with pytest.raises(psycopg.Error, match="use a second or more"):
            db.conn.execute("call pgqueue.run_minute('1 ms')")


def test_a_whole_life_goes_by_without_a_trap(roles: Roles) -> None:
    """With rows for every branch: claim, fail, retry, cancel, expire, maintain."""
    with roles.as_("worker") as db:
        _spring_relations(db)
        db.rows(PATH)

        def run(statement: str, *params: object) -> list[Any]:
            return db.conn.execute(f"select * from pgqueue.{statement}".encode(), params).fetchall()

        run("purge('default')")
        run("enqueue('k', dedupe_key => 'x', dedupe_until => 'start', delay => '0')")
        run(
            'enqueue_many(\'[{"kind": "k", "ref": "r"}, {"kind": "k", "delay": 0, "tags": ["a"]}]\')'
        )
        jobs = [(row[0], row[1]) for row in run("claim(count => 9)")]
        assert len(jobs) == 3
        for (job, token), how in zip(jobs, ("fail", "ack", "snooze"), strict=True):
            more = ", '{0 s}'" if how == "snooze" else ""
            run(f"{how}(%s::bigint[], %s::bigint[]{more})", [job], [token])
            run("extend(%s::bigint[], %s::bigint[], '1 s')", [job], [token])
        ids = [job for job, _ in jobs]
        for call in (
            "promote()",
            "reap()",
            "maintain()",
            "_fold_lanes()",
            "_partitions()",
            "stats()",
            "all_jobs",
        ):
            run(call)
        run("retry(%s::bigint[])", ids)
        run("cancel(%s::bigint[])", ids)
        run("redrive()")


def test_nobody_makes_a_cast_or_trigger_of_ours(roles: Roles) -> None:
    """A cast needs one of its types, a trigger the table."""
    for role in ("producer", "worker", "acme"):
        with roles.as_(role, pgqueue__tenant="acme") as db:
            db.rows(f"create or replace function evil.cast_{role}(text) returns jsonb {TRAP}")
            for statement in (
                f"create cast (text as jsonb) with function evil.cast_{role}(text) as implicit",
                f"create rule r as on insert to pgqueue.job do also select evil.cast_{role}('')",
                "alter table pgqueue.job add column x text",
                "alter function pgqueue.enqueue_many(jsonb) reset search_path",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    db.rows(statement)


def test_migrate_falls_into_no_trap(db: Db) -> None:
    """What stands before the system's in the migrator's search_path is not what the functions mean for ever after."""
    db.rows("create schema evil")
    _spring_operators(db)
    _spring_functions(db)
    _spring_types(db)
    db.rows(PATH)
    with db.transaction():
        db.conn.execute(migrate.script("fresh"))
        # The rest of the transaction, an Alembic's say, has the path that it had.
        assert db.conn.execute("show search_path").fetchall() == [("evil, pg_temp, pg_catalog",)]
        db.conn.execute("select fresh.enqueue('k', dedupe_key => 'x')")
        db.conn.execute("select fresh.maintain()")
        db.conn.execute("select * from fresh.claim()")
        db.conn.execute("select * from fresh.stats()")
