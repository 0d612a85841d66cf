"""A worker brings the schedules of its handlers up to date, and fires what is due."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest

from pgqueue import AsyncClient, Client, Handlers, InvalidSchedule, Job, Schedule, Worker

from .helpers import Database, drain, until, working

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _no_schedules(database: Database) -> Iterator[None]:
    """The database is shared."""
    yield
    database.query("with r as (delete from schedule_run) delete from schedule")


def declared(*names: str, every: timedelta = HOUR) -> Handlers:
    """Handlers of an application with schedules of these names."""
    handlers = Handlers(declared_by="shop")

    @handlers.register("k")
    def k(job: Job) -> None:
        """Nothing."""

    for name in names:
        handlers.schedule(name, k, every=every)
    return handlers


def names(client: Client) -> list[str]:
    """Of all schedules."""
    return [schedule.name for schedule in client.schedules.list()]


def test_worker_makes_the_schedules_what_they_are_declared(client: Client) -> None:
    """New ones, fewer ones, none; data stays."""
    client.schedules.put(Schedule("data", "k", every=HOUR))
    drain(client, declared("a", "b"))
    assert names(client) == ["a", "b", "data"]
    assert client.schedules.get("a").declared_by == "shop"
    drain(client, declared("b", "c"))
    assert names(client) == ["b", "c", "data"]
    drain(client, declared())
    assert names(client) == ["data"]


def test_worker_in_a_loop_does_so_too(client: Client) -> None:
    """And one whose handlers have no name changes nothing."""

    async def run(handlers: Handlers) -> None:
        async with AsyncClient(client.dsn) as own:
            await Worker(own, handlers).run_async(until_idle=True)

    asyncio.run(run(declared("a")))
    assert names(client) == ["a"]
    nameless = Handlers()
    nameless.register("k")(lambda _: None)
    asyncio.run(run(nameless))
    assert names(client) == ["a"]


def test_worker_does_not_start_with_schedules_that_cannot_be(client: Client) -> None:
    """As with a name that another application declares."""
    client.schedules.sync([Schedule("a", "k", every=HOUR)], "other")
    with pytest.raises(InvalidSchedule, match="is declared by 'other'"):
        drain(client, declared("a"))


def test_worker_fires_and_runs_what_is_due(client: Client) -> None:
    """Each slot once; it sleeps no longer than until the next one."""
    handlers = Handlers(declared_by="shop")
    seen: list[str] = []

    @handlers.register("k")
    def k(job: Job) -> None:
        assert job.metadata is not None
        seen.append(job.metadata["slot"])

    handlers.schedule("s", k, every=timedelta(seconds=1), catch_up=10)
    with working(client, handlers):
        until(lambda: len(seen) >= 2)
    assert len(seen) == len(set(seen))
    late = [run.fired_at - run.slot for run in client.schedules.runs("s")]
    assert min(late) < timedelta(seconds=0.9)
