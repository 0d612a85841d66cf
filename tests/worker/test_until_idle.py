"""`run(until_idle=True)`: neither too early nor never."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from pgqueue import Client, Constant, Handlers, Job, Retry
from pgqueue.worker.idleness import Idleness
from pgqueue.worker.leases import Leases
from pgqueue.worker.upkeep import Upkeep

from .helpers import Background, Database, drain, make_job, pgqueue, state, until


def test_ends_at_once_when_there_is_nothing(client: Client, handlers: Handlers) -> None:
    """Within a moment, with exit code 0."""
    handlers.register("a")(lambda _: None)
    started = time.monotonic()
    assert drain(client, handlers, poll_interval=timedelta(seconds=30)) == 0
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("first", ["sync", "async"])
def test_jobs_that_handlers_enqueue_for_each_other_are_run(
    client: Client, handlers: Handlers, first: str
) -> None:
    """A chain goes back and forth between threads and tasks; neither side may leave early."""
    kinds = {"sync": "async", "async": "sync"}

    def follow(job: Job[Any]) -> None:
        time.sleep(0.02)
        if job.payload:
            client.enqueue(kinds[job.kind], job.payload - 1)

    handlers.register("sync")(follow)

    @handlers.register("async")
    async def on_loop(job: Job[Any]) -> None:
        await asyncio.to_thread(follow, job)

    client.enqueue(first, 7)
    drain(client, handlers)
    assert [str(job.state) for job in client.list()] == ["succeeded"] * 8


def test_waits_for_the_slowest_handler(client: Client, handlers: Handlers) -> None:
    """What was claimed has ended when it returns."""

    @handlers.register("a")
    def slow(_: Job[Any]) -> None:
        time.sleep(0.3)

    job = client.enqueue("a").id
    drain(client, handlers)
    assert state(client, job) == "succeeded"


def test_retries_without_delay_are_waited_for(client: Client, handlers: Handlers) -> None:
    """They are ready again by the time their endings are known."""
    handlers.register("a")(lambda job: Retry(timedelta(0)) if job.attempt < 10 else None)
    jobs = [client.enqueue("a").id for _ in range(20)]
    drain(client, handlers, concurrency=3)
    assert {state(client, job) for job in jobs} == {"succeeded"}


def test_due_jobs_that_nobody_promoted_yet_are_run(client: Client, handlers: Handlers) -> None:
    """They are due, so the worker is not idle."""
    handlers.register("a")(lambda _: None)
    job = client.enqueue("a", delay=timedelta(milliseconds=50)).id
    time.sleep(0.06)
    drain(client, handlers)
    assert state(client, job) == "succeeded"


def test_jobs_of_the_future_are_not_waited_for(client: Client, handlers: Handlers) -> None:
    """Neither scheduled ones nor those that back off."""

    @handlers.register("a")
    def fail(_: Job[Any]) -> None:
        raise ValueError

    jobs = [
        client.enqueue("a", delay=timedelta(hours=1)).id,
        client.enqueue("a", retry=Constant(timedelta(hours=1))).id,
    ]
    drain(client, handlers)
    assert {state(client, job) for job in jobs} == {"scheduled"}


def test_jobs_of_other_workers_are_not_waited_for(client: Client, handlers: Handlers) -> None:
    """What another process holds is its own business."""
    handlers.register("a")(lambda _: None)
    client.enqueue("a")
    client.claim()
    drain(client, handlers)


def test_jobs_below_the_floor_are_found(client: Client, handlers: Handlers) -> None:
    """One that was enqueued before many others, and committed after they had run."""
    handlers.register("a")(lambda _: None)
    with psycopg.connect(client.dsn) as conn:
        late = client.enqueue("a", conn=conn).id
        client.enqueue_many([("a", None)] * 5_000)
        background = Background(pgqueue.Worker(client, handlers), until_idle=True).start()
        until(lambda: (health := background.worker.health()) is None or health.settled > 3_000)
        conn.commit()
    background.end()
    assert state(client, late) == "succeeded"


def test_several_drains_of_one_worker(client: Client, handlers: Handlers) -> None:
    """The same object may run again and again."""
    seen: list[Any] = []
    handlers.register("a")(lambda job: seen.append(job.payload))
    worker = pgqueue.Worker(client, handlers)
    for n in range(3):
        client.enqueue("a", n)
        assert worker.run(until_idle=True) == 0
    assert seen == [0, 1, 2]


def test_maintenance_that_fails_delays_the_end_only(
    client: Client, handlers: Handlers, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows then whether jobs are due, so it is asked again."""
    real = Upkeep.round
    calls: list[bool] = []

    async def broken(self: Upkeep) -> bool:
        calls.append(True)
        if len(calls) <= 3:
            raise psycopg.errors.QueryCanceled
        return await real(self)

    monkeypatch.setattr(Upkeep, "round", broken)
    monkeypatch.setattr("pgqueue.worker.engine.LAST_SECONDS", 0.1)
    handlers.register("a")(lambda _: None)
    drain(client, handlers)
    assert len(calls) > 3
    del database


def test_jobs_that_others_made_ready_after_the_last_look_are_run(
    client: Client, handlers: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own maintenance then finds nothing left to do."""
    look, maintain = Idleness.saw_nothing, Upkeep.round
    idle: list[bool] = []
    jobs: list[int] = []

    def saw_nothing(self: Idleness, loop: object, moves: int) -> None:
        look(self, loop, moves)
        idle.append(self.reached.is_set())

    async def too_late(self: Upkeep) -> bool:
        if any(idle) and not jobs:
            jobs.append(client.enqueue("a").id)
            return False
        return await maintain(self)

    monkeypatch.setattr(Idleness, "saw_nothing", saw_nothing)
    monkeypatch.setattr(Upkeep, "round", too_late)
    handlers.register("a")(lambda _: None)
    drain(client, handlers)
    assert [state(client, job) for job in jobs] == ["succeeded"]


def test_idleness_needs_every_loop_to_look_after_the_last_move() -> None:
    """One that looked before a job came or went has to look again."""

    async def main() -> None:
        leases = Leases()
        idleness = Idleness(leases, loops=2)
        idleness.saw_nothing("one", leases.moves)
        assert not idleness.reached.is_set()
        job = make_job()
        leases.hold([job], 0.0)
        idleness.saw_nothing("two", leases.moves)
        assert not idleness.still()
        leases.drop(job)
        idleness.saw_nothing("two", leases.moves)
        assert not idleness.reached.is_set()
        idleness.saw_nothing("one", leases.moves)
        assert idleness.reached.is_set()
        assert idleness.still()
        leases.hold([job], 0.0)
        assert not idleness.still()
        idleness.reset()
        assert not idleness.reached.is_set()

    asyncio.run(main())


def test_worker_in_another_thread(client: Client, handlers: Handlers) -> None:
    """It handles no signals there, and does everything else."""
    names: list[str] = []
    handlers.register("a")(lambda _: names.append(threading.current_thread().name))
    client.enqueue("a")
    background = Background(pgqueue.Worker(client, handlers), until_idle=True).start()
    assert background.end() == 0
    assert names == ["pgqueue-handler-1"]
