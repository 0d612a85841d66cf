"""The list of workers: what each says of itself, and that nothing depends on it."""

from __future__ import annotations

import os
import threading
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from tests.worker.helpers import until, working

from pgqueue import Client, Handlers, WorkerState, testing
from pgqueue.drivers import AsyncDriver
from pgqueue.worker import presence


@pytest.fixture
def handlers() -> Handlers:
    """An empty registry."""
    return Handlers()


@pytest.fixture
def both(handlers: Handlers) -> Handlers:
    """A sync and an async kind."""
    handlers.register("sync")(lambda _: None)

    @handlers.register("async")
    async def handler(_: Any) -> None:
        pass

    return handlers


def only(client: Client) -> WorkerState:
    """The one worker, once it is registered."""
    until(client.workers)
    (found,) = client.workers()
    return found


def test_worker_is_listed_while_it_runs(client: Client, both: Handlers) -> None:
    """With what it takes; both of its pools count. It is gone when it has stopped in order."""
    with working(client, both, queues=["b", "a"], concurrency=3, name="mine"):
        found = only(client)
        assert found.id.startswith(f"mine:{os.getpid()}:")
        assert (found.pid, found.queues, found.kinds) == (
            os.getpid(),
            ["a", "b"],
            ["async", "sync"],
        )
        assert (found.concurrency, found.running, found.alive) == (6, 0, True)
        assert not found.scheduler
        assert not found.stopping
    assert client.workers() == []


def test_what_it_runs_and_that_it_is_full(client: Client, handlers: Handlers) -> None:
    """Its jobs show its name; soon it says that it has no room for more."""
    over = threading.Event()
    handlers.register("slow")(lambda _: over.wait(15))
    job_id = client.enqueue("slow").id
    with working(client, handlers, concurrency=1):
        until(lambda: client.workers() and client.workers()[0].running)
        found = only(client)
        assert [(job.id, job.kind) for job in found.jobs] == [(job_id, "slow")]
        assert (found.claimed, list(found.full_kinds)) == (1, ["slow"])
        assert client.get(job_id).worker == found.id
        over.set()


def test_it_says_that_it_is_about_to_stop(client: Client, handlers: Handlers) -> None:
    """While a handler goes on."""
    over, begun = threading.Event(), threading.Event()

    @handlers.register("slow")
    def slow(_: Any) -> None:
        begun.set()
        over.wait(15)

    client.enqueue("slow")
    with working(client, handlers, lease=timedelta(seconds=1)) as background:
        assert begun.wait(10)
        only(client)
        background.worker.stop()
        until(lambda: client.workers()[0].stopping)
        over.set()


def test_row_that_is_gone_comes_back(
    client: Client, both: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the next beat: upkeep may have taken it while the machine slept."""
    monkeypatch.setattr(presence, "BEAT_SECONDS", 0.1)
    with working(client, both, lease=timedelta(seconds=1)):
        before = only(client)
        with client.driver.connection() as conn:
            conn.execute("delete from pgqueue.worker")
        assert only(client).id == before.id


def test_worker_works_without_its_list(client: Client, both: Handlers) -> None:
    """A table that is not there harms neither jobs nor leases."""
    with client.driver.connection() as conn:
        conn.execute("drop table pgqueue.worker")
    job_id = client.enqueue("sync").id
    with working(client, both):
        assert client.wait(job_id, timeout=timedelta(seconds=10)).result is None


def test_locked_row_holds_up_no_lease(
    client: Client, handlers: Handlers, monkeypatch: pytest.MonkeyPatch, direct: Any
) -> None:
    """Beats that fail leave the renewal of leases alone."""
    monkeypatch.setattr(presence, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(presence, "AFTER_FAILURE", 0.05)
    over = threading.Event()
    handlers.register("slow")(lambda _: over.wait(15))
    job_id = client.enqueue("slow").id
    with (
        working(client, handlers, lease=timedelta(seconds=1)),
        psycopg.connect(direct(client.dsn)) as conn,
    ):
        only(client)
        until(lambda: client.get(job_id).claimed_at)
        conn.execute("select from pgqueue.worker for update")
        first = client.get(job_id).lease_until
        assert first is not None
        until(lambda: (client.get(job_id).lease_until or first) > first + timedelta(seconds=2))
        assert client.get(job_id).attempt == 1
        conn.rollback()
        over.set()


def test_upkeep_forgets_those_silent_for_an_hour(client: Client) -> None:
    """Until then they are shown as dead."""
    with client.driver.connection() as conn:
        conn.execute("select pgqueue.register_worker('w')")
    testing.travel(client, timedelta(minutes=50))
    client.maintain()
    (found,) = client.workers()
    assert not found.alive
    testing.travel(client, timedelta(minutes=20))
    client.maintain()
    assert client.workers() == []


@pytest.mark.direct("it polls")
def test_idle_worker_makes_about_one_statement_a_second(
    client: Client, both: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beats are a tenth of that: over six seconds one, at the start."""
    seen: list[str] = []
    execute = AsyncDriver.execute

    async def counted(statement: Any, connection: Any) -> Any:
        seen.append(statement.sql)
        return await execute(statement, connection)

    monkeypatch.setattr(AsyncDriver, "execute", staticmethod(counted))
    with working(client, both):
        only(client)
        until(lambda: sum(".sleep(" in sql for sql in seen) >= 2)
        started = len(seen)
        threading.Event().wait(6)
        idle = seen[started:]
    assert len(idle) <= 10, idle
    assert sum("worker(" in sql or ".beat(" in sql for sql in seen[: started + len(idle)]) == 1


def test_heartbeat_outlives_whatever_goes_wrong(
    client: Client, handlers: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host without a name, say: leases are renewed all the same."""

    def nameless() -> str:
        raise OSError("no name")

    monkeypatch.setattr("socket.gethostname", nameless)
    over = threading.Event()
    handlers.register("slow")(lambda _: over.wait(15))
    job_id = client.enqueue("slow").id
    with working(client, handlers, lease=timedelta(seconds=1), name="w"):
        until(lambda: client.get(job_id).claimed_at)
        first = client.get(job_id).lease_until
        assert first is not None
        until(lambda: (client.get(job_id).lease_until or first) > first + timedelta(seconds=2))
        assert client.workers() == []
        over.set()
