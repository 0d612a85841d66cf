"""Installing, applying again, and doing so under load."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgqueue import Client, migrate
from pgqueue.migrate import SchemaState, latest_version, render

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Db

FUNCTIONS_ONLY = SchemaState("pgqueue", latest_version(), "another version's")


def test_functions_apply_again_while_workers_run(
    connect: Callable[..., Db], pgqueue_dsn: str, together: Callable[..., list[Any]]
) -> None:
    """No call fails, and none is done twice."""
    db, migrating = connect(), connect()
    db.fill(3000)
    done = threading.Event()

    def work(worker: Db) -> int:
        count = 0
        while not done.is_set():
            jobs = worker.claim(5)
            count += len(jobs)
            assert worker.end("ack", *jobs) == []
            worker.enqueue(dedupe_key="x")
            worker.call("maintain")
        return count

    def reapply() -> int:
        try:
            for _ in range(8):
                with migrating.conn.transaction():
                    migrating.conn.execute(migrate.script("pgqueue", after=FUNCTIONS_ONLY))
        finally:
            done.set()
        return 0

    claimed = sum(together(reapply, lambda: work(connect()), lambda: work(connect())))
    assert claimed > 0
    assert db.one("select count(*) from pgqueue.archive where state = 'succeeded'") == claimed
    with Client(pgqueue_dsn) as client:
        assert client.schema_state().current


def test_two_migrates_at_once_install_once(
    connect: Callable[..., Db], pgqueue_dsn: str, together: Callable[..., list[Any]]
) -> None:
    """And a third one, later, changes nothing."""
    db = connect()

    def install() -> None:
        with Client(pgqueue_dsn, schema="twice") as client:
            client.migrate()

    together(install, install, install)
    applied = db.rows("select version, applied_at from twice.migration order by version")
    assert [row.version for row in applied] == list(range(latest_version() + 1))
    install()
    assert db.rows("select version, applied_at from twice.migration order by version") == applied


@pytest.mark.direct("LISTEN belongs to a session")
@pytest.mark.parametrize("schema", ["My-Schema", "ünï.cödé", "select", "x" * 63])
def test_schema_may_have_any_name(
    connect: Callable[..., Db], pgqueue_dsn: str, schema: str
) -> None:
    """Its jobs, partitions and notifications are its own."""
    with Client(pgqueue_dsn, schema=schema) as client:
        client.migrate()
        db = connect()
        db.conn.execute(render("listen @extschema@", schema))
        db.conn.execute(render("select @extschema@.sleep('{q}', 'w', '1 minute')", schema))
        client.enqueue("k", queue="q", dedupe_key="x")
        assert [notice.payload for notice in db.conn.notifies(timeout=0.05)] == ["q w"]
        (job,) = client.claim("q")
        client.ack(job)
        client.maintain()
        db.conn.execute(render("select @extschema@._partitions()", schema))
        assert client.get(job.id).state == "succeeded"
    assert db.one("select count(*) from pgqueue.all_jobs") == 0


@pytest.mark.direct("SET ROLE belongs to a session")
def test_owner_of_the_schema_needs_no_right_to_create_schemas(db: Db, pgqueue_dsn: str) -> None:
    """Where an administrator made it."""
    name = db.one("select 'pgqueue_test_' || left(md5(random()::text), 12)")
    db.conn.execute(f"create role {name}; create schema theirs authorization {name}")
    try:
        with closing(psycopg.connect(pgqueue_dsn, autocommit=True)) as conn:
            conn.execute(f"set role {name}")
            conn.execute(migrate.script("theirs"))
            conn.execute("select theirs.enqueue('k'), theirs.maintain()")
    finally:
        db.conn.execute(f"drop owned by {name}; drop role {name}")


def test_one_function_can_be_replaced_alone(db: Db) -> None:
    """As the time travel of pgqueue.testing does with the clock."""
    before = db.one("select count(*) from pg_proc where pronamespace = 'pgqueue'::regnamespace")
    for _ in range(2):
        db.conn.execute(migrate.script("pgqueue", after=FUNCTIONS_ONLY))
    assert (
        db.one("select count(*) from pg_proc where pronamespace = 'pgqueue'::regnamespace")
        == before
    )
    db.enqueue()
    assert len(db.claim()) == 1
