"""Contexts around attempts, observers of their ends, and context variables."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from pgqueue import AttemptEnded, Client, ConfigurationError, Handlers, Job, Outcome

from .helpers import Log, drain, state

both_ways = pytest.mark.parametrize("way", ["sync", "async"])
number: contextvars.ContextVar[int] = contextvars.ContextVar("number", default=0)


def register(handlers: Handlers, way: str, body: Callable[[Job[Any]], object]) -> None:
    """Registers `body` as a sync or an async handler of the kind a."""
    if way == "sync":
        handlers.register("a")(body)
        return

    async def handler(job: Job[Any]) -> object:
        await asyncio.sleep(0)
        return body(job)

    handlers.register("a")(handler)


@both_ways
def test_contexts_nest_in_the_order_in_which_they_were_added(
    client: Client, handlers: Handlers, way: str
) -> None:
    """The first is the outermost, and a later one is made inside the earlier ones."""
    seen: list[str] = []

    for name in ("outer", "inner"):

        def add(name: str = name) -> None:
            @handlers.middleware
            @contextlib.contextmanager
            def around(job: Job[Any]) -> Iterator[None]:
                seen.append(f"{name} in {job.payload}")
                yield
                seen.append(f"{name} out")

        add()
    register(handlers, way, lambda _: seen.append("handler"))
    client.enqueue("a", "x")
    drain(client, handlers)
    assert seen == ["outer in x", "inner in x", "handler", "inner out", "outer out"]


@both_ways
def test_contexts_see_and_pass_on_the_handlers_exception(
    client: Client, handlers: Handlers, way: str
) -> None:
    """All of them are left, and the attempt has failed."""
    seen: list[str] = []

    @handlers.middleware
    @contextlib.contextmanager
    def around(_: Job[Any]) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            seen.append(str(error))
            raise

    def fail(_: Job[Any]) -> None:
        raise ValueError("mine")

    register(handlers, way, fail)
    job_id = client.enqueue("a", max_attempts=1).id
    drain(client, handlers)
    assert (seen, state(client, job_id)) == (["mine"], "dead")


@both_ways
def test_exception_that_a_context_swallows_is_no_failure(
    client: Client, handlers: Handlers, way: str
) -> None:
    """The job has succeeded without a result."""
    handlers.middleware(lambda _: contextlib.suppress(ValueError))

    def fail(_: Job[Any]) -> None:
        raise ValueError

    register(handlers, way, fail)
    job_id = client.enqueue("a").id
    drain(client, handlers)
    assert state(client, job_id) == "succeeded"


@both_ways
@pytest.mark.parametrize("where", ["made", "entered", "left"])
@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_error_of_a_context_fails_the_attempt(
    client: Client, handlers: Handlers, way: str, where: str, error: type[BaseException]
) -> None:
    """Wherever it is raised, the worker goes on, and the outer contexts are left."""
    left: list[bool] = []

    class Context:
        def __init__(self, job: Job[Any]) -> None:
            self.bad = bool(job.payload)
            if self.bad and where == "made":
                raise error

        def __enter__(self) -> None:
            if self.bad and where == "entered":
                raise error

        def __exit__(self, *_: object) -> None:
            if self.bad and where == "left":
                raise error

    @handlers.middleware
    @contextlib.contextmanager
    def outer(_: Job[Any]) -> Iterator[None]:
        try:
            yield
        finally:
            left.append(True)

    handlers.middleware(Context)
    register(handlers, way, lambda _: None)
    bad = client.enqueue("a", "bad", max_attempts=1).id
    good = client.enqueue("a").id
    drain(client, handlers, concurrency=1)
    assert (state(client, bad), state(client, good)) == ("dead", "succeeded")
    assert len(left) == 2


def test_async_context_manager_is_no_middleware(client: Client, handlers: Handlers) -> None:
    """It fails every attempt, rather than being passed over."""
    handlers.middleware(lambda _: contextlib.AsyncExitStack())  # type: ignore[arg-type, return-value]
    register(handlers, "async", lambda _: None)
    job_id = client.enqueue("a", max_attempts=1).id
    drain(client, handlers)
    assert state(client, job_id) == "dead"


def test_contexts_are_entered_in_the_handlers_own_thread(
    client: Client, handlers: Handlers
) -> None:
    """Thread-locals and the like work."""
    threads: set[threading.Thread] = set()

    @handlers.middleware
    @contextlib.contextmanager
    def around(_: Job[Any]) -> Iterator[None]:
        threads.add(threading.current_thread())
        yield
        threads.add(threading.current_thread())

    register(handlers, "sync", lambda _: threads.add(threading.current_thread()))
    client.enqueue("a")
    drain(client, handlers)
    (thread,) = threads
    assert thread is not threading.main_thread()


@both_ways
def test_context_variables_of_a_context_are_seen_by_the_handler(
    client: Client, handlers: Handlers, way: str
) -> None:
    """And those that were set where the worker was started."""
    seen: list[int] = []
    other: contextvars.ContextVar[int] = contextvars.ContextVar("other", default=0)

    @handlers.middleware
    @contextlib.contextmanager
    def around(_: Job[Any]) -> Iterator[None]:
        token = number.set(number.get() + 1)
        yield
        number.reset(token)

    register(handlers, way, lambda _: seen.append(number.get() + other.get()))
    client.enqueue_many([("a", None)] * 3)
    token = other.set(10)
    drain(client, handlers, concurrency=1)
    other.reset(token)
    assert seen == [11, 11, 11]


@both_ways
def test_context_variables_do_not_leak_into_the_next_job(
    client: Client, handlers: Handlers, way: str
) -> None:
    """Each attempt starts from the worker's context, also in the same thread or task."""
    seen: list[object] = []

    class Odd:
        """No truth value comes of comparing it, as with arrays."""

        def __eq__(self, _: object) -> Any:
            raise ValueError

        __hash__ = None  # type: ignore[assignment]

    anything: contextvars.ContextVar[object] = contextvars.ContextVar("anything", default=None)

    def leak(job: Job[Any]) -> None:
        seen.append((number.get(), anything.get()))
        if job.payload % 2:
            number.set(5)
        anything.set(Odd())

    token = anything.set(Odd())
    before = anything.get()
    register(handlers, way, leak)
    client.enqueue_many([("a", n) for n in range(5)])
    drain(client, handlers, concurrency=1)
    anything.reset(token)
    assert [value for value, _ in seen] == [0] * 5  # type: ignore[misc, has-type]
    assert all(value is before for _, value in seen)  # type: ignore[misc, has-type]


def test_observers_hear_of_every_attempt(client: Client, handlers: Handlers) -> None:
    """With the job, how it ended, how long it took, and what was raised."""
    log = Log(handlers)

    @handlers.register("a", max_attempts=1)
    async def handler(job: Job[Any]) -> None:
        await asyncio.sleep(0.02)
        if job.payload:
            raise ValueError("bad")

    client.enqueue("a")
    client.enqueue("a", "bad", max_attempts=1)
    drain(client, handlers, concurrency=1)
    good, bad = log.events
    assert (good.outcome, good.error, good.job.kind) == (Outcome.SUCCEEDED, None, "a")
    assert good.duration >= timedelta(milliseconds=19)
    assert (bad.outcome, str(bad.error)) == (Outcome.DEAD, "bad")


def test_observers_hear_when_the_database_knows(client: Client, handlers: Handlers) -> None:
    """The job is in its final state by then."""
    seen: list[str] = []
    handlers.on_end(lambda event: seen.append(state(client, event.job.id)))
    register(handlers, "async", lambda _: None)
    client.enqueue("a")
    drain(client, handlers)
    assert seen == ["succeeded"]


def test_error_of_an_observer_is_logged_without_the_payload(
    client: Client, handlers: Handlers, caplog: pytest.LogCaptureFixture
) -> None:
    """The other observers are called all the same, and the job is done."""

    @handlers.on_end
    def fail(_: AttemptEnded) -> None:
        raise RuntimeError("observer")

    log = Log(handlers)
    register(handlers, "async", lambda _: None)
    job_id = client.enqueue("a", "secret").id
    drain(client, handlers)
    assert log.outcomes == ["succeeded"]
    assert state(client, job_id) == "succeeded"
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert f"job {job_id} (a)" in record.getMessage()
    assert "secret" not in caplog.text


def test_async_observer_is_refused(handlers: Handlers) -> None:
    """Nobody would await it."""

    async def observe(_: AttemptEnded) -> None:
        """Never called."""

    with pytest.raises(ConfigurationError, match="plain function"):
        handlers.on_end(observe)
