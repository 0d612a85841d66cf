"""Handlers that take several jobs in one call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from pgqueue import Cancel, Client, Constant, Handlers, Job, Retry, Skip, Snooze

from .helpers import Log, drain, state

HOUR = timedelta(hours=1)


def register(
    handlers: Handlers, way: str, body: Callable[[list[Job[Any]]], object], batch: int = 10
) -> None:
    """Registers `body` as a sync or an async batch handler of the kind a."""
    if way == "sync":
        handlers.register("a", batch=batch)(body)
        return

    async def handler(jobs: list[Job[Any]]) -> object:
        await asyncio.sleep(0)
        return body(jobs)

    handlers.register("a", batch=batch)(handler)


both_ways = pytest.mark.parametrize("way", ["sync", "async"])


def enqueue(client: Client, count: int, **options: Any) -> list[int]:
    """Enqueues numbered jobs of the kind a; returns their ids."""
    return [client.enqueue("a", {"n": n}, **options).id for n in range(count)]


@both_ways
def test_calls_are_no_larger_than_the_batch(client: Client, handlers: Handlers, way: str) -> None:
    """All jobs are run, in as few calls as their number allows."""
    sizes: list[int] = []
    register(handlers, way, lambda jobs: sizes.append(len(jobs)), batch=4)
    jobs = enqueue(client, 10)
    drain(client, handlers, concurrency=2, prefetch=10)
    assert sum(sizes) == 10
    assert max(sizes) == 4
    assert {state(client, job) for job in jobs} == {"succeeded"}


@both_ways
def test_list_of_values_ends_each_job_in_its_own_way(
    client: Client, handlers: Handlers, way: str
) -> None:
    """Results and outcomes may be mixed, in the order of the jobs."""
    values: list[Any] = [
        {"r": 1},
        None,
        Retry(HOUR),
        Snooze(HOUR),
        Skip("s"),
        Cancel("c"),
        object(),
    ]
    log = Log(handlers)
    register(handlers, way, lambda jobs: [values[job.payload["n"]] for job in jobs])
    jobs = enqueue(client, len(values), retry=Constant(HOUR))
    drain(client, handlers)
    states = [state(client, job) for job in jobs]
    assert states == [
        "succeeded", "succeeded", "scheduled", "scheduled", "skipped", "cancelled", "scheduled",
    ]  # fmt: skip
    assert client.get(jobs[0]).result == {"r": 1}
    assert sorted(log.outcomes) == sorted(
        ["succeeded", "succeeded", "failed", "snoozed", "skipped", "cancelled", "failed"]
    )


@both_ways
@pytest.mark.parametrize("returned", [[], [1, 2], "abc", 7, {"a": 1}])
def test_wrong_return_value_fails_the_whole_batch(
    client: Client, handlers: Handlers, way: str, returned: object
) -> None:
    """Nobody can tell which value is whose."""
    register(handlers, way, lambda _: returned)
    jobs = enqueue(client, 3, max_attempts=1)
    drain(client, handlers)
    assert [state(client, job) for job in jobs] == ["dead"] * 3
    assert "one per job" in (client.get(jobs[0]).history[0].error or "")


@both_ways
def test_exception_fails_the_whole_batch(client: Client, handlers: Handlers, way: str) -> None:
    """Every job of the call has failed."""

    def fail(_: list[Job[Any]]) -> None:
        raise ValueError("all of them")

    register(handlers, way, fail)
    jobs = enqueue(client, 3, max_attempts=1)
    drain(client, handlers)
    assert [client.get(job).history[0].error for job in jobs] == ["all of them"] * 3


def test_kinds_are_not_mixed_in_a_batch(client: Client, handlers: Handlers) -> None:
    """Each call has jobs of one kind, single ones are called as such."""
    seen: list[tuple[str, int]] = []
    for kind in ("a", "b"):

        @handlers.register(kind, batch=5)
        def many(jobs: list[Job[Any]]) -> None:
            seen.append((jobs[0].kind, len(jobs)))
            assert len({job.kind for job in jobs}) == 1

    handlers.register("c")(lambda job: seen.append((job.kind, 1)))
    client.enqueue_many([(kind, {}) for kind in "abcabcab"])
    drain(client, handlers, prefetch=8, concurrency=1)
    assert sorted(seen) == [("a", 3), ("b", 3), ("c", 1), ("c", 1)]


def test_handler_may_change_its_list(client: Client, handlers: Handlers) -> None:
    """The list is its own: what it takes out is ended all the same."""
    register(handlers, "sync", lambda jobs: jobs.clear())
    jobs = enqueue(client, 3)
    drain(client, handlers)
    assert [state(client, job) for job in jobs] == ["succeeded"] * 3


@both_ways
def test_batch_that_takes_too_long_fails_whole(
    client: Client, handlers: Handlers, way: str
) -> None:
    """A timeout is one of the call, and so of all its jobs."""
    if way == "async":

        @handlers.register("a", batch=5, timeout=timedelta(milliseconds=30))
        async def slow(_: list[Job[Any]]) -> None:
            await asyncio.sleep(10)
    else:

        @handlers.register("a", batch=5, timeout=timedelta(milliseconds=30))
        def slow_too(_: list[Job[Any]]) -> None:
            time.sleep(0.2)

    jobs = enqueue(client, 3, max_attempts=1)
    drain(client, handlers)
    assert [client.get(job).history[0].error_class for job in jobs] == ["TimedOut"] * 3
