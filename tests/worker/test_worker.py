"""The worker's options, its health, and what it logs."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import re
import socket
import threading
import time
from datetime import timedelta
from typing import Any

import pytest

from pgqueue import (
    AsyncClient,
    Client,
    ConfigurationError,
    Constant,
    Handlers,
    InvalidJob,
    Job,
    Retry,
    Skip,
    Snooze,
    Worker,
)
from pgqueue.worker.worker import YOUNG_OBJECTS

from .helpers import SECOND, Database, drain, state, until, working


@pytest.fixture
def noop(handlers: Handlers) -> Handlers:
    """Handlers with one that does nothing."""
    handlers.register("a")(lambda _: None)
    return handlers


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"concurrency": 1.5},
        {"concurrency": True},
        {"prefetch": -1},
        {"prefetch": "many"},
        {"processes": 0},
        {"processes": None},
        {"lease": timedelta(0)},
        {"lease": 30},
        {"poll_interval": timedelta(0)},
        {"poll_interval": timedelta(seconds=-1)},
        {"shutdown_timeout": timedelta(seconds=-1)},
        {"shutdown_timeout": 5},
        {"queues": []},
        {"queues": {}},
        {"queues": 7},
        {"queues": {"a": 0}},
        {"queues": {"a": -1}},
        {"queues": {"a": float("nan")}},
        {"queues": {"a": float("inf")}},
        {"queues": {"a": "much"}},
        {"schema": "pg_x"},
    ],
)
def test_option_that_cannot_be_is_refused(noop: Handlers, options: dict[str, Any]) -> None:
    """When the worker is made, with what to pass instead."""
    with pytest.raises(ConfigurationError, match=r"pass|use|name at least one"):
        Worker("dbname=x", noop, **options)


def test_queue_that_is_no_name_is_refused(noop: Handlers) -> None:
    """As everywhere."""
    with pytest.raises(InvalidJob, match="is no name"):
        Worker("dbname=x", noop, queues="no name")


def test_worker_without_handlers_is_refused() -> None:
    """It would never claim anything."""
    with pytest.raises(ConfigurationError, match="register some"):
        Worker("dbname=x", Handlers())


def test_worker_says_what_it_takes(client: Client, handlers: Handlers) -> None:
    """The two may be mixed up; it shows at once, not when the worker runs."""
    handlers.register("a")(lambda _: None)
    with pytest.raises(ConfigurationError, match="pass a client or a DSN"):
        Worker(handlers, client)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"pass a pgqueue\.Handlers"):
        Worker(client, [print])  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["dsn", "client", "async client", "environment"])
def test_target_may_be_a_client_or_a_dsn(
    client: Client, noop: Handlers, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or nothing, where the environment says."""
    monkeypatch.setenv("PGQUEUE_DSN", client.dsn)
    targets: dict[str, Any] = {
        "dsn": client.dsn,
        "client": client,
        "async client": AsyncClient(client.dsn),
        "environment": None,
    }
    job = client.enqueue("a").id
    assert Worker(targets[kind], noop, prepare=False).run(until_idle=True) == 0
    assert state(client, job) == "succeeded"


def test_worker_takes_the_schema_of_its_client(pgqueue_dsn: str, noop: Handlers) -> None:
    """Unless it is told another."""
    with Client(pgqueue_dsn, schema="second") as second:
        second.migrate()
        job = second.enqueue("a").id
        drain(second, noop)
        assert state(second, job) == "succeeded"
        job = second.enqueue("a").id
        Worker(pgqueue_dsn, noop, schema="second").run(until_idle=True)
        assert state(second, job) == "succeeded"
        with second.driver.connection() as conn:
            conn.execute("drop schema second cascade")


@pytest.mark.parametrize("name", [None, "mine"])
def test_jobs_show_who_ran_them(
    client: Client, noop: Handlers, database: Database, name: str | None
) -> None:
    """The name, or the host's, with the process and something unique."""
    client.enqueue("a")
    drain(client, noop, name=name)
    client.enqueue("a")
    drain(client, noop, name=name)
    names = [row[0] for row in database.query("select worker from archive")]
    start = f"{name or socket.gethostname()}:{os.getpid()}:"
    assert all(found.startswith(start) for found in names)
    assert names[0] != names[1]


def test_no_more_handlers_run_than_concurrency(client: Client, handlers: Handlers) -> None:
    """Of each sort."""
    running = {"a": 0, "b": 0}
    most = {"a": 0, "b": 0}
    lock = threading.Lock()

    def change(kind: str, by: int) -> None:
        with lock:
            running[kind] += by
            most[kind] = max(most[kind], running[kind])

    @handlers.register("a")
    def in_thread(_: Job[Any]) -> None:
        change("a", 1)
        time.sleep(0.02)
        change("a", -1)

    @handlers.register("b")
    async def on_loop(_: Job[Any]) -> None:
        change("b", 1)
        await asyncio.sleep(0.02)
        change("b", -1)

    client.enqueue_many([(kind, None) for kind in "ab" * 20])
    drain(client, handlers, concurrency=3)
    assert most == {"a": 3, "b": 3}


def test_poll_interval_is_how_often_an_idle_worker_looks(
    client: Client, noop: Handlers, database: Database
) -> None:
    """Its claim loop moves so often, and no more often."""
    with working(client, noop, poll_interval=timedelta(seconds=0.3)) as background:
        until(lambda: database.query("select 1 from sleeper"))
        looks: set[float] = set()
        deadline = time.monotonic() + 1.2
        (claims,) = background.worker._engine._claims  # type: ignore[union-attr]
        while time.monotonic() < deadline:
            looks.add(claims.moved_at)
            time.sleep(0.005)
    assert 3 <= len(looks) <= 8


def test_health_tells_what_a_worker_does(client: Client, handlers: Handlers) -> None:
    """None when it does not run; then what it holds and has done."""
    release = threading.Event()

    @handlers.register("a")
    def handler(job: Job[Any]) -> None:
        if job.payload:
            release.wait(10)

    worker = Worker(client, handlers)
    assert worker.health() is None
    client.enqueue("a")
    client.enqueue("a", "wait")
    with working(client, handlers) as background:
        until(lambda: (h := background.worker.health()) is not None and h.settled == 1)
        health = background.worker.health()
        assert health is not None
        assert (health.ok, health.held, health.settled) == (True, 1, 1)
        assert 0 <= health.idle_for < 5
        release.set()
    assert background.worker.health() is None


def test_health_is_bad_when_a_claim_loop_is_stuck(
    client: Client, noop: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or when nobody renews the leases."""
    with working(client, noop) as background:
        until(lambda: (h := background.worker.health()) is not None and h.ok)
        engine = background.worker._engine
        assert engine is not None
        now = time.monotonic()
        with monkeypatch.context() as patch:
            patch.setattr("pgqueue.worker.engine.time.monotonic", lambda: now + 60)
            assert not engine.health().ok
        with monkeypatch.context() as patch:
            patch.setattr(engine._heartbeat, "is_alive", lambda: False)
            assert not engine.health().ok
        assert engine.health().ok


def test_endings_are_logged_with_their_facts_and_without_payloads(
    client: Client, handlers: Handlers, caplog: pytest.LogCaptureFixture
) -> None:
    """Bad ones as warnings; as text, and as fields for structured logs."""
    caplog.set_level(logging.INFO, "pgqueue")

    @handlers.register("a")
    def handler(job: Job[Any]) -> None:
        if job.payload["fail"]:
            raise ValueError("no luck")

    good = client.enqueue("a", {"fail": False, "card": "4111"}).id
    bad = client.enqueue("a", {"fail": True, "card": "4111"}, retry=Constant(SECOND * 100)).id
    drain(client, handlers)
    (record,) = [r for r in caplog.records if getattr(r, "job_id", None) == bad]
    text = f"job {bad} (a) attempt 1 of 20: failed in {record.duration:.3f}s: ValueError: no luck"  # type: ignore[attr-defined]
    assert record.getMessage() == text
    assert record.levelno == logging.WARNING
    facts = {name: getattr(record, name) for name in ("job_id", "kind", "queue", "attempt")}
    assert facts == {"job_id": bad, "kind": "a", "queue": "default", "attempt": 1}
    assert (record.outcome, record.duration >= 0) == ("failed", True)  # type: ignore[attr-defined]
    assert "4111" not in caplog.text
    assert f"job {good} (a) attempt 1 of 20: succeeded in " in caplog.text


@pytest.mark.parametrize(
    "level, kind", [(logging.INFO, "skipped"), (logging.INFO, "snoozed"), (logging.ERROR, "dead")]
)
def test_level_of_the_log_says_how_bad_an_ending_is(
    client: Client, handlers: Handlers, caplog: pytest.LogCaptureFixture, level: int, kind: str
) -> None:
    """What a handler chose is information; that a job is dead is an error."""
    caplog.set_level(logging.INFO, "pgqueue")
    returned: dict[str, Any] = {
        "skipped": Skip("why not"),
        "snoozed": Snooze(SECOND * 100),
        "dead": Retry(reason="why not"),
    }
    handlers.register("a")(lambda _: returned[kind])
    client.enqueue("a", max_attempts=1)
    drain(client, handlers)
    (record,) = [r for r in caplog.records if hasattr(r, "job_id")]
    assert record.levelno == level
    assert f": {kind}" in record.getMessage()
    assert ("why not" in record.getMessage()) == (kind != "snoozed")


def test_error_without_text_is_logged_by_its_class(
    client: Client, handlers: Handlers, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception whose text cannot be had does no harm."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    @handlers.register("a")
    def handler(_: Job[Any]) -> None:
        raise Mute

    client.enqueue("a", max_attempts=1)
    drain(client, handlers)
    assert re.search(r"dead in [\d.]+s: test_error_without_text", caplog.text)


def test_garbage_collector_is_left_as_it_was(client: Client, handlers: Handlers) -> None:
    """Meanwhile it looks less often."""
    seen: list[int] = []
    before = gc.get_threshold()
    handlers.register("a")(lambda _: seen.append(gc.get_threshold()[0]))
    client.enqueue("a")
    drain(client, handlers)
    assert seen == [max(before[0], YOUNG_OBJECTS)]
    assert gc.get_threshold() == before
