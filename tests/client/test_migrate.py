"""Install and upgrade the schema, and notice when it is not what this version needs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import pgqueue
from pgqueue import Client, SchemaMissing, SchemaOutdated, migrate
from pgqueue.errors import PermissionDenied

Make = Callable[..., Client]
Sql = Callable[..., list[tuple[Any, ...]]]


def use(client: Client) -> None:
    """Does a bit of everything."""
    client.enqueue("a", dedupe_key="k")
    client.enqueue_many([("b", n) for n in range(300)], queue="b")
    client.ack(client.claim(["default", "b"], limit=400))
    client.maintain()
    assert len(client.list(limit=400)) == 301
    assert {row.ready for row in client.stats()} == {0}


NAMES = ["other", "My-Schema", "schöma", "select", "1", "日本語", "a.b", "x" * 63, "ä" * 31]


@pytest.mark.parametrize("name", NAMES)
def test_any_schema_name_works(make_client: Make, name: str) -> None:
    """Upper case, Unicode, words of SQL, dots, and as long as Postgres allows."""
    client = make_client(schema=name)
    assert client.schema == name
    assert client.schema_state().version == 0
    client.migrate()
    client.schema_state().check()
    use(client)


@pytest.mark.parametrize(
    "name",
    ["", "a b", 'a"b', "a'b", "a$b", "a%b", "a{b", "a\\b", "pg_x", "x" * 64, "a\0", "\ud800"],
)
def test_schema_name_that_cannot_be_is_refused(make_client: Make, name: str) -> None:
    """When the client is made."""
    with pytest.raises(pgqueue.ConfigurationError, match="cannot be pgqueue's schema"):
        make_client(schema=name)


def test_schemas_of_one_database_share_nothing(make_client: Make) -> None:
    """Each has its own jobs, ids and keys; names that differ in case only are different."""
    clients = [make_client(schema=name) for name in ("one", "One", "two")]
    for client in clients:
        client.migrate()
    for n, client in enumerate(clients):
        assert client.enqueue("a", n, dedupe_key="k").id == 1
        client.pause("default")
    clients[0].resume("default")
    (job,) = clients[0].claim()
    with pytest.raises(pgqueue.LeaseLost):
        clients[1].ack(job)
    assert clients[1].claim() == []
    clients[0].ack(job)


def test_missing_schema_is_told(make_client: Make) -> None:
    """By every operation; the message says what to run."""
    client = make_client(schema="missing")
    with pytest.raises(SchemaMissing, match=r"run client\.migrate") as caught:
        client.enqueue("a")
    assert caught.value.schema == "missing"
    for operation in (
        client.claim,
        client.stats,
        client.list,
        client.maintain,
        lambda: client.enqueue_many([("a", {})]),
        lambda: client.enqueue_many([("a", {})] * 300),
        lambda: client.get(1),
        client.schema_state().check,
    ):
        with pytest.raises(SchemaMissing):
            operation()


def test_schema_of_something_else_is_told(make_client: Make, sql: Sql) -> None:
    """It exists, but pgqueue is not in it; migrate installs it there."""
    sql("create schema other")
    sql("create table other.mine (n int)")
    client = make_client(schema="other")
    with pytest.raises(SchemaOutdated):
        client.enqueue("a")
    with pytest.raises(SchemaMissing):
        client.schema_state().check()
    client.migrate()
    use(client)
    sql("select from other.mine")


def test_migrate_of_the_current_version_changes_nothing(client: Client, sql: Sql) -> None:
    """Not even the time of the last change."""
    before = sql("select * from pgqueue.migration order by version")
    client.migrate()
    assert sql("select * from pgqueue.migration order by version") == before


def test_outdated_functions_are_replaced(client: Client, sql: Sql) -> None:
    """A release that changed functions alone is noticed by their checksum."""
    sql("update pgqueue.migration set checksum = 'old' where version = 0")
    sql("drop function pgqueue.pause(text, timestamptz, text)")
    client.enqueue("kept")
    with pytest.raises(SchemaOutdated, match=r"run client\.migrate"):
        client.schema_state().check()
    with pytest.raises(SchemaOutdated, match=r"pause.* does not exist"):
        client.pause("default")
    client.migrate()
    client.schema_state().check()
    client.pause("default")
    assert [job.kind for job in client.list()] == ["kept"]


@pytest.mark.parametrize(
    "change", ["insert into pgqueue.migration values (999, 'future')", "select"]
)
def test_newer_schema_serves_and_is_left_alone(client: Client, sql: Sql, change: str) -> None:
    """A worker of the version before goes on, but must not put its own functions back."""
    sql(change)
    sql("update pgqueue.migration set checksum = 'future', name = '999.0' where version = 0")
    client.schema_state().check()
    with pytest.raises(SchemaOutdated, match="upgrade the package"):
        client.migrate()
    assert sql("select checksum from pgqueue.migration where version = 0") == [("future",)]


def test_many_may_migrate_at_once(make_client: Make) -> None:
    """One does it, the others wait for it and find it done."""
    clients = [make_client(schema="shared") for _ in range(4)]
    failures: list[BaseException] = []

    def run(client: Client) -> None:
        try:
            client.migrate()
        except BaseException as error:  # noqa: BLE001 - shown below
            failures.append(error)

    threads = [threading.Thread(target=run, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    use(clients[0])


def test_failed_migration_leaves_nothing(
    make_client: Make, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is one transaction."""
    monkeypatch.setattr(migrate, "functions", lambda: "select 1 / 0;")
    client = make_client(schema="broken")
    with pytest.raises(psycopg.errors.DivisionByZero):
        client.migrate()
    assert sql("select from pg_namespace where nspname = 'broken'") == []


@pytest.fixture
def outdated(client: Client, sql: Sql) -> Client:
    """A schema whose functions are to be replaced."""
    sql("update pgqueue.migration set checksum = 'old' where version = 0")
    return client


def test_migration_waits_for_a_lock_but_not_for_long(
    outdated: Client, pgqueue_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives up, so that nobody queues behind it, and tries again; then it gives up for good."""
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT", "20ms")
    monkeypatch.setattr(migrate, "ATTEMPTS", 2)
    monkeypatch.setattr(migrate, "PAUSE", 0.02)
    with psycopg.connect(pgqueue_dsn) as conn:
        conn.execute("lock table pgqueue.setting")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            outdated.migrate()


def test_migration_goes_on_once_the_lock_is_free(
    outdated: Client, pgqueue_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its second attempt finds the tables free."""
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT", "20ms")
    monkeypatch.setattr(migrate, "PAUSE", 0.02)
    with psycopg.connect(pgqueue_dsn) as conn:
        conn.execute("lock table pgqueue.setting")
        timer = threading.Timer(0.1, conn.rollback)
        timer.start()
        outdated.migrate()
        timer.join()
    outdated.schema_state().check()


@pytest.mark.parametrize(
    "setting, value",
    [
        ("lock_timeout", "'1ms'"),
        ("idle_in_transaction_session_timeout", "'1s'"),
        ("search_path", "evil, pg_catalog, public"),
        ("check_function_bodies", "on"),
        ("default_transaction_isolation", "'serializable'"),
    ],
)
def test_migration_goes_well_under_any_default(
    make_client: Make, pgqueue_dsn: str, sql: Sql, setting: str, value: str
) -> None:
    """Neither hurried nor led astray, not even by functions that stand before the system's own."""
    sql("create schema evil")
    for signature in ("clock_timestamp()", "nextval(regclass)", "to_timestamp(double precision)"):
        sql(f"create function evil.{signature} returns timestamptz return null::timestamptz")
    sql("create table evil.job (n int)")
    sql("create table evil.migration (n int)")
    name = conninfo_to_dict(pgqueue_dsn)["dbname"]
    sql(f"alter database {name} set {setting} to {value}")
    make_client(schema="fresh").migrate()
    sql(f"alter database {name} reset {setting}")
    client = make_client(schema="fresh")
    assert client.enqueue("a").id == 1
    (job,) = client.claim()
    client.ack(job)
    assert client.get(job.id).finished_at is not None


def test_migration_waits_for_another_whatever_the_statement_timeout(
    make_client: Make, pgqueue_dsn: str, sql: Sql
) -> None:
    """As long as that takes."""
    name = conninfo_to_dict(pgqueue_dsn)["dbname"]
    with psycopg.connect(pgqueue_dsn, autocommit=True) as other:
        lock = "select pg_advisory_lock(hashtextextended('pgqueue migrate fresh', 0))"
        other.execute(lock.encode())
        sql(f"alter database {name} set statement_timeout to '400ms'")
        timer = threading.Timer(1.0, other.close)
        timer.start()
        make_client(schema="fresh").migrate()
        timer.join()
    assert sql("select count(*) from fresh.job") == [(0,)]


def test_script_gives_the_search_path_back(pgqueue_dsn: str) -> None:
    """To the rest of the transaction in which somebody's own migrations run it."""
    with psycopg.connect(pgqueue_dsn) as conn:
        conn.execute("set search_path = mine, public")
        conn.execute(migrate.script("fresh").encode())
        assert conn.execute("show search_path").fetchone() == ("mine, public",)


@pytest.fixture
def stranger(pgqueue_dsn: str, sql: Sql) -> Iterator[str]:
    """The DSN of a role without any rights, gone afterwards."""
    name = f"stranger_{conninfo_to_dict(pgqueue_dsn)['dbname']}"
    sql(f"create role {name} login")
    yield make_conninfo(pgqueue_dsn, user=name)
    sql(f"drop owned by {name}")
    sql(f"drop role {name}")


@pytest.mark.direct("its users are not in the pooler's configuration")
def test_migration_without_the_right_to_do_so_is_refused(make_client: Make, stranger: str) -> None:
    """It takes a role that may create in the database."""
    with pytest.raises(PermissionDenied, match="permission denied for database"):
        make_client(stranger, schema="mine").migrate()
