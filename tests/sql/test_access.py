"""Roles: what each may do and no more, and that nothing of a caller's gets in between."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from psycopg import errors, sql
from psycopg.types.json import Jsonb

from pgqueue import migrate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .conftest import Db

HOUR = timedelta(hours=1)


@pytest.fixture
def role(db: Db) -> Iterator[str]:
    """A role that may do nothing."""
    name = db.one("select 'pgqueue_test_' || left(md5(random()::text), 12)")
    db.conn.execute(sql.SQL("create role {}").format(sql.Identifier(name)))
    yield name
    db.conn.execute("reset role")
    db.conn.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(name)))


@pytest.fixture
def as_role(db: Db, role: str) -> Callable[[str], None]:
    """Grants access to the role, and becomes it."""

    def become(access: str) -> None:
        db.call("grant_access", role, access)
        db.conn.execute(sql.SQL("set role {}").format(sql.Identifier(role)))

    return become


def _enqueue_all_ways(db: Db) -> None:
    for conflict in ("return", "replace"):
        db.enqueue(queue="new", priority=3)
        db.enqueue(dedupe_key="x", on_conflict=conflict)
        db.enqueue(dedupe_key="x", on_conflict=conflict, delay=HOUR)
        db.enqueue_many(
            {"kind": "k"},
            *({"kind": "k", "dedupe_key": "y", "on_conflict": conflict} for _ in "ab"),
        )


def test_producer_enqueues_and_no_more(db: Db, as_role: Callable[[str], None]) -> None:
    """In every way; it sees no payloads."""
    db.call("sleep", ["default", "new"], "w", HOUR)
    as_role("producer")
    _enqueue_all_ways(db)
    for statement in (
        "select * from pgqueue.claim()", "select pgqueue.cancel('{1}')", "select payload from pgqueue.job",
        "select * from pgqueue.archive", "delete from pgqueue.job", "select pgqueue.maintain()",
        "select pgqueue._partitions()", "select pgqueue.purge('default')", "select pgqueue.pause('default')",
        "update pgqueue.setting set retention = '0'", "update pgqueue.job set token = 1",
        "select setval('pgqueue.job_id_seq', 1)", "select pgqueue.grant_access('postgres', 'worker')",
    ):  # fmt: skip
        with pytest.raises(errors.InsufficientPrivilege):
            db.rows(statement)


def test_worker_does_all_but_change_the_schema(db: Db, as_role: Callable[[str], None]) -> None:
    """Maintenance too, with its partitions."""
    as_role("worker")
    _enqueue_all_ways(db)
    db.fill(20)
    jobs = db.claim(20)
    db.call("extend", [jobs[0].id], [jobs[0].token], HOUR)
    db.end("ack", *jobs[:3], results=Jsonb([1, 2, 3]))
    db.end("skip", jobs[3])
    db.end("fail", jobs[4])
    db.end("snooze", jobs[5], delays=[HOUR])
    db.end("release", jobs[6])
    db.call("cancel", [jobs[7].id, jobs[4].id])
    db.call("retry", [jobs[0].id, jobs[5].id])
    db.call("pause", "default")
    db.call("resume", "default")
    db.call("sleep", ["default"], "w", HOUR)
    db.call("wake", "w")
    db.call("stats")
    db.call("maintain")
    db.call("redrive")
    db.call("purge", "default")
    db.call("cancel_ref", "r")
    db.one("select count(*) from pgqueue.all_jobs")
    db.conn.execute("reset role")
    db.travel(days=20)
    db.conn.execute("begin")
    role = db.one(
        "select grantee from information_schema.role_table_grants where table_name = 'job' and grantee like 'pgqueue_test_%' limit 1"
    )
    db.conn.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
    db.call("maintain")
    db.conn.execute("commit")
    assert db.one("select count(*) from pgqueue._bounds('done')") == 4
    db.conn.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
    for statement in (
        "drop table pgqueue.archive_done_default", "select setval('pgqueue.job_id_seq', 1)", "truncate pgqueue.job",
        "update pgqueue.setting set retention = '0'", "select pgqueue.grant_access('postgres', 'worker')",
        "create table pgqueue.x ()",
    ):  # fmt: skip
        with pytest.raises(errors.InsufficientPrivilege):
            db.rows(statement)


def test_viewer_reads(db: Db, as_role: Callable[[str], None]) -> None:
    """And cannot even enqueue."""
    db.enqueue()
    as_role("viewer")
    assert db.call("stats")[0].ready == 1
    assert db.one("select count(*) from pgqueue.all_jobs") == 1
    for statement in (
        "select pgqueue.enqueue('k')",
        "select * from pgqueue.claim()",
        "delete from pgqueue.job",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            db.rows(statement)


def test_access_is_enough_where_public_may_run_nothing(db: Db, role: str) -> None:
    """As in databases whose default privileges were revoked."""
    db.rows("alter default privileges revoke execute on functions from public")
    db.conn.execute(migrate.script("Guarded"))
    for access, query in (
        ("producer", "select \"Guarded\".enqueue('k', dedupe_key => 'x')"),
        ("viewer", 'select * from "Guarded".stats()'),
        ("worker", 'select * from "Guarded".claim(), "Guarded".maintain()'),
    ):
        db.rows("""select "Guarded".grant_access(%s, %s)""", role, access)
        db.conn.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
        assert len(db.rows(query)) == 1
        with pytest.raises(errors.InsufficientPrivilege):
            db.rows("""select "Guarded".grant_access('postgres', 'worker')""")
        if access != "worker":
            with pytest.raises(errors.InsufficientPrivilege):
                db.rows("""select "Guarded"._partitions()""")
        db.conn.execute("reset role")
    db.rows("alter default privileges grant execute on functions to public")


@pytest.mark.parametrize("access", [None, "admin", ""])
def test_unknown_access_is_refused(db: Db, role: str, access: str | None) -> None:
    """With the three that there are."""
    with pytest.raises(Exception, match="use producer, worker or viewer"):
        db.call("grant_access", role, access)


def test_objects_of_the_caller_do_not_get_in_between(
    db: Db, as_role: Callable[[str], None]
) -> None:
    """Temporary tables, operators and functions that fit better than the system's own."""
    db.rows("create schema evil; grant all on schema evil to public")
    as_role("worker")
    trap = "language plpgsql as $$ begin raise exception 'hijacked'; end $$"
    for left, right in (
        ("smallint", "integer"),
        ("bigint", "integer"),
        ("text", "text"),
        ("interval", "interval"),
        ("bigint", "bigint"),
        ("timestamptz", "timestamptz"),
    ):
        name = f"evil.trap_{left}_{right}"
        db.rows(f"create function {name}({left}, {right}) returns boolean {trap}")
        for operator in ("=", "<", ">", "<=", ">=", "+", "%"):
            db.rows(
                f"create operator evil.{operator} (leftarg = {left}, rightarg = {right}, function = {name})"
            )
    for function in (
        "clock_timestamp()",
        "random()",
        "nextval(text)",
        "left(text, integer)",
        "pg_notify(text, text)",
    ):
        db.rows(f"create function evil.{function} returns text {trap}")
    for table in (
        "job",
        "archive",
        "lane",
        "setting",
        "sleeper",
        "queue",
        "pg_class",
        "pg_inherits",
    ):
        db.rows(f"create temporary table {table} (id text)")
    db.rows("set search_path = evil, pg_temp, pg_catalog")
    db.conn.execute("select pgqueue.enqueue('k', dedupe_key => 'x', delay => '0')")
    db.conn.execute('select pgqueue.enqueue_many(\'[{"kind": "k", "delay": 5}]\')')
    db.conn.execute("select pgqueue.enqueue('k')")
    job, other = db.rows("select id, token from pgqueue.claim(count => 2)")
    db.conn.execute("select pgqueue.ack(%s::bigint[], %s::bigint[])", ([job.id], [job.token]))
    db.conn.execute("select pgqueue.fail(%s::bigint[], %s::bigint[])", ([other.id], [other.token]))
    db.conn.execute("select pgqueue.cancel(%s::bigint[])", ([other.id],))
    db.conn.execute("select pgqueue.retry(%s::bigint[])", ([other.id],))
    db.conn.execute("select pgqueue.maintain()")
    db.conn.execute("select pgqueue._partitions()")
    db.conn.execute(
        "select pgqueue.reap(), pgqueue.promote(), pgqueue.purge('default'), pgqueue._fold_lanes()"
    )
    db.conn.execute("reset search_path")
    assert db.one("select count(*) from pgqueue.all_jobs") == 1


def test_public_may_not_run_what_is_the_owners(db: Db) -> None:
    """Whoever may use the schema may not rotate partitions or grant."""
    for function in ("_partitions()", "grant_access(name, text)"):
        assert not db.one(
            "select has_function_privilege('public', %s, 'execute')", f"pgqueue.{function}"
        )


@pytest.mark.parametrize("setting", [{"session_replication_role": "replica"}, {"row_security": "off"}, {"default_transaction_isolation": "read committed"}, {"timezone": "Asia/Kathmandu"}, {"intervalstyle": "iso_8601"}, {"bytea_output": "escape"}, {"standard_conforming_strings": "off"}, {"check_function_bodies": "off"}, {"transform_null_equals": "on"}, {"extra_float_digits": "-5"}, {"plan_cache_mode": "force_custom_plan"}, {"enable_indexscan": "off"}])  # fmt: skip
def test_life_of_a_job_under_other_settings(
    connect: Callable[..., Db], setting: dict[str, str]
) -> None:
    """Of the session that calls."""
    db = connect(**setting)
    db.enqueue(dedupe_key="x", dedupe_until="start", delay=timedelta(minutes=1))
    db.travel(minutes=2)
    db.call("maintain")
    job = db.claim_one()
    db.end("fail", job, delays=[timedelta(minutes=1)])
    db.travel(minutes=2)
    db.call("maintain")
    again = db.claim_one()
    assert (
        db.call("enqueue_many", Jsonb([{"kind": "k", "dedupe_key": "x", "dedupe_until": "start"}]))[
            0
        ][2]
        is False
    )
    db.expire(again.id)
    db.call("reap")
    assert db.state(again.id) == "skipped"
    assert db.end("ack", db.claim_one()) == []
    assert db.call("retry", [again.id]) == [(again.id,)]
