"""The orderly end of a worker, in each of its phases."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from pgqueue import (
    Client,
    ConfigurationError,
    DatabaseUnavailable,
    Handlers,
    Job,
    SchemaMissing,
    Worker,
)
from pgqueue.worker import claims
from pgqueue.worker.doorbell import Doorbell

from .helpers import SECOND, Background, Database, Log, drain, state, until, working


def test_stop_lets_running_handlers_finish(client: Client, handlers: Handlers) -> None:
    """Sync and async ones; what waits is released at once, and is not counted."""
    running: list[int] = []
    release = threading.Event()
    log = Log(handlers)

    @handlers.register("a")
    def in_thread(job: Job[Any]) -> None:
        running.append(job.id)
        assert release.wait(10)

    @handlers.register("b")
    async def on_loop(job: Job[Any]) -> None:
        running.append(job.id)
        while not release.is_set():  # noqa: ASYNC110 - set by a thread
            await asyncio.sleep(0.01)

    jobs = [client.enqueue(kind).id for kind in "abab"]
    with working(client, handlers, concurrency=1, prefetch=5) as background:
        until(lambda: len(running) == 2 and state(client, jobs[3]) == "claimed")
        background.worker.stop()
        until(lambda: log.outcomes == ["released", "released"])
        assert [state(client, job) for job in jobs] == ["claimed", "claimed", "ready", "ready"]
        assert client.get(jobs[2]).attempt == 0
        release.set()
        assert background.end() == 0
    assert [state(client, job) for job in jobs] == ["succeeded", "succeeded", "ready", "ready"]


@pytest.mark.parametrize("swallow", [False, True])
def test_async_handler_that_takes_too_long_is_cancelled_and_released(
    client: Client, handlers: Handlers, *, swallow: bool
) -> None:
    """At four fifths of the timeout; returning early does not count as done."""
    started = threading.Event()

    @handlers.register("a")
    async def handler(_: Job[Any]) -> str:
        started.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            if not swallow:
                raise
        return "half of the work"

    job = client.enqueue("a").id
    with working(client, handlers, shutdown_timeout=SECOND) as background:
        assert started.wait(10)
        began = time.monotonic()
        assert background.stop() == 1
        assert 0.7 < time.monotonic() - began < 3
    assert (state(client, job), client.get(job).attempt) == ("ready", 0)


def test_sync_handler_that_heeds_the_request_is_released(
    client: Client, handlers: Handlers
) -> None:
    """It sees `cancel_requested`; whatever it returns then, its job runs again."""
    started, seen = threading.Event(), threading.Event()

    @handlers.register("a")
    def handler(job: Job[Any]) -> str:
        started.set()
        until(lambda: job.cancel_requested)
        seen.set()
        return "half of the work"

    job = client.enqueue("a").id
    with working(client, handlers, shutdown_timeout=SECOND) as background:
        assert started.wait(10)
        assert background.stop() == 1
    assert seen.is_set()
    assert (state(client, job), client.get(job).attempt) == ("ready", 0)


@pytest.mark.parametrize("way", ["sync", "async"])
def test_handler_that_does_not_stop_is_left_behind(
    client: Client, handlers: Handlers, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    """The worker ends in time all the same, its job is released, and the log names the kind."""
    started, release = threading.Event(), threading.Event()
    if way == "sync":

        @handlers.register("stubborn")
        def in_thread(_: Job[Any]) -> None:
            started.set()
            release.wait(20)
    else:

        @handlers.register("stubborn")
        async def on_loop(_: Job[Any]) -> None:
            started.set()
            while not release.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.05)

    caplog.set_level(logging.INFO)
    job = client.enqueue("stubborn").id
    with working(client, handlers, shutdown_timeout=timedelta(seconds=0.5)) as background:
        assert started.wait(10)
        began = time.monotonic()
        background.worker.stop()
        until(lambda: state(client, job) == "ready")
        assert time.monotonic() - began < 2
        threading.Timer(1.5, release.set).start()
        assert background.end() == 1
    assert "stopping: handlers of stubborn have 0." in caplog.text
    assert "handlers of stubborn do not stop" in caplog.text


def test_second_stop_cancels_at_once(client: Client, handlers: Handlers) -> None:
    """Long before the timeout."""
    started = threading.Event()

    @handlers.register("a")
    async def handler(_: Job[Any]) -> None:
        started.set()
        await asyncio.sleep(30)

    job = client.enqueue("a").id
    with working(client, handlers, shutdown_timeout=timedelta(seconds=60)) as background:
        assert started.wait(10)
        began = time.monotonic()
        background.worker.stop()
        time.sleep(0.1)
        background.worker.stop()
        background.worker.stop()
        assert background.end() == 1
        assert time.monotonic() - began < 5
    assert state(client, job) == "ready"


def test_timeout_of_zero_ends_at_once(client: Client, handlers: Handlers) -> None:
    """Handlers are cancelled without being waited for, and their jobs given back."""
    started = threading.Event()

    @handlers.register("a")
    async def handler(_: Job[Any]) -> None:
        started.set()
        await asyncio.sleep(30)

    job = client.enqueue("a").id
    with working(client, handlers, shutdown_timeout=timedelta(0)) as background:
        assert started.wait(10)
        assert background.stop() == 1
    assert state(client, job) == "ready"


def test_stop_while_asleep_ends_at_once(
    client: Client, handlers: Handlers, database: Database
) -> None:
    """However long the poll interval is."""
    handlers.register("a")(lambda _: None)
    with working(client, handlers, poll_interval=timedelta(minutes=5)) as background:
        until(lambda: database.query("select 1 from sleeper"))
        began = time.monotonic()
        assert background.stop() == 0
        assert time.monotonic() - began < 2


def test_goodbye_that_cannot_be_said_is_left_out(
    client: Client, handlers: Handlers, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database may be gone by then; the row ends by itself."""

    async def fail(_: Doorbell) -> None:
        raise DatabaseUnavailable("gone")

    monkeypatch.setattr(Doorbell, "say_goodbye", fail)
    handlers.register("a")(lambda _: None)
    with working(client, handlers) as background:
        until(lambda: database.query("select 1 from sleeper"))
        assert background.stop() == 0
    assert database.query("select 1 from sleeper")


def test_stop_during_a_claim_releases_what_it_brings(
    client: Client, handlers: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs that are claimed in the database while the worker is told to stop are not stranded."""
    real = claims.ClaimLoop._claim
    claiming = threading.Event()

    async def slow(self: claims.ClaimLoop, limit: int, **options: Any) -> Any:
        claiming.set()
        await asyncio.sleep(0.2)
        return await real(self, limit, **options)

    monkeypatch.setattr(claims.ClaimLoop, "_claim", slow)
    runs: list[int] = []

    @handlers.register("a")
    async def handler(job: Job[Any]) -> None:
        runs.append(job.id)

    jobs = [client.enqueue("a").id for _ in range(5)]
    with working(client, handlers, concurrency=5, shutdown_timeout=timedelta(30)) as background:
        assert claiming.wait(10)
        assert background.stop() == 0
    states = [state(client, job) for job in jobs]
    assert set(states) <= {"ready", "succeeded"}
    assert states.count("succeeded") == len(runs)


def test_claim_that_the_database_does_not_answer_is_given_up(
    client: Client, handlers: Handlers, database: Database
) -> None:
    """The lane is locked, so that the claim hangs; the worker ends in time."""
    handlers.register("a")(lambda _: None)
    client.enqueue("a")
    with database.conn.transaction():
        database.query("lock table lane in access exclusive mode")
        with working(client, handlers, shutdown_timeout=SECOND) as background:
            time.sleep(0.1)
            began = time.monotonic()
            background.stop()
            assert time.monotonic() - began < 3


def test_endings_that_cannot_be_reported_in_time_are_left_to_their_leases(
    client: Client, handlers: Handlers, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """The exit code is 1, and the log says what happens to them."""
    done = threading.Event()
    handlers.register("a")(lambda _: done.set())
    job = client.enqueue("a").id
    with (
        working(client, handlers, shutdown_timeout=SECOND) as background,
        database.conn.transaction(),
    ):
        database.query("lock table archive in access exclusive mode")
        assert done.wait(10)
        time.sleep(0.05)
        assert background.stop() == 1
    assert "could not be reported in time" in caplog.text
    until(lambda: state(client, job) in ("claimed", "succeeded"))


def test_stop_before_run_ends_it_at_once(client: Client, handlers: Handlers) -> None:
    """And only that run."""
    handlers.register("a")(lambda _: None)
    job = client.enqueue("a").id
    worker = Worker(client, handlers)
    worker.stop()
    assert worker.run() == 0
    assert state(client, job) == "ready"
    assert worker.run(until_idle=True) == 0
    assert state(client, job) == "succeeded"
    worker.stop()


def test_worker_runs_once_at_a_time(client: Client, handlers: Handlers) -> None:
    """A second run of the same object is refused, and does not disturb the first."""
    handlers.register("a")(lambda _: None)
    with working(client, handlers) as background:
        with pytest.raises(ConfigurationError, match="runs already"):
            background.worker.run()
        with pytest.raises(ConfigurationError, match="runs already"):
            asyncio.run(background.worker.run_async())
        job = client.enqueue("a").id
        until(lambda: state(client, job) == "succeeded")


def test_run_inside_an_event_loop_is_refused(client: Client, handlers: Handlers) -> None:
    """The error names the way that works."""
    handlers.register("a")(lambda _: None)

    async def main() -> None:
        with pytest.raises(ConfigurationError, match="run_async"):
            Worker(client, handlers).run()

    asyncio.run(main())


# Inside an app


def test_run_async_works_beside_an_app(client: Client, handlers: Handlers) -> None:
    """On the app's loop, until it is stopped."""

    @handlers.register("a")
    async def handler(job: Job[Any]) -> object:
        await asyncio.sleep(0)
        return job.payload

    async def main() -> int:
        worker = Worker(client, handlers)
        task = asyncio.create_task(worker.run_async())
        job = client.enqueue("a", "x").id
        while state(client, job) != "succeeded":  # noqa: ASYNC110 - looks
            await asyncio.sleep(0.01)
        worker.stop()
        return await asyncio.wait_for(task, 10)

    assert asyncio.run(main()) == 0


def test_run_async_until_idle(client: Client, handlers: Handlers) -> None:
    """Likewise."""
    handlers.register("a")(lambda job: job.payload)
    job = client.enqueue("a", 7).id
    assert asyncio.run(Worker(client, handlers).run_async(until_idle=True)) == 0
    assert client.get(job).result == 7


def test_cancelled_worker_ends_in_order(client: Client, handlers: Handlers) -> None:
    """Its task is cancelled: jobs are given back first, and the cancellation comes out."""

    @handlers.register("a")
    async def handler(_: Job[Any]) -> None:
        await asyncio.sleep(30)

    jobs = [client.enqueue("a").id for _ in range(5)]

    async def main() -> None:
        worker = Worker(client, handlers, concurrency=2, prefetch=3, shutdown_timeout=SECOND)
        task = asyncio.create_task(worker.run_async())
        # As below.
        while (health := worker.health()) is None or health.held < 4:  # noqa: ASYNC110 - looks
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 10)

    asyncio.run(main())
    assert {state(client, job) for job in jobs} == {"ready"}
    assert {client.get(job).attempt for job in jobs} == {0}


def test_app_that_ends_without_a_word_leaves_no_job_claimed(
    client: Client, handlers: Handlers
) -> None:
    """asyncio.run cancels every task there is, the worker's own among them."""

    @handlers.register("a")
    async def handler(_: Job[Any]) -> None:
        await asyncio.sleep(30)

    jobs = [client.enqueue("a").id for _ in range(5)]
    tasks: list[Any] = []

    async def main() -> None:
        worker = Worker(client, handlers, concurrency=2, prefetch=3, shutdown_timeout=SECOND)
        tasks.append(asyncio.create_task(worker.run_async()))
        # A claim may miss a row that is locked just then; half its prefetch is enough for it.
        while (health := worker.health()) is None or health.held < 4:  # noqa: ASYNC110 - looks
            await asyncio.sleep(0.01)

    asyncio.run(main())
    assert set(states := [state(client, job) for job in jobs]) <= {"ready", "scheduled"}, states
    assert tasks[0].cancelled()


# What ends a worker by itself


def test_missing_schema_is_told_at_the_start(pgqueue_dsn: str, handlers: Handlers) -> None:
    """Before anything runs, sync and async."""
    handlers.register("a")(lambda _: None)
    worker = Worker(pgqueue_dsn, handlers, schema="elsewhere")
    with pytest.raises(SchemaMissing):
        worker.run()
    with pytest.raises(SchemaMissing):
        asyncio.run(worker.run_async())
    assert worker.health() is None


def test_schema_that_vanishes_ends_the_worker_with_its_error(
    pgqueue_dsn: str, handlers: Handlers, direct: Callable[[str], str]
) -> None:
    """It can never claim again, and must not look as if it worked."""
    handlers.register("a")(lambda _: None)
    with Client(pgqueue_dsn, schema="vanishing") as client:
        client.migrate()
        worker = Worker(client, handlers, shutdown_timeout=SECOND)
        background = Background(worker).start()
        database = Database(direct(pgqueue_dsn), "vanishing")
        until(lambda: database.query("select 1 from vanishing.sleeper"))
        database.conn.execute("drop schema vanishing cascade")
        database.conn.close()
        with pytest.raises(SchemaMissing):
            background.end()


@pytest.mark.parametrize(
    "part", ["settle.Settler.run", "upkeep.Upkeep.run", "claims.ClaimLoop.run"]
)
def test_part_that_dies_ends_the_worker_with_its_error(
    client: Client, handlers: Handlers, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """No worker goes on with half of its parts; what it holds is given back."""

    async def die(*_: Any, **__: Any) -> None:
        monkeypatch.undo()
        await asyncio.sleep(0.1)
        raise RuntimeError("unforeseen")

    @handlers.register("a")
    async def handler(_: Job[Any]) -> None:
        await asyncio.sleep(30)

    job = client.enqueue("a").id
    monkeypatch.setattr(f"pgqueue.worker.{part}", die)
    with pytest.raises(RuntimeError, match="unforeseen"):
        Worker(client, handlers, shutdown_timeout=SECOND).run()
    assert (state(client, job), client.get(job).attempt) == ("ready", 0)


def test_keyboard_interrupt_of_an_async_handler_ends_the_worker(
    client: Client, handlers: Handlers
) -> None:
    """Python lets it through every task; the other jobs are given back all the same."""

    @handlers.register("a")
    async def handler(job: Job[Any]) -> None:
        if job.payload:
            raise KeyboardInterrupt
        await asyncio.sleep(30)

    good = client.enqueue("a").id
    client.enqueue("a", "bad")
    with pytest.raises(KeyboardInterrupt):
        drain(client, handlers, shutdown_timeout=SECOND)
    assert state(client, good) == "ready"
