"""Leases: kept while a worker lives, lost when it does not, and what both mean for handlers."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from pgqueue import Client, Constant, Handlers, Job
from pgqueue.events import Outcome
from pgqueue.worker import heartbeat
from pgqueue.worker.leases import Leases

from .helpers import SECOND, Database, Log, drain, make_job, state, until, working

SOON = Constant(timedelta(milliseconds=1), jitter=0)


@pytest.mark.parametrize("way", ["sync", "async", "blocking"])
def test_job_of_several_leases_runs_once(client: Client, handlers: Handlers, way: str) -> None:
    """The heartbeat renews it: beside a thread, a task, and even a blocked event loop."""
    runs: list[int] = []
    if way == "sync":

        @handlers.register("a")
        def in_thread(job: Job[Any]) -> None:
            runs.append(job.attempt)
            time.sleep(2.5)
    else:

        @handlers.register("a")
        async def on_loop(job: Job[Any]) -> None:
            runs.append(job.attempt)
            if way == "blocking":
                time.sleep(2.5)  # noqa: ASYNC251 - as handlers do that should not
            else:
                await asyncio.sleep(2.5)

    job_id = client.enqueue("a", retry=SOON).id
    with working(client, Handlers_with_upkeep(), poll_interval=SECOND):
        drain(client, handlers, lease=timedelta(seconds=0.5))
    assert runs == [1]
    job = client.get(job_id)
    assert (str(job.state), job.attempt) == ("succeeded", 1)


def Handlers_with_upkeep() -> Handlers:  # noqa: N802 - reads as a class
    """For a second worker, which reaps what the first one lets go."""
    handlers = Handlers()
    handlers.register("nothing")(lambda _: None)
    return handlers


@pytest.mark.parametrize("how", ["reaped", "taken"])
def test_async_handler_is_cancelled_when_its_lease_is_lost(
    client: Client, handlers: Handlers, database: Database, how: str
) -> None:
    """The attempt is lost, and nothing is written for it."""
    started, cancelled = threading.Event(), threading.Event()
    log = Log(handlers)

    @handlers.register("a")
    async def handler(_: Job[Any]) -> None:
        started.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    job_id = client.enqueue("a", retry=Constant(timedelta(hours=1))).id
    with working(client, handlers, lease=SECOND):
        assert started.wait(10)
        if how == "reaped":
            database.expire(job_id)
        else:
            database.query("update job set token = 7, worker = 'other' where id = %s", job_id)
        assert cancelled.wait(10)
        until(lambda: log.outcomes == ["lost"])
    assert [a.outcome for a in client.get(job_id).history] == (
        ["expired"] if how == "reaped" else []
    )


def test_sync_handler_sees_that_its_lease_is_lost(
    client: Client, handlers: Handlers, database: Database
) -> None:
    """`cancel_requested` turns true, and what it returns is ignored."""
    started, stopped = threading.Event(), threading.Event()
    log = Log(handlers)

    @handlers.register("a")
    def handler(job: Job[Any]) -> str:
        assert not job.cancel_requested
        started.set()
        until(lambda: job.cancel_requested)
        stopped.set()
        return "late"

    job_id = client.enqueue("a", retry=Constant(timedelta(hours=1))).id
    with working(client, handlers, lease=SECOND):
        assert started.wait(10)
        database.expire(job_id)
        assert stopped.wait(10)
        until(lambda: log.outcomes == ["lost"])
    assert client.get(job_id).result is None
    assert state(client, job_id) == "scheduled"


def test_late_ack_of_a_lost_job_changes_nothing(
    client: Client, handlers: Handlers, database: Database
) -> None:
    """The heartbeat has not noticed yet: the database refuses, and the observer hears of it."""
    log = Log(handlers)

    @handlers.register("a")
    async def handler(job: Job[Any]) -> None:
        database.query("update job set token = 7 where id = %s", job.id)

    job_id = client.enqueue("a").id
    drain(client, handlers)
    assert log.outcomes == ["lost"]
    assert state(client, job_id) == "claimed"


def test_same_worker_may_claim_a_job_again_that_it_lost(
    client: Client, handlers: Handlers, database: Database
) -> None:
    """The first attempt goes on in its thread; the second is told apart, and counts."""
    first, release = threading.Event(), threading.Event()
    log = Log(handlers)

    @handlers.register("a")
    def handler(job: Job[Any]) -> int:
        if job.attempt == 1:
            first.set()
            assert release.wait(10)
        return job.attempt

    job_id = client.enqueue("a", retry=SOON).id
    with working(client, handlers, lease=SECOND, concurrency=2) as background:
        assert first.wait(10)
        database.expire(job_id)
        until(lambda: state(client, job_id) == "succeeded")
        release.set()
        until(lambda: len(log.events) == 2)
        assert background.stop() == 0
    assert client.get(job_id).result == 2
    assert sorted(log.outcomes) == ["lost", "succeeded"]


def test_job_that_is_lost_while_it_waits_is_not_run(
    client: Client, handlers: Handlers, database: Database
) -> None:
    """It is passed over when its turn comes."""
    started, release = threading.Event(), threading.Event()
    runs: list[int] = []
    log = Log(handlers)

    @handlers.register("a")
    def handler(job: Job[Any]) -> None:
        runs.append(job.id)
        started.set()
        assert release.wait(10)

    jobs = [client.enqueue("a", retry=Constant(timedelta(hours=1))).id for _ in range(2)]
    with working(client, handlers, lease=SECOND, concurrency=1, prefetch=5):
        assert started.wait(10)
        until(lambda: state(client, jobs[1]) == "claimed")
        database.expire(jobs[1])
        until(lambda: log.outcomes == ["lost"])
        release.set()
        until(lambda: len(log.events) == 2)
    assert runs == [jobs[0]]


@pytest.mark.parametrize("way", ["sync", "async"])
def test_cancelled_job_that_waits_is_not_run(client: Client, handlers: Handlers, way: str) -> None:
    """A request to cancel ends it before its turn."""
    started, release = threading.Event(), threading.Event()
    runs: list[int] = []
    if way == "sync":

        @handlers.register("a")
        def in_thread(job: Job[Any]) -> None:
            runs.append(job.id)
            started.set()
            assert release.wait(10)
    else:

        @handlers.register("a")
        async def on_loop(job: Job[Any]) -> None:
            runs.append(job.id)
            started.set()
            while not release.is_set():  # noqa: ASYNC110 - set by a thread
                await asyncio.sleep(0.01)

    jobs = [client.enqueue("a").id for _ in range(2)]
    with working(client, handlers, lease=SECOND, concurrency=1, prefetch=5):
        assert started.wait(10)
        until(lambda: state(client, jobs[1]) == "claimed")
        client.cancel(jobs[1])
        until(lambda: state(client, jobs[1]) == "cancelled")
        release.set()
        until(lambda: state(client, jobs[0]) == "succeeded")
    assert runs == [jobs[0]]


def test_cancelled_async_handler_is_stopped(client: Client, handlers: Handlers) -> None:
    """Its task is cancelled with the next heartbeat, and the job ends as cancelled."""
    started = threading.Event()
    log = Log(handlers)

    @handlers.register("a")
    async def handler(_: Job[Any]) -> None:
        started.set()
        await asyncio.sleep(30)

    job_id = client.enqueue("a").id
    with working(client, handlers, lease=SECOND):
        assert started.wait(10)
        client.cancel(job_id)
        until(lambda: state(client, job_id) == "cancelled")
        until(lambda: log.outcomes == ["cancelled"])


@pytest.mark.parametrize("way", ["sync", "async"])
def test_cancelled_handler_may_end_as_it_sees_fit(
    client: Client, handlers: Handlers, way: str
) -> None:
    """It has nearly done its work, and says so."""
    started = threading.Event()
    if way == "sync":

        @handlers.register("a")
        def in_thread(job: Job[Any]) -> str:
            started.set()
            until(lambda: job.cancel_requested)
            return "done"
    else:

        @handlers.register("a")
        async def on_loop(_: Job[Any]) -> str:
            started.set()
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                return "done"
            return "never"

    job_id = client.enqueue("a").id
    with working(client, handlers, lease=SECOND):
        assert started.wait(10)
        client.cancel(job_id)
        until(lambda: state(client, job_id) == "succeeded")
    assert client.get(job_id).result == "done"


def test_cancelled_handler_that_fails_is_cancelled_not_retried(
    client: Client, handlers: Handlers
) -> None:
    """The database ends such a job, and the observer hears the same."""
    started = threading.Event()
    log = Log(handlers)

    @handlers.register("a")
    def handler(job: Job[Any]) -> None:
        started.set()
        until(lambda: job.cancel_requested)
        raise ValueError("stopped")

    job_id = client.enqueue("a").id
    with working(client, handlers, lease=SECOND):
        assert started.wait(10)
        client.cancel(job_id)
        until(lambda: log.outcomes == ["cancelled"])
    assert state(client, job_id) == "cancelled"


def test_one_job_of_a_batch_is_not_cancelled_alone(client: Client, handlers: Handlers) -> None:
    """Its handler may look; the others of the batch are not disturbed."""
    started = threading.Event()
    seen: list[bool] = []

    @handlers.register("a", batch=2)
    async def handler(jobs: list[Job[Any]]) -> None:
        started.set()
        while not any(job.cancel_requested for job in jobs):  # noqa: ASYNC110 - looks
            await asyncio.sleep(0.01)
        seen.extend(job.cancel_requested for job in jobs)

    jobs = [client.enqueue("a").id for _ in range(2)]
    with working(client, handlers, lease=SECOND):
        assert started.wait(10)
        client.cancel(jobs[1])
        until(lambda: state(client, jobs[0]) == "succeeded")
    assert sorted(seen) == [False, True]


def test_uncommitted_cancel_costs_no_other_lease(
    client: Client, handlers: Handlers, database: Database
) -> None:
    """Somebody's open transaction has a running job's row locked for several leases."""
    started = threading.Event()
    runs: list[int] = []
    with psycopg.connect(client.dsn) as conn:

        @handlers.register("a")
        async def handler(job: Job[Any]) -> None:
            runs.append(job.id)
            if len(runs) == 10:
                started.set()
            await asyncio.sleep(3)

        jobs = [client.enqueue("a", retry=SOON).id for _ in range(10)]
        with working(client, handlers, lease=SECOND):
            assert started.wait(10)
            client.cancel(jobs[4], conn=conn)
            others = [job for job in jobs if job != jobs[4]]
            until(lambda: all(state(client, job) == "succeeded" for job in others))
            conn.rollback()
            until(lambda: state(client, jobs[4]) == "succeeded")
    # The locked one's lease is over by then: the heartbeat and the reaper race for it.
    assert sorted(job for job in runs if job != jobs[4]) == others
    assert not database.query("select 1 from archive where attempt > 1 and id <> %s", jobs[4])


def test_heartbeat_survives_its_connection_and_any_error(
    client: Client,
    handlers: Handlers,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Sessions are cut, and an unforeseen error comes on top: the lease is kept."""
    runs: list[int] = []
    renew = heartbeat.Heartbeat._renew
    calls: list[bool] = []

    async def broken_once(self: heartbeat.Heartbeat, due: Any) -> None:
        calls.append(True)
        if len(calls) == 2:
            raise RuntimeError("unforeseen")
        await renew(self, due)

    monkeypatch.setattr(heartbeat.Heartbeat, "_renew", broken_once)

    @handlers.register("a")
    async def handler(job: Job[Any]) -> None:
        runs.append(job.attempt)
        for _ in range(5):
            await asyncio.sleep(0.5)
            database.cut_connections()

    job_id = client.enqueue("a", retry=SOON).id
    client.close()
    with working(client.dsn, handlers, lease=timedelta(seconds=1.5)):
        until(lambda: database.query("select 1 from archive where id = %s", job_id))
    assert runs == [1]
    assert "unforeseen" in caplog.text


# The book-keeping alone


def test_renewals_are_due_by_the_time_at_which_the_claim_was_sent() -> None:
    """A lease counts from before the answer."""
    leases = Leases()
    job = make_job()
    leases.hold([job], sent_at=100.0)
    assert leases.due(104.0, 5.0) == []
    assert leases.due(105.0, 5.0) == [job]
    leases.renewed([job], 105.0)
    assert leases.due(109.0, 5.0) == []


def test_what_is_dropped_is_not_renewed() -> None:
    """Neither is what another claim of the same job replaced."""
    leases = Leases()
    old, new = make_job(token=1), make_job(token=2)
    leases.hold([old], 0.0)
    leases.hold([new], 0.0)
    leases.drop(old)
    assert leases.due(10.0, 1.0) == [new]
    leases.drop(new)
    assert (leases.due(10.0, 1.0), leases._renewed, len(leases)) == ([], {}, 0)


def test_request_to_stop_is_for_one_claim_only() -> None:
    """A later claim of the same job is wanted."""
    leases = Leases()
    old, new = make_job(token=1), make_job(token=2)
    leases.hold([old], 0.0)
    leases.ask_to_stop(old, Outcome.CANCELLED)
    assert leases.unwanted(old) is Outcome.CANCELLED
    leases.hold([new], 0.0)
    assert leases.unwanted(old) is Outcome.LOST
    assert leases.unwanted(new) is None


def test_claim_added_while_renewals_are_looked_up_stays_due() -> None:
    """The heartbeat's thread must not take a new claim's time for a left-over."""
    leases = Leases()
    first, second = make_job(token=1), make_job(id=2, token=2)
    leases.hold([first], 0.0)

    class Slow(dict[int, Any]):
        """While the held jobs are listed, another claim comes."""

        def values(self) -> Any:
            found = list(super().values())
            if second.id not in self:
                leases.hold([second], 0.0)
            return found

    leases._held = Slow(leases._held)
    leases.due(10.0, 1.0)
    assert leases.due(10.0, 1.0) == [first, second]
