"""Which jobs a worker claims, and how many at a time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest

from pgqueue import Client, Constant, Handlers, Job
from pgqueue.worker import settle, upkeep
from pgqueue.worker.options import Options

from .helpers import DEADLINE, SECOND, Database, Log, drain, state, until, working


def held(database: Database) -> int:
    """How many jobs are claimed."""
    ((count,),) = database.query("select count(*) from job where lease_until is not null")
    return int(count)


def test_only_registered_kinds_are_claimed(client: Client) -> None:
    """Workers of an older release leave new jobs to those that know them."""
    old, new = Handlers(), Handlers()
    seen: list[tuple[str, str]] = []
    old.register("a")(lambda job: seen.append(("old", job.kind)))
    for kind in ("a", "b"):
        new.register(kind)(lambda job: seen.append(("new", job.kind)))
    for kind in "abab":
        client.enqueue(kind)
    drain(client, old)
    assert seen == [("old", "a")] * 2
    drain(client, new)
    assert seen[2:] == [("new", "b")] * 2


def test_only_the_given_queues_are_served(client: Client, handlers: Handlers) -> None:
    """One, or several."""
    seen: list[str] = []
    handlers.register("a")(lambda job: seen.append(job.queue))
    for queue in ("x", "y", "z"):
        client.enqueue("a", queue=queue)
    drain(client, handlers, queues="x")
    drain(client, handlers, queues=["z", "y"])
    assert seen[0] == "x"
    assert sorted(seen[1:]) == ["y", "z"]


def test_paused_queue_is_left_alone(client: Client, handlers: Handlers) -> None:
    """Until it is resumed."""
    handlers.register("a")(lambda _: None)
    job = client.enqueue("a").id
    client.pause("default")
    drain(client, handlers)
    assert state(client, job) == "ready"
    client.resume("default")
    drain(client, handlers)
    assert state(client, job) == "succeeded"


def test_urgent_jobs_run_first(client: Client, handlers: Handlers) -> None:
    """Priority 0 before 9, and first come, first served among equals, but for one claim in 16."""
    seen: list[int] = []
    handlers.register("a")(lambda job: seen.append(job.priority))
    client.enqueue_many([("a", None)] * 3)
    for priority in (9, 0, 4):
        client.enqueue("a", priority=priority)
    drain(client, handlers, concurrency=1, prefetch=50)
    assert sorted(seen) == [0, 4, 5, 5, 5, 9]


def test_weights_decide_how_often_a_queue_comes_first() -> None:
    """A queue of weight 3 does so three times as often as one of weight 1; none starves."""
    options = Options(
        queues={"a": 3, "b": 1},
        concurrency=1,
        lease=SECOND,
        poll_interval=SECOND,
        shutdown_timeout=SECOND,
    )
    first = Counter(options.order()[0] for _ in range(4_000))
    assert 2.5 < first["a"] / first["b"] < 3.6
    assert all(sorted(options.order()) == ["a", "b"] for _ in range(10))


def test_slow_jobs_are_not_hoarded(client: Client, handlers: Handlers, database: Database) -> None:
    """One consumer that is busy holds one job; the others stay ready for other workers."""
    started, release = threading.Event(), threading.Event()

    @handlers.register("a")
    def slow(_: Job[Any]) -> None:
        started.set()
        assert release.wait(10)

    client.enqueue_many([("a", None)] * 20)
    with working(client, handlers, concurrency=1):
        assert started.wait(10)
        time.sleep(0.2)
        assert held(database) == 1
        release.set()
        until(lambda: not database.query("select 1 from job"))


@pytest.mark.parametrize("prefetch, expected", [(0, 2), (5, 7)])
def test_prefetch_is_held_beyond_what_runs(
    client: Client, handlers: Handlers, database: Database, prefetch: int, expected: int
) -> None:
    """Exactly so many."""
    release = threading.Event()
    running: list[int] = []

    @handlers.register("a")
    def slow(job: Job[Any]) -> None:
        running.append(job.id)
        assert release.wait(10)

    client.enqueue_many([("a", None)] * 20)
    with working(client, handlers, concurrency=2, prefetch=prefetch):
        until(lambda: len(running) == 2 and held(database) == expected)
        time.sleep(0.1)
        assert held(database) == expected
        release.set()
        until(lambda: not database.query("select 1 from job"))


def test_jobs_that_wait_behind_a_slow_one_are_given_back(
    client: Client, handlers: Handlers, database: Database
) -> None:
    """Claimed when jobs were fast, they are released when one is not, without counting."""
    release = threading.Event()
    log = Log(handlers)

    @handlers.register("a")
    def handler(job: Job[Any]) -> None:
        if job.payload == "slow":
            assert release.wait(20)

    client.enqueue_many([("a", None)] * 3_000 + [("a", "slow")] + [("a", None)] * 1_000)
    with working(client, handlers, concurrency=1):
        until(lambda: "released" in log.outcomes)
        until(lambda: held(database) == 1)
        assert not database.query("select 1 from job where lease_until is null and attempt > 0")
        other = Handlers()
        other.register("a")(lambda _: None)
        drain(client, other)
        assert held(database) == 1
        release.set()
        until(lambda: not database.query("select 1 from job"))
    assert not database.query("select 1 from archive where attempt > 1")


@pytest.mark.parametrize("way", ["sync", "async"])
def test_next_job_follows_at_once(client: Client, handlers: Handlers, way: str) -> None:
    """A consumer that becomes free gets its next job without a pause to speak of."""
    times: list[tuple[float, float]] = []
    if way == "sync":

        @handlers.register("a")
        def in_thread(_: Job[Any]) -> None:
            started = time.monotonic()
            time.sleep(0.02)
            times.append((started, time.monotonic()))
    else:

        @handlers.register("a")
        async def on_loop(_: Job[Any]) -> None:
            started = time.monotonic()
            await asyncio.sleep(0.02)
            times.append((started, time.monotonic()))

    client.enqueue_many([("a", None)] * 20)
    drain(client, handlers, concurrency=1, prefetch=0)
    pauses = sorted(after[0] - before[1] for before, after in pairwise(times))
    assert pauses[len(pauses) // 2] < 0.025, pauses


def test_two_workers_share_the_work_and_run_nothing_twice(
    client: Client, database: Database
) -> None:
    """Each job runs once, and each worker gets some."""
    runs: Counter[int] = Counter()
    names: Counter[str] = Counter()
    lock = threading.Lock()
    both = []
    for name in ("one", "two"):
        handlers = Handlers()

        @handlers.register("a")
        async def handler(job: Job[Any], name: str = name) -> None:
            await asyncio.sleep(0.001)
            with lock:
                runs[job.id] += 1
                names[name] += 1

        both.append(handlers)
    client.enqueue_many([("a", None)] * 2_000)
    with (
        working(client, both[0], concurrency=10, name="one"),
        working(client, both[1], concurrency=10, name="two"),
    ):
        until(lambda: not database.query("select 1 from job limit 1"))
    assert len(runs) == 2_000
    assert set(runs.values()) == {1}
    assert min(names.values()) > 100
    workers = {name.partition(":")[0] for (name,) in database.query("select worker from archive")}
    assert workers == {"one", "two"}


def test_scheduled_jobs_are_promoted_by_the_workers_upkeep(
    client: Client, handlers: Handlers
) -> None:
    """A job with a delay starts soon after it is due, and not before."""
    times: list[datetime] = []
    handlers.register("a")(lambda _: times.append(datetime.now(timezone.utc)))
    with working(client, handlers, poll_interval=timedelta(seconds=0.1)):
        job = client.enqueue("a", delay=timedelta(seconds=0.3)).id
        until(lambda: times)
    waited = times[0] - client.get(job).run_at
    assert timedelta(0) <= waited < timedelta(seconds=3)


def test_upkeep_comes_when_the_next_job_is_due(
    client: Client, handlers: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However rare its rounds are."""
    monkeypatch.setattr(upkeep, "BUSY_INTERVAL", 3600.0)
    monkeypatch.setattr(upkeep, "IDLE_INTERVAL", 3600.0)
    ran = threading.Event()
    handlers.register("a")(lambda _: ran.set())
    client.enqueue("a", delay=timedelta(seconds=0.5))
    with working(client, handlers, poll_interval=timedelta(seconds=0.1)):
        assert ran.wait(DEADLINE)


def test_jobs_of_dead_workers_are_reaped_by_the_workers_upkeep(
    client: Client, handlers: Handlers, database: Database
) -> None:
    """Their leases ran out; the attempt counts, and the next one follows its backoff."""
    job = client.enqueue("a", retry=Constant(timedelta(milliseconds=10))).id
    client.claim(lease=timedelta(milliseconds=1))
    handlers.register("a")(lambda job: job.attempt)
    with working(client, handlers, poll_interval=timedelta(seconds=0.1)):
        until(lambda: database.query("select 1 from archive where id = %s", job))
    assert client.get(job).result == 2


def test_claims_go_on_while_many_endings_wait(
    client: Client, handlers: Handlers, monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    """Only when far too many wait does claiming stop, until the database has caught up."""
    monkeypatch.setattr(settle, "TOO_MANY", 1)
    monkeypatch.setattr(settle, "GATHER", 0.05)

    @handlers.register("a")
    async def handler(_: Job[Any]) -> None:
        """Ends at once."""

    client.enqueue_many([("a", None)] * 30)
    drain(client, handlers, concurrency=5)
    assert not database.query("select 1 from job")
