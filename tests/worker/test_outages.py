"""Databases that go away, come back, or are not there."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
import pytest

from pgqueue import Client, Constant, DatabaseUnavailable, Handlers, Job, Worker, embedded
from pgqueue.worker import claims

from .helpers import SECOND, Background, Database, Log, drain, state, until, working


def test_no_database_at_the_start_is_told(handlers: Handlers) -> None:
    """At once, by its own name."""
    handlers.register("a")(lambda _: None)
    with pytest.raises(DatabaseUnavailable):
        Worker("host=/nonexistent dbname=x", handlers).run()


def test_all_sessions_cut_again_and_again_lose_nothing(
    client: Client, handlers: Handlers, database: Database
) -> None:
    """Under load: every job ends well, and none more than a few times."""
    log = Log(handlers)
    handlers.register("a")(lambda job: job.payload)

    @handlers.register("b")
    async def on_loop(_: Job[Any]) -> None:
        """Ends at once."""

    soon = Constant(timedelta(milliseconds=10))
    jobs = [client.enqueue(kind, n, retry=soon).id for n in range(100) for kind in "ab"]
    client.close()
    with working(client.dsn, handlers, lease=SECOND, poll_interval=timedelta(seconds=0.2)):

        def at_least(count: int) -> bool:
            return len(log.events) >= count

        for n in range(6):
            until(partial(at_least, n * 25))
            database.cut_connections()
        until(lambda: not database.query("select 1 from job"))
    rows = database.query("select state, attempt from archive")
    assert len(rows) == len(jobs)
    assert {row[0] for row in rows} == {"succeeded"}


@pytest.mark.direct("the sessions, and their settings, are the pooler's")
def test_idle_worker_survives_cut_sessions(
    client: Client, handlers: Handlers, database: Database
) -> None:
    """While it sleeps at the doorbell."""
    ran = threading.Event()
    handlers.register("a")(lambda _: ran.set())
    client.close()
    with working(client.dsn, handlers, poll_interval=timedelta(seconds=0.3)):
        for _ in range(3):
            until(lambda: database.query("select 1 from sleeper"))
            database.cut_connections()
            database.query("delete from sleeper")
        client.enqueue("a")
        assert ran.wait(10)


def test_role_with_short_timeouts_still_works(
    client: Client, handlers: Handlers, database: Database
) -> None:
    """Statements, locks and idle sessions end after 100 ms; the work is done all the same."""
    ((name,),) = database.query("select current_database()")
    settings = ("statement_timeout", "lock_timeout", "idle_session_timeout")
    for setting in settings:
        database.query(f'alter database "{name}" set {setting} = 100')
    try:
        handlers.register("a")(lambda _: time.sleep(0.15))
        jobs = [client.enqueue("a").id for _ in range(4)]
        client.close()
        with working(client.dsn, handlers, concurrency=1, poll_interval=timedelta(seconds=0.3)):
            until(lambda: not database.query("select 1 from job"))
            time.sleep(0.3)
            last = database.query("select id from enqueue('a')")
            until(lambda: not database.query("select 1 from job"))
        assert len(database.query("select 1 from archive")) == len(jobs) + len(last)
    finally:
        for setting in settings:
            database.query(f'alter database "{name}" reset {setting}')


@pytest.mark.direct("the sessions, and their settings, are the pooler's")
def test_worker_waits_out_a_database_that_became_read_only(
    client: Client, handlers: Handlers, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a failover: it drops its connections, and tries again until it can write."""
    ran = threading.Event()
    handlers.register("a")(lambda _: ran.set())
    ((name,),) = database.query("select current_database()")
    client.enqueue("a", delay=timedelta(seconds=0.5))
    client.close()
    with working(client.dsn, handlers, poll_interval=timedelta(seconds=0.2)) as background:
        database.query(f'alter database "{name}" set default_transaction_read_only = on')
        database.cut_connections()
        until(lambda: "standby" in caplog.text)
        assert not ran.is_set()
        health = background.worker.health()
        assert health is not None
        assert health.ok
        database.query("set default_transaction_read_only = off")
        database.query(f'alter database "{name}" reset default_transaction_read_only')
        database.query("reset default_transaction_read_only")
        assert ran.wait(15)


def test_unstorable_error_of_the_claim_is_retried(
    client: Client, handlers: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any error of the driver while claiming is logged and tried again, never the worker's end."""
    real = claims.ClaimLoop._claim
    errors = [
        psycopg.errors.QueryCanceled,
        psycopg.errors.LockNotAvailable,
        psycopg.errors.InternalError_,
        psycopg.errors.InFailedSqlTransaction,
        psycopg.errors.SerializationFailure,
        psycopg.errors.FeatureNotSupported,
    ]

    async def broken(self: claims.ClaimLoop, limit: int, **options: Any) -> Any:
        if errors:
            raise errors.pop()
        return await real(self, limit, **options)

    monkeypatch.setattr("pgqueue.worker.link.FIRST_PAUSE", 0.001)
    monkeypatch.setattr(claims.ClaimLoop, "_claim", broken)
    handlers.register("a")(lambda _: None)
    job = client.enqueue("a").id
    Worker(client, handlers).run(until_idle=True)
    assert state(client, job) == "succeeded"


def test_restart_of_the_server_in_the_middle(
    handlers: Handlers, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Immediate stops while jobs run and while the worker is idle: it reconnects by itself."""
    del tmp_path_factory
    running, release = threading.Event(), threading.Event()

    @handlers.register("long")
    def long(_: Job[Any]) -> str:
        running.set()
        assert release.wait(20)
        return "done"

    handlers.register("quick")(lambda _: "quick")
    with embedded.temporary() as server:
        with Client(server.dsn) as client:
            client.migrate()
            job = client.enqueue("long").id
        background = Background(
            Worker(
                server.dsn,
                handlers,
                lease=timedelta(seconds=30),
                poll_interval=timedelta(seconds=0.1),
            )
        ).start()
        assert running.wait(10)
        embedded.stop(server.data)
        time.sleep(0.2)
        embedded.start(server.data)
        release.set()
        with Client(server.dsn) as client:
            until(lambda: state(client, job) == "succeeded")
            assert client.get(job).attempt == 1
            second = client.enqueue("quick").id
            until(lambda: state(client, second) == "succeeded")
        assert background.stop() == 0


def test_stop_while_the_database_is_gone_ends_in_time(
    handlers: Handlers, caplog: pytest.LogCaptureFixture
) -> None:
    """Endings cannot be reported; the exit code says so."""
    running, release = threading.Event(), threading.Event()

    @handlers.register("a")
    def handler(_: Job[Any]) -> None:
        running.set()
        assert release.wait(20)

    with embedded.temporary() as server:
        with Client(server.dsn) as client:
            client.migrate()
            client.enqueue("a")
        worker = Worker(server.dsn, handlers, shutdown_timeout=SECOND)
        background = Background(worker).start()
        assert running.wait(10)
        embedded.stop(server.data)
        release.set()
        time.sleep(0.1)
        began = time.monotonic()
        assert background.stop() == 1
        assert time.monotonic() - began < 4
    assert "could not be reported" in caplog.text


def test_lost_races_are_run_again(
    client: Client, handlers: Handlers, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Deadlocks and failed serializations of claims and of endings: each job still runs once."""
    database.query("create sequence public.races")
    database.query(
        "create function public.race() returns trigger language plpgsql as $$ begin "
        "if nextval('public.races') %% 3 > 0 then raise exception using errcode = "
        "case currval('public.races') %% 3 when 1 then '40001' else '40P01' end; end if; "
        "return null; end $$"
    )
    for table, event in (("job", "update"), ("archive", "insert")):
        database.query(
            f"create trigger race after {event} on {table} for each statement "
            "execute function public.race()"
        )
    runs: list[int] = []
    handlers.register("a")(lambda job: runs.append(job.id))
    ids = [client.enqueue("a").id for _ in range(5)]
    try:
        drain(client, handlers)
        ((races,),) = database.query("select last_value from public.races")
        assert races >= 6  # two claims and two acks were lost, at least
    finally:
        database.query("drop function public.race() cascade")
        database.query("drop sequence public.races")
    assert sorted(runs) == ids
    assert {state(client, job_id) for job_id in ids} == {"succeeded"}
    assert "given up" not in caplog.text
