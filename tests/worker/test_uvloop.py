"""The worker on another event loop than asyncio's own."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta

import pytest

from pgqueue import Client, Handlers, Job, Worker

from .helpers import SECOND, Database, state, until

uvloop = pytest.importorskip("uvloop", reason="the extra `uvloop` is not installed")


class Running:
    """A worker on uvloop, in a thread."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._codes: list[int] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._codes.append(self._worker.run(loop_factory=uvloop.new_event_loop))

    def stop(self) -> int:
        """Its exit code."""
        self._worker.stop()
        self._thread.join(15)
        return self._codes[0]


@pytest.fixture
def loops(handlers: Handlers) -> list[str]:
    """What ran the kinds `async` and `sync`, in order."""
    seen: list[str] = []

    @handlers.register("async")
    async def on_loop(_: Job) -> None:
        seen.append(type(asyncio.get_running_loop()).__module__)

    @handlers.register("sync")
    def in_thread(_: Job) -> None:
        seen.append("thread")

    return seen


@pytest.mark.parametrize("processes", [1, 2])
def test_all_jobs_are_run(client: Client, handlers: Handlers, processes: int) -> None:
    """Of async, sync and batch handlers, in one process or several; each ends well."""

    @handlers.register("async")
    async def on_loop(_: Job) -> None: ...

    @handlers.register("sync")
    def in_thread(_: Job) -> None: ...

    @handlers.register("batch", batch=10)
    async def together(_: list[Job]) -> None: ...

    for kind in ("async", "sync", "batch"):
        client.enqueue_many([(kind, None)] * 50)
    worker = Worker(client.dsn, handlers, processes=processes)
    assert worker.run(until_idle=True, loop_factory=uvloop.new_event_loop) == 0
    finished = client.stats()[0]
    assert (finished.ready, finished.claimed, finished.scheduled) == (0, 0, 0)
    assert all(state(client, number) == "succeeded" for number in job_ids(client))


def job_ids(client: Client) -> list[int]:
    """All of this database."""
    with client.driver.connection() as conn:
        found = [row[0] for row in conn.execute("select id from pgqueue.all_jobs").fetchall()]
    assert len(found) == 150
    return found


def test_the_loop_is_the_one_that_was_asked_for(
    client: Client, handlers: Handlers, loops: list[str]
) -> None:
    """Async handlers run on it, sync ones in threads as ever."""
    client.enqueue("async")
    client.enqueue("sync")
    Worker(client, handlers).run(until_idle=True, loop_factory=uvloop.new_event_loop)
    assert sorted(loops) == ["thread", "uvloop"]


@pytest.mark.direct("no ring gets through a pooler, so the worker asks for none")
def test_doorbell_wakes_it(
    client: Client, handlers: Handlers, database: Database, loops: list[str]
) -> None:
    """Again and again, long before its next poll; it ends in order afterwards."""
    running = Running(Worker(client, handlers, poll_interval=timedelta(seconds=30)))
    for number in range(3):
        until(lambda: len(database.query("select 1 from sleeper where until > clock()")) == 2)
        time.sleep(0.05)  # it looks once more, and then waits
        started = time.monotonic()
        client.enqueue("async")
        until(lambda: len(loops) > number)  # noqa: B023 - it is called at once
        assert time.monotonic() - started < 5
    assert running.stop() == 0


def test_connection_that_is_cut_while_it_sleeps_is_made_anew(
    client: Client, handlers: Handlers, database: Database, loops: list[str]
) -> None:
    """The descriptor that the loop watched is closed under it."""
    running = Running(Worker(client, handlers, poll_interval=5 * SECOND))
    until(lambda: len(database.query("select 1 from sleeper where until > clock()")) == 2)
    time.sleep(0.05)  # it looks once more, and then waits
    assert database.cut_connections()
    client.enqueue("async")
    client.enqueue("sync")
    until(lambda: len(loops) == 2)
    assert running.stop() == 0
