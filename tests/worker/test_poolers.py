"""Workers behind PgBouncer: where rings arrive, and where a worker finds out that they do not."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import pytest
from tests.faults.harness.pooler import MISSING, Pooler, pooler, program

from pgqueue import Client, Handlers, Health, Job
from pgqueue.drivers import AsyncDriver
from pgqueue.statements import Statements
from pgqueue.worker import doorbell
from pgqueue.worker.link import Link

from .helpers import Background, Database, until, working

SILENT = "notifications do not arrive"


@pytest.fixture
def counted(handlers: Handlers) -> list[str]:
    """What has run, of a sync and an async kind: the worker has two claim loops."""
    ran: list[str] = []

    @handlers.register("sync")
    def on_thread(job: Job[None]) -> None:
        ran.append(job.kind)

    @handlers.register("async")
    async def on_loop(job: Job[None]) -> None:
        ran.append(job.kind)

    return ran


def health(background: Background) -> Health:
    """How the worker is doing."""
    found = background.worker.health()
    assert found is not None
    return found


def test_worker_behind_a_pooler_in_transaction_mode_says_that_it_polls(
    client: Client,
    handlers: Handlers,
    counted: list[str],
    database: Database,
    pgbouncer: Pooler,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once, in its log and in its health; it asks for no more rings, and its jobs are run."""
    monkeypatch.setattr(doorbell, "ECHO_SECONDS", 0.3)
    dsn = pgbouncer.through(client.dsn)
    with working(dsn, handlers, poll_interval=timedelta(seconds=0.2)) as background:
        assert not health(background).polling
        until(lambda: health(background).polling)
        until(lambda: not database.query("select from sleeper"))
        client.enqueue("sync")
        client.enqueue("async")
        until(lambda: sorted(counted) == ["async", "sync"])
        assert health(background).polling
        assert not database.query("select from sleeper")
    assert caplog.text.count(SILENT) == 1
    assert "polling every 0.2 s" in caplog.text


def test_deafness_is_of_one_connection(
    client: Client, database: Database, pgbouncer: Pooler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next may lead elsewhere: until it is known to be silent, rings are asked for."""
    monkeypatch.setattr(doorbell, "ECHO_SECONDS", 0.2)
    found = []

    async def main() -> None:
        driver = AsyncDriver(pgbouncer.through(client.dsn), "pgqueue", 1)
        link = Link(driver, "claiming")
        bell = doorbell.Doorbell(
            link, Statements("pgqueue"), ["mail"], ["a"], "me", lambda: found.append("deaf")
        )
        for n in range(1, 3):
            assert not bell.deaf
            await bell.ask()
            assert bell.asked
            assert database.query("select from sleeper")
            while not bell.deaf:
                await asyncio.wait_for(bell.wait(5, asyncio.Event()), 10)
            assert not bell.asked
            assert not database.query("select from sleeper")
            assert found == ["deaf"] * n
            await link.close()

    asyncio.run(main())


def test_worker_behind_a_pooler_in_session_mode_is_woken(
    client: Client,
    pgqueue_server_dsn: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its own ring has arrived, and so do those of others."""
    if program() is None:
        pytest.skip(MISSING)
    ran = threading.Event()
    handlers = Handlers()
    handlers.register("a")(lambda _: ran.set())
    heard = threading.Event()
    real = doorbell.Doorbell._take

    def take(self: doorbell.Doorbell, payload: str) -> None:
        if payload == self._echo:
            heard.set()
        real(self, payload)

    monkeypatch.setattr(doorbell.Doorbell, "_take", take)
    with pooler(pgqueue_server_dsn, mode="session") as running:
        dsn = running.through(client.dsn)
        with working(dsn, handlers, poll_interval=timedelta(seconds=30)) as background:
            assert heard.wait(10)
            client.enqueue("a")
            assert ran.wait(10)
            assert not health(background).polling
    assert SILENT not in caplog.text


def test_worker_whose_own_ring_cannot_be_sent_goes_on_as_without_a_pooler(
    client: Client,
    handlers: Handlers,
    counted: list[str],
    pgbouncer: Pooler,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It cannot know then."""
    monkeypatch.setattr(doorbell, "CALL_TIMEOUT", 0.0)  # no answer comes so soon
    dsn = pgbouncer.through(client.dsn)
    with working(dsn, handlers, poll_interval=timedelta(seconds=0.2)) as background:
        client.enqueue("sync")
        until(lambda: counted == ["sync"])
        assert health(background).ok
