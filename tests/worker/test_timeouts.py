"""Attempts that take longer than their kind allows."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from typing import Any

import pytest

from pgqueue import Client, Constant, Handlers, Job

from .helpers import Log, drain, state, until, working

SHORT = timedelta(milliseconds=40)
HOUR = Constant(timedelta(hours=1))


def test_async_handler_is_cancelled_when_its_time_is_up(client: Client, handlers: Handlers) -> None:
    """The attempt has failed, and the error says so."""
    log = Log(handlers)

    @handlers.register("a", timeout=SHORT)
    async def handler(_: Job[Any]) -> None:
        await asyncio.sleep(30)

    job_id = client.enqueue("a", max_attempts=1).id
    assert drain(client, handlers) == 0
    (attempt,) = client.get(job_id).history
    assert (attempt.error_class, attempt.outcome) == ("TimedOut", "failed")
    assert "0:00:00.040000" in (attempt.error or "")
    assert log.outcomes == ["dead"]
    assert log.events[0].duration >= SHORT


@pytest.mark.parametrize("ending", ["returns", "raises"])
def test_what_a_handler_does_after_its_timeout_does_not_count(
    client: Client, handlers: Handlers, ending: str
) -> None:
    """A handler that swallows the cancellation has timed out all the same."""

    @handlers.register("a", timeout=SHORT)
    async def handler(_: Job[Any]) -> str:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            if ending == "raises":
                raise ValueError from None
        return "half of the work"

    job_id = client.enqueue("a", max_attempts=1).id
    drain(client, handlers)
    assert client.get(job_id).history[0].error_class == "TimedOut"


def test_task_is_usable_after_a_timeout(client: Client, handlers: Handlers) -> None:
    """Jobs after it are not disturbed by its cancellation."""

    @handlers.register("a", timeout=timedelta(seconds=20))
    async def handler(job: Job[Any]) -> str:
        for _ in range(5):
            await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        return f"{job.payload} {getattr(task, 'cancelling', int)()}"

    @handlers.register("b", timeout=SHORT)
    async def slow(_: Job[Any]) -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            return

    for n in range(3):
        client.enqueue("b", max_attempts=1)
        client.enqueue("a", n)
    drain(client, handlers, concurrency=1)
    done = [client.get(job.id).result for job in client.list(kind="a")]
    assert sorted(done) == ["0 0", "1 0", "2 0"]


def test_sync_handler_is_told_when_its_time_is_up(client: Client, handlers: Handlers) -> None:
    """The attempt fails at once; the thread sees `cancel_requested`, and its return is ignored."""
    told = threading.Event()
    log = Log(handlers)

    @handlers.register("a", timeout=SHORT)
    def handler(job: Job[Any]) -> str:
        assert log.events == []
        until(lambda: job.cancel_requested)
        assert log.outcomes == ["failed"]
        told.set()
        return "late"

    job_id = client.enqueue("a", retry=HOUR).id
    with working(client, handlers):
        assert told.wait(10)
    assert state(client, job_id) == "scheduled"
    assert client.get(job_id).history[0].error_class == "TimedOut"
    assert log.outcomes == ["failed"]


def test_timed_out_thread_does_not_hold_up_the_end(client: Client, handlers: Handlers) -> None:
    """Its attempt is over, so that draining does not wait for it, and all was in order."""
    release = threading.Event()

    @handlers.register("a", timeout=SHORT)
    def handler(_: Job[Any]) -> None:
        release.wait(10)

    log = Log(handlers)
    client.enqueue("a", retry=HOUR)
    with working(client, handlers, shutdown_timeout=timedelta(seconds=10)) as background:
        until(lambda: log.outcomes == ["failed"])
        started = time.monotonic()
        assert background.stop() == 0
        assert time.monotonic() - started < 5
        release.set()


def test_timeouts_of_several_kinds_are_each_their_own(client: Client, handlers: Handlers) -> None:
    """A kind without one runs as long as it likes beside one with."""

    @handlers.register("a", timeout=SHORT)
    def short(job: Job[Any]) -> None:
        until(lambda: job.cancel_requested)

    @handlers.register("b")
    def long(_: Job[Any]) -> str:
        time.sleep(0.2)
        return "done"

    first = client.enqueue("a", max_attempts=1).id
    second = client.enqueue("b").id
    drain(client, handlers)
    assert (state(client, first), client.get(second).result) == ("dead", "done")


def test_handler_within_its_time_is_left_alone(client: Client, handlers: Handlers) -> None:
    """A timeout costs it nothing, in a thread or a task."""

    @handlers.register("a", timeout=timedelta(seconds=5))
    def in_thread(_: Job[Any]) -> str:
        time.sleep(0.05)
        return "done"

    @handlers.register("b", timeout=timedelta(seconds=5))
    async def on_loop(_: Job[Any]) -> str:
        await asyncio.sleep(0.05)
        return "done"

    jobs = [client.enqueue(kind).id for kind in "ab"]
    drain(client, handlers)
    assert [client.get(job).result for job in jobs] == ["done", "done"]
