"""How handlers end, and what becomes of their jobs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import pgqueue
from pgqueue import Cancel, Client, Constant, Handlers, Job, Retry, Skip, Snooze

from .helpers import SECOND, Database, Log, drain, state


def register(handlers: Handlers, kind: str, way: str, body: Callable[[Job[Any]], object]) -> None:
    """Registers `body` as a sync or an async handler."""
    if way == "sync":
        handlers.register(kind)(body)
        return

    async def handler(job: Job[Any]) -> object:
        await asyncio.sleep(0)
        return body(job)

    handlers.register(kind)(handler)


both_ways = pytest.mark.parametrize("way", ["sync", "async"])


@both_ways
def test_returned_value_is_the_jobs_result(client: Client, handlers: Handlers, way: str) -> None:
    """Whatever JSON a handler returns is stored, and the job has succeeded."""
    register(handlers, "a", way, lambda job: {"n": job.payload["n"] + 1, "text": "ä"})
    job_id = client.enqueue("a", {"n": 1}).id
    assert drain(client, handlers) == 0
    job = client.get(job_id)
    assert (str(job.state), job.result, job.attempt) == ("succeeded", {"n": 2, "text": "ä"}, 1)


@both_ways
def test_returning_nothing_succeeds_without_result(
    client: Client, handlers: Handlers, way: str
) -> None:
    """None is no result."""
    register(handlers, "a", way, lambda _: None)
    job_id = client.enqueue("a").id
    drain(client, handlers)
    assert (state(client, job_id), client.get(job_id).result) == ("succeeded", None)


@both_ways
def test_exception_fails_the_attempt(client: Client, handlers: Handlers, way: str) -> None:
    """The job waits for its backoff, and its history says what was wrong."""

    def fail(_: Job[Any]) -> None:
        raise ValueError("no luck")

    log = Log(handlers)
    register(handlers, "a", way, fail)
    job_id = client.enqueue("a", retry=Constant(timedelta(hours=1))).id
    drain(client, handlers)
    job = client.get(job_id)
    assert str(job.state) == "scheduled"
    (attempt,) = job.history
    assert (attempt.outcome, attempt.error_class, attempt.error) == (
        "failed",
        "ValueError",
        "no luck",
    )
    assert "no luck" in (attempt.traceback or "")
    assert log.outcomes == ["failed"]
    assert isinstance(log.events[0].error, ValueError)


@both_ways
@pytest.mark.parametrize(
    "raised", [SystemExit(1), asyncio.CancelledError("mine"), RecursionError()]
)
def test_any_exception_of_a_handler_fails_only_its_attempt(
    client: Client, handlers: Handlers, way: str, raised: BaseException
) -> None:
    """A handler's SystemExit or CancelledError neither ends the worker nor strands the job."""

    def fail(job: Job[Any]) -> None:
        if job.payload:
            raise raised

    register(handlers, "a", way, fail)
    bad = client.enqueue("a", {"bad": True}, retry=Constant(timedelta(hours=1))).id
    good = client.enqueue("a").id
    assert drain(client, handlers, concurrency=1) == 0
    assert (state(client, bad), state(client, good)) == ("scheduled", "succeeded")
    assert client.get(bad).history[0].error_class == type(raised).__name__


def test_keyboard_interrupt_in_a_thread_fails_only_its_attempt(
    client: Client, handlers: Handlers
) -> None:
    """No Ctrl-C ever reaches a thread, so it is the handler's own exception."""

    @handlers.register("a")
    def fail(_: Job[Any]) -> None:
        raise KeyboardInterrupt

    jobs = [client.enqueue("a", max_attempts=1).id for _ in range(3)]
    assert drain(client, handlers, concurrency=1) == 0
    assert [state(client, job) for job in jobs] == ["dead"] * 3


@both_ways
def test_last_attempt_that_fails_leaves_the_job_dead(
    client: Client, handlers: Handlers, way: str
) -> None:
    """The observer hears of it as dead."""

    def fail(_: Job[Any]) -> None:
        raise ValueError

    log = Log(handlers)
    register(handlers, "a", way, fail)
    job_id = client.enqueue("a", max_attempts=1).id
    drain(client, handlers)
    assert state(client, job_id) == "dead"
    assert log.outcomes == ["dead"]


@both_ways
def test_retry_with_a_delay_waits_so_long(
    client: Client, handlers: Handlers, database: Database, way: str
) -> None:
    """The delay overrides the policy; the attempt counts and its reason is kept."""
    register(handlers, "a", way, lambda _: Retry(timedelta(hours=5), reason="not yet"))
    job_id = client.enqueue("a").id
    drain(client, handlers)
    ((wait,),) = database.query("select run_at - clock() from job where id = %s", job_id)
    assert timedelta(hours=4.9) < wait < timedelta(hours=5)
    job = client.get(job_id)
    assert (str(job.state), job.attempt) == ("scheduled", 1)
    assert (job.history[0].outcome, job.history[0].error) == ("failed", "not yet")


@both_ways
def test_retry_without_delay_backs_off_by_the_policy(
    client: Client, handlers: Handlers, database: Database, way: str
) -> None:
    """The job's own policy says how long."""
    register(handlers, "a", way, lambda _: Retry())
    job_id = client.enqueue("a", retry=Constant(timedelta(minutes=10), jitter=0)).id
    drain(client, handlers)
    ((wait,),) = database.query("select run_at - clock() from job where id = %s", job_id)
    assert timedelta(minutes=9.9) < wait < timedelta(minutes=10)


def test_retry_of_the_last_attempt_is_the_end(client: Client, handlers: Handlers) -> None:
    """A job whose attempts are used up is dead, whatever delay was asked for."""
    handlers.register("a")(lambda _: Retry(SECOND))
    job_id = client.enqueue("a", max_attempts=1).id
    drain(client, handlers)
    assert state(client, job_id) == "dead"


@both_ways
def test_retry_at_once_runs_again_in_the_same_drain(
    client: Client, handlers: Handlers, way: str
) -> None:
    """Jobs put back without a delay are ready, so a worker is not idle yet."""
    register(
        handlers, "a", way, lambda job: Retry(timedelta(0)) if job.attempt < 4 else job.attempt
    )
    job_id = client.enqueue("a").id
    drain(client, handlers)
    assert client.get(job_id).result == 4


@both_ways
def test_snooze_does_not_count_the_attempt(client: Client, handlers: Handlers, way: str) -> None:
    """The job is scheduled anew, and its next attempt has the same number."""
    seen: list[int] = []

    def snooze(job: Job[Any]) -> object:
        seen.append(job.attempt)
        return Snooze(timedelta(0)) if len(seen) < 3 else Snooze(timedelta(hours=1))

    log = Log(handlers)
    register(handlers, "a", way, snooze)
    job_id = client.enqueue("a", max_attempts=1).id
    drain(client, handlers)
    assert seen == [1, 1, 1]
    assert (state(client, job_id), client.get(job_id).attempt) == ("scheduled", 0)
    assert log.outcomes == ["snoozed"] * 3


@both_ways
@pytest.mark.parametrize(
    "returned, expected", [(Skip("nothing new"), "skipped"), (Cancel("no such user"), "cancelled")]
)
def test_skip_and_cancel_finish_the_job_with_their_reason(
    client: Client, handlers: Handlers, way: str, returned: Any, expected: str
) -> None:
    """The job ends in that state, and its history has the reason."""
    log = Log(handlers)
    register(handlers, "a", way, lambda _: returned)
    job_id = client.enqueue("a").id
    drain(client, handlers)
    job = client.get(job_id)
    assert str(job.state) == expected
    assert (job.history[-1].outcome, job.history[-1].error) == (expected, returned.reason)
    assert log.outcomes == [expected]


@pytest.mark.parametrize("result", [object(), float("nan"), "\0", "\ud800", {"a": b""}, {1, 2}])
def test_result_that_is_no_json_fails_the_attempt(
    client: Client, handlers: Handlers, result: object
) -> None:
    """It is found before it is sent, and the error says what to pass."""
    log = Log(handlers)
    handlers.register("a")(lambda _: result)
    job_id = client.enqueue("a", retry=Constant(timedelta(hours=1))).id
    drain(client, handlers)
    assert client.get(job_id).history[0].error_class == "PayloadError"
    assert log.outcomes == ["failed"]


def test_result_that_postgres_refuses_fails_its_own_attempt_only(
    client: Client, handlers: Handlers
) -> None:
    """A number beyond Postgres's range is found by the database; the others succeed."""
    handlers.register("a")(lambda job: 10**200_000 if job.payload["bad"] else "fine")
    jobs = [
        client.enqueue("a", {"bad": n == 13}, retry=Constant(timedelta(hours=1))).id
        for n in range(40)
    ]
    with _long_numbers():
        assert drain(client, handlers) == 0
    states = [state(client, job) for job in jobs]
    assert states.pop(13) == "scheduled"
    assert set(states) == {"succeeded"}
    assert client.get(jobs[13]).history[0].error_class in ("PayloadError", "InvalidJob")


class _long_numbers:  # noqa: N801 - reads as a function
    """Python writes numbers of any length meanwhile."""

    def __enter__(self) -> None:

        self._before = sys.get_int_max_str_digits()
        sys.set_int_max_str_digits(0)

    def __exit__(self, *_: object) -> None:

        sys.set_int_max_str_digits(self._before)


class Unprintable(Exception):
    """An exception without a text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@both_ways
@pytest.mark.parametrize(
    "raised", [ValueError("a\0b\ud800c"), ValueError("x" * 3_000_000), Unprintable()]
)
def test_error_that_cannot_be_stored_as_it_is_still_fails_the_attempt(
    client: Client, handlers: Handlers, way: str, raised: Exception
) -> None:
    """Its text is mended, cut or replaced; the attempt is over at any rate."""

    def fail(_: Job[Any]) -> None:
        raise raised

    register(handlers, "a", way, fail)
    job_id = client.enqueue("a", max_attempts=1).id
    drain(client, handlers)
    job = client.get(job_id)
    assert str(job.state) == "dead"
    assert job.history[0].error_class == type(raised).__qualname__


def test_sync_function_that_returns_a_coroutine_is_told_apart(
    client: Client, handlers: Handlers
) -> None:
    """A decorator that hides `async def` gives an error that says so, not a silent success."""

    async def real() -> None:
        """Never awaited."""

    handlers.register("a")(lambda _: real())
    job_id = client.enqueue("a", max_attempts=1).id
    drain(client, handlers)
    assert "async def" in (client.get(job_id).history[0].error or "")


def test_awaitable_that_is_no_coroutine_is_told_apart(client: Client, handlers: Handlers) -> None:
    """Likewise for futures and the like."""

    class Awaitable:
        def __await__(self) -> Any:
            return iter(())

    handlers.register("a")(lambda _: Awaitable())
    job_id = client.enqueue("a", max_attempts=1).id
    drain(client, handlers)
    assert "async def" in (client.get(job_id).history[0].error or "")


def test_callable_object_with_async_call_is_awaited(client: Client, handlers: Handlers) -> None:
    """It counts as an async handler."""

    class Sender:
        async def __call__(self, job: Job[Any]) -> object:
            await asyncio.sleep(0)
            return job.payload

    handlers.register("a")(Sender())
    job_id = client.enqueue("a", "x").id
    drain(client, handlers)
    assert client.get(job_id).result == "x"


def test_outcomes_are_the_packages_own_names() -> None:
    """They are part of the public API."""
    assert {pgqueue.Retry, pgqueue.Snooze, pgqueue.Skip, pgqueue.Cancel} == {
        Retry,
        Snooze,
        Skip,
        Cancel,
    }
