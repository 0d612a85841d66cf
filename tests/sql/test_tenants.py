"""Row security: what a tenant sees and does, and what it cannot learn or break."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import make_conninfo
from psycopg.types.json import Jsonb

from pgqueue import Client, Handlers, InvalidJob, NewJob, PermissionDenied, Worker, migrate
from pgqueue.migrate import SchemaState, latest_version

from .roles import TENANTS, Roles, made

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgqueue.testing.databases import Databases

    from .conftest import Db

SECRET = "canary-77ab"  # noqa: S105 - in a payload
SCRIPT = migrate.script("pgqueue", after=SchemaState("pgqueue", latest_version(), "another's"))

LATER = (
    "create or replace function pgqueue.clock() returns timestamptz language sql "
    "return pg_catalog.clock_timestamp() + interval '10 days'"
)


@pytest.fixture(scope="module")
def made_roles(_pgqueue_databases: Databases) -> Iterator[Roles]:
    """Two tenants of one queue, and those who serve it."""
    with made(_pgqueue_databases) as roles:
        with roles.as_owner() as db:
            assert db.call("isolate_tenants")
        for tenant in TENANTS:
            roles.grant(tenant, "tenant")
        yield roles


@pytest.fixture
def roles(made_roles: Roles) -> Roles:
    """The same, emptied."""
    with made_roles.as_owner() as db:
        for table in ("job", "archive", "lane", "queue", "sleeper", "schedule", "schedule_run"):
            db.rows(f"delete from pgqueue.{table}")
        for tenant in TENANTS:
            db.call("bind_tenant", made_roles.names[tenant], None)
    return made_roles


@pytest.fixture
def acme(roles: Roles) -> Iterator[Db]:
    """A session of one tenant."""
    with roles.as_("acme", pgqueue__tenant="acme") as db:
        yield db


@pytest.fixture
def globex(roles: Roles) -> Iterator[Db]:
    """A session of the other."""
    with roles.as_("globex", pgqueue__tenant="globex") as db:
        yield db


@pytest.fixture
def worker(roles: Roles) -> Iterator[Db]:
    """A session of the worker: NOBYPASSRLS, as all of them."""
    with roles.as_("worker") as db:
        assert not db.one(
            "select rolbypassrls or rolsuper from pg_roles where rolname = current_user"
        )
        yield db


def _ids(db: Db) -> list[int]:
    return [row.id for row in db.rows("select id from pgqueue.all_jobs order by id")]


def _finish_one_of_each(acme: Db, globex: Db, worker: Db) -> tuple[list[int], list[int]]:
    """A waiting, a running, a succeeded and a dead job of either tenant."""
    for db in (acme, globex):
        for kind in ("succeeds", "dies", "runs", "waits"):
            db.enqueue(kind, payload=Jsonb({"x": SECRET}), max_attempts=1, ref="r", tags=["t"])
    for job in worker.claim(4, kinds=["succeeds", "dies"]):
        worker.end("ack" if job.kind == "succeeds" else "fail", job)
    worker.claim(2, kinds=["runs"])
    found = {
        tenant: [
            row.id
            for row in worker.rows(
                "select id from pgqueue.all_jobs where tenant = %s order by id", tenant
            )
        ]
        for tenant in TENANTS
    }
    return found["acme"], found["globex"]


def test_tenant_sees_its_own_jobs_alone(acme: Db, globex: Db, worker: Db) -> None:
    """In the table, the archive, the view and the counts."""
    mine, others = _finish_one_of_each(acme, globex, worker)
    assert len(mine) == len(others) == 4
    assert (_ids(acme), _ids(globex)) == (mine, others)
    assert len(_ids(worker)) == 8
    for table, count in (("job", 2), ("archive", 2), ("all_jobs", 4)):
        assert acme.one(f"select count(*) from pgqueue.{table}") == count
        assert acme.rows(f"select 1 from pgqueue.{table} where tenant <> 'acme'") == []
    (stats,) = acme.call("stats")
    assert (stats.ready, stats.claimed, stats.dead) == (1, 1, 1)
    (stats,) = worker.call("stats")
    assert (stats.ready, stats.claimed, stats.dead) == (2, 2, 2)


def test_tenant_ends_its_own_jobs_alone(acme: Db, globex: Db, worker: Db) -> None:
    """Whatever ids it names."""
    mine, others = _finish_one_of_each(acme, globex, worker)
    before = worker.rows("select * from pgqueue.all_jobs where tenant = 'globex' order by id")
    everything = mine + others
    assert acme.call("retry", others) == []
    assert sorted(row[0] for row in acme.call("cancel", everything)) == mine[2:]
    assert sorted(row[0] for row in acme.call("retry", everything)) == sorted(set(mine) - {mine[2]})
    assert acme.value("cancel_ref", "r") == 4
    acme.enqueue("waits")
    assert acme.value("purge", "default") == 1
    assert acme.value("redrive") == 0  # the dead one is another's
    for statement in (
        "delete from pgqueue.job",
        "update pgqueue.job set payload = '1'",
        "delete from pgqueue.archive",
    ):
        acme.rows(statement)
    assert (
        worker.rows("select * from pgqueue.all_jobs where tenant = 'globex' order by id") == before
    )


def test_keys_of_tenants_do_not_meet(acme: Db, globex: Db) -> None:
    """Neither may find out what the other holds, nor shut it out."""
    for conflict in ("raise", "return", "replace"):
        for db in (acme, globex):
            (result,) = db.call("enqueue", f"k.{conflict}", dedupe_key="same", on_conflict=conflict)
            assert not result.duplicate
            many = db.call(
                "enqueue_many",
                Jsonb([{"kind": f"k.{conflict}", "dedupe_key": "many", "on_conflict": conflict}]),
            )
            assert not many[0].duplicate
    (again,) = acme.call("enqueue", "k.return", dedupe_key="same")
    assert again.duplicate
    assert again.id in _ids(acme)


@pytest.mark.parametrize("tenant, kind, key", [("globex", "k", "x"), (None, "k", "x")])
def test_nobody_takes_the_key_of_another(
    acme: Db, globex: Db, tenant: str | None, kind: str, key: str
) -> None:
    """A hash that is not that of the row's own key is refused, or its owner would wait for it for ever."""
    with pytest.raises(errors.InsufficientPrivilege, match="row-level security"):
        acme.rows(
            "insert into pgqueue.job (kind, queue, payload, max_attempts, dedupe_key, dedupe_hash) "
            "values ('k', 'default', '{}', 1, 'x', pgqueue._dedupe_hash(%s, %s, %s))", tenant, kind, key,
        )  # fmt: skip
    assert globex.call("enqueue", kind, dedupe_key=key)[0].duplicate is False


@pytest.mark.parametrize(
    "one, other",
    [((None, "a", "b"), ("a", "b", "b")), ((None, "k", "x"), ("k", "x", "")), (("t", "k", "x"), (None, "t", "k\x1fx")),
     (("t", "k", "x"), (None, "k", "t\x1ex")), (("a", "b", "c\x1fd"), ("a", "b", "c"))],
)  # fmt: skip
def test_no_key_can_be_written_like_that_of_another(
    db: Db, one: tuple[Any, ...], other: tuple[Any, ...]
) -> None:
    """Separators cannot stand in tenants and kinds."""
    first, second = (db.value("_dedupe_hash", *map(_text, parts)) for parts in (one, other))
    assert first != second


def _text(value: str | None) -> Any:
    return value


@pytest.mark.parametrize("statement", [
    "insert into pgqueue.job (kind, queue, payload, max_attempts, tenant) values ('k', 'q', '{}', 1, 'globex')",
    "insert into pgqueue.job (kind, queue, payload, max_attempts, tenant) values ('k', 'q', '{}', 1, null)",
    "insert into pgqueue.archive select (jsonb_populate_record(a, '{\"tenant\": \"globex\"}')).* from pgqueue.archive a",
    "update pgqueue.archive set tenant = 'globex'",
    "select pgqueue.claim()",
    "set row_security = off; select * from pgqueue.job",
    "set session authorization postgres",
    "set role postgres",
])  # fmt: skip
def test_tenant_gives_nothing_away_and_gets_around_nothing(
    acme: Db, worker: Db, statement: str
) -> None:
    """Whatever it writes is its own; what would not be is refused."""
    acme.enqueue("k", max_attempts=1)
    worker.end("fail", worker.claim_one())
    with pytest.raises(errors.InsufficientPrivilege):
        acme.rows(statement)


def test_session_without_a_tenant_has_no_jobs(roles: Roles, acme: Db) -> None:
    """Closed by default: it sees nothing and enqueues nothing; the message says what to set."""
    acme.enqueue()
    for options in ({}, {"pgqueue__tenant": ""}):
        with Client(roles.login("acme", **options)) as client:
            assert client.list() == []
            with pytest.raises(PermissionDenied, match=r"set pgqueue\.tenant"):
                client.enqueue("k")
            with pytest.raises(PermissionDenied, match=r"set pgqueue\.tenant"):
                client.enqueue_many([("k", {})] * 300)


@pytest.mark.parametrize("name", ["a b", "x" * 129, "a'b", "ä"])
def test_tenant_has_a_name_as_a_queue_has(roles: Roles, name: str) -> None:
    """Others are refused, as a queue's would be."""
    with Client(roles.login("acme")) as client, client.driver.transaction() as conn:
        conn.execute("select set_config('pgqueue.tenant', %s, true)", (name,))
        with pytest.raises(InvalidJob, match="tenant"):
            client.enqueue("k", conn=conn)


def test_bound_role_stays_with_its_tenant(roles: Roles) -> None:
    """Whatever its sessions set; until it is let go."""
    with roles.as_owner() as owner, roles.as_("globex", pgqueue__tenant="globex") as globex:
        globex.enqueue()
        owner.call("bind_tenant", roles.names["acme"], "acme")
        owner.call("bind_tenant", roles.names["acme"], "acme")
        with roles.as_("acme", pgqueue__tenant="globex") as thief:
            assert _ids(thief) == []
            with pytest.raises(errors.InsufficientPrivilege):
                thief.enqueue()
            thief.rows("set pgqueue.tenant = 'acme'")
            mine = thief.enqueue()
            assert _ids(thief) == [mine]
            assert thief.call("cancel", _ids(globex)) == []
        with pytest.raises(psycopg.Error, match="there is no role"):
            owner.call("bind_tenant", "pgqueue_test_none", "x")
        owner.call("bind_tenant", roles.names["acme"], None)
        with roles.as_("acme", pgqueue__tenant="globex") as trusted:
            assert _ids(trusted) == _ids(globex)


def test_bulk_and_single_enqueues_belong_to_the_session(roles: Roles) -> None:
    """By COPY, by the functions, with keys and without; and in a transaction of the caller's."""
    with Client(roles.login("acme", pgqueue__tenant="acme")) as client:
        client.enqueue_many([("k", {})] * 300)
        client.enqueue_many(
            [("k", {}), NewJob("k", dedupe_key="x"), NewJob("k", delay=timedelta(1))]
        )
        client.enqueue("k")
        client.enqueue("k", dedupe_key="y")
        client.enqueue("k", dedupe_key="y", on_conflict="replace", delay=timedelta(1))
        jobs = client.list(limit=1000)
        assert len(jobs) == 305
        assert {job.tenant for job in jobs} == {"acme"}
        assert client.get(jobs[0].id).tenant == "acme"
    with Client(roles.login("globex")) as client:
        with client.driver.transaction() as conn:
            conn.execute("select set_config('pgqueue.tenant', 'globex', true)")
            client.enqueue("k", conn=conn)
            assert len(client.list(conn=conn)) == 1
        assert client.list() == []  # the setting ended with the transaction


def test_workers_run_the_jobs_of_all(roles: Roles, acme: Db, globex: Db) -> None:
    """Of a role without BYPASSRLS; maintenance and partitions included."""
    for db in (acme, globex):
        for number in range(20):
            db.enqueue("k", payload=Jsonb({"n": number}))
        db.enqueue("late", delay=timedelta(seconds=-0.0))
    handlers = Handlers()
    seen: list[int] = []
    lock = threading.Lock()

    @handlers.register("k")
    def run(job: Any) -> None:
        with lock:
            seen.append(job.id)

    @handlers.register("late")
    def late(job: Any) -> None:
        run.function(job)

    assert Worker(roles.login("worker"), handlers).run(until_idle=True) == 0
    assert sorted(seen) == sorted(_ids(acme) + _ids(globex))
    assert acme.one("select count(*) from pgqueue.archive where state = 'succeeded'") == 21


def test_access_given_later_counts(roles: Roles, acme: Db) -> None:
    """A worker or viewer of tomorrow, and one that was sent away."""
    acme.enqueue()
    with roles.as_("nobody") as db, roles.as_owner() as owner:
        roles.grant("nobody", "viewer")
        assert len(_ids(db)) == 1
        owner.rows(f"revoke select on all tables in schema pgqueue from {roles.names['nobody']}")
        roles.grant("nobody", "tenant")
        assert _ids(db) == []
        owner.rows(f"revoke all on all tables in schema pgqueue from {roles.names['nobody']}")


@pytest.mark.parametrize("access", ["tenant", "tenant_viewer"])
def test_tenants_cannot_be_granted_before_they_are_isolated(db: Db, access: str) -> None:
    """Or the first of them would see all jobs."""
    with pytest.raises(psycopg.Error, match=r"call isolate_tenants\(\) first"):
        db.call("grant_access", "public", access)


def test_viewer_of_a_tenant_reads_what_is_the_tenants_and_writes_nothing(
    roles: Roles, acme: Db, globex: Db, worker: Db
) -> None:
    """Jobs, finished or not, schedules and their slots; and without a tenant none."""
    roles.grant("reader", "tenant_viewer")
    mine, _ = _finish_one_of_each(acme, globex, worker)
    for db in (acme, globex):
        db.call("schedule", "s", "k", every="1 h")
        db.value("run_schedule", "s")
    mine += acme.rows("select job_id from pgqueue.schedule_run")[0]
    with roles.as_("reader", pgqueue__tenant="acme") as db:
        assert _ids(db) == mine
        (stats,) = db.call("stats")
        assert (stats.ready, stats.claimed, stats.dead) == (2, 1, 1)
        for table in ("schedule", "schedule_run"):
            assert db.rows(f"select tenant from pgqueue.{table}") == [("acme",)]
        assert len(db.call("next_slots", "s", 3)) == 3
        for statement in (
            "select pgqueue.enqueue('k')",
            "select pgqueue.cancel_ref('r')",
            "select pgqueue.unschedule('s')",
            "delete from pgqueue.job",
            "update pgqueue.schedule set enabled = false",
            "insert into pgqueue.job (kind, queue, payload, max_attempts) values ('k', 'q', '1', 1)",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                db.rows(statement)
    with roles.as_("reader") as db:
        assert _ids(db) == []


def test_upgrade_keeps_tenants_apart(roles: Roles, acme: Db, globex: Db) -> None:
    """The view is replaced by it, and a replaced view forgets that it reads as its caller."""
    globex.enqueue()
    mine = acme.enqueue()
    with roles.as_owner() as owner:
        owner.conn.execute(SCRIPT)
    assert _ids(acme) == [mine]


def test_partitions_made_later_are_closed_too(roles: Roles, acme: Db) -> None:
    """By the name of a partition nobody reads past the policies, not even with a grant of it."""
    with roles.as_owner() as owner:
        before = owner.one("select count(*) from pgqueue._bounds('done')")
        owner.rows(LATER)
        owner.call("_partitions")
        assert owner.one("select count(*) from pgqueue._bounds('done')") > before
        unprotected = owner.rows(
            "select t.relid::regclass from pg_partition_tree('pgqueue.archive') t "
            "join pg_class c on c.oid = t.relid where not c.relrowsecurity"
        )
        assert unprotected == []
        owner.conn.execute(SCRIPT)  # the clock, too
    with pytest.raises(errors.InsufficientPrivilege):
        acme.rows("select * from pgqueue.archive_dead")


def test_isolation_costs_workers_no_plan(acme: Db, worker: Db) -> None:
    """Claims and ends go by index under policies, too."""
    acme.rows("select pgqueue.enqueue('k') from generate_series(1, 3000)")
    with worker.transaction():
        scans = (
            "select coalesce(sum(seq_scan), 0) from pg_stat_xact_user_tables where relname = 'job'"
        )
        before = worker.one(scans)
        jobs = worker.claim(100)
        worker.end("ack", *jobs[:50])
        worker.end("fail", *jobs[50:])
        worker.call("reap", 10, False)
        worker.call("promote", 10, False)
        assert worker.one(scans) == before
    with acme.transaction():
        before = acme.one(scans)
        acme.enqueue(dedupe_key="x")
        acme.call("cancel", [jobs[0].id])
        assert acme.one(scans) == before


@pytest.mark.direct("settings belong to a session")
def test_without_isolation_the_setting_is_a_label(pgqueue_dsn: str) -> None:
    """Nothing is hidden, and nothing refused."""
    with Client(make_conninfo(pgqueue_dsn, options="-c pgqueue.tenant=acme")) as client:
        job = client.enqueue("k").id
    with Client(pgqueue_dsn) as client:
        (claimed,) = client.claim()
        assert claimed.id == job
        client.ack(claimed)
        with client.driver.connection() as conn:
            assert conn.execute("select tenant from pgqueue.all_jobs").fetchall() == [("acme",)]


def test_schedules_of_a_tenant_are_its_own(acme: Db, globex: Db, worker: Db) -> None:
    """One name for each; nobody sees, changes, runs or removes another's, and its jobs are its own."""
    for db, every in ((acme, "1 h"), (globex, "2 h")):
        assert (
            db.call("schedule", "sync", "k", Jsonb({"x": SECRET}), every=every)[0].outcome
            == "added"
        )
        assert db.one("select tenant from pgqueue.schedule") == db.one(
            "select current_setting('pgqueue.tenant')"
        )
    assert acme.rows("select every from pgqueue.schedule") == [(timedelta(hours=1),)]
    assert globex.rows("update pgqueue.schedule set enabled = false returning name") == [("sync",)]
    globex.rows("update pgqueue.schedule set enabled = true")
    acme.value("run_schedule", "sync")
    globex.rows("delete from pgqueue.schedule where name <> 'sync'")
    worker.rows("update pgqueue.schedule set next_run_at = pgqueue.clock() - interval '1 s'")
    assert worker.value("tick") == 2
    assert worker.one("select current_setting('pgqueue.tenant', true)") in (None, "")
    rows = worker.rows("select tenant, count(*) n from pgqueue.job group by 1 order by 1")
    assert rows == [("acme", 2), ("globex", 1)]
    assert acme.rows("select outcome from pgqueue.schedule_run order by 1") == [
        ("enqueued",),
        ("manual",),
    ]
    assert globex.rows("select outcome from pgqueue.schedule_run") == [("enqueued",)]
    assert not worker.value("unschedule", "sync")
    assert globex.value("unschedule", "sync")
    assert acme.one("select count(*) from pgqueue.schedule") == 1


def test_tenant_cannot_harm_another_by_its_schedules(acme: Db, globex: Db, worker: Db) -> None:
    """By a slot in another's history, or another's job as that of its own earlier slot."""
    for db in (acme, globex):
        db.call("schedule", "sync", "k", every="1 h", overlap="replace")
    victim = acme.enqueue("k")
    globex.rows("update pgqueue.schedule set last_job_id = %s", victim)
    worker.rows("update pgqueue.schedule set next_run_at = date_trunc('second', pgqueue.clock())")
    theirs = worker.rows("select id, next_run_at from pgqueue.schedule where tenant = 'acme'")[0]
    with pytest.raises(errors.InsufficientPrivilege, match="row-level security"):
        globex.rows(
            "insert into pgqueue.schedule_run (schedule_id, slot, fired_at, outcome, tenant) "
            "values (%s, %s, now(), 'enqueued', 'globex')", theirs.id, theirs.next_run_at,
        )  # fmt: skip
    assert worker.value("tick") == 2
    assert acme.state(victim) == "ready"


def test_tenant_that_a_role_is_bound_to_binds_its_schedules(roles: Roles, globex: Db) -> None:
    """Whatever its session sets."""
    globex.call("schedule", "sync", "k", every="1 h")
    with roles.as_owner() as db:
        db.call("bind_tenant", roles.names["acme"], "acme")
    with roles.as_("acme", pgqueue__tenant="globex") as db:
        assert db.rows("select * from pgqueue.schedule") == []
        with pytest.raises(errors.InsufficientPrivilege, match="row-level security"):
            db.call("schedule", "mine", "k", every="1 h")


def test_tick_leaves_the_session_its_tenant(acme: Db, worker: Db) -> None:
    """Within its transaction, and after it."""
    acme.call("schedule", "sync", "k", every="1 h")
    worker.rows("update pgqueue.schedule set next_run_at = pgqueue.clock() - interval '1 s'")
    worker.rows("select set_config('pgqueue.tenant', 'globex', false)")
    with worker.transaction():
        assert worker.value("tick") == 1
        assert worker.one("select current_setting('pgqueue.tenant')") == "globex"
    assert worker.one("select current_setting('pgqueue.tenant')") == "globex"
