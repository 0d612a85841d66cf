"""Jobs run inline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest

import pgqueue
from pgqueue import AsyncClient, Client, Handlers, Job, JobState, NewJob, Outcome
from pgqueue.testing import arun_pending, run_pending

HOUR = timedelta(hours=1)


@pytest.fixture
def ran() -> list[Any]:
    """What the handlers saw."""
    return []


@pytest.fixture
def handlers(ran: list[Any]) -> Handlers:
    """Handlers that write down what they see."""
    handlers = Handlers()

    @handlers.register("note", retry=pgqueue.Constant(HOUR))
    def note(job: Job[Any]) -> object:
        ran.append(job.payload)
        return job.payload

    @handlers.register("anote")
    async def anote(job: Job[Any]) -> object:
        await asyncio.sleep(0)
        ran.append(job.payload)
        return job.payload

    @handlers.register("batch", batch=3)
    def batch(jobs: list[Job[Any]]) -> None:
        ran.append([job.payload for job in jobs])

    @handlers.register("fails")
    def fails(_: Job[Any]) -> None:
        raise ZeroDivisionError

    @handlers.register("returns")
    def returns(job: Job[Any]) -> object:
        ran.append(job.payload)
        return {
            "retry": pgqueue.Retry(HOUR, "why"),
            "snooze": pgqueue.Snooze(HOUR),
            "skip": pgqueue.Skip("why"),
            "cancel": pgqueue.Cancel("why"),
        }[job.payload]

    return handlers


Run = Callable[..., list[pgqueue.AttemptEnded]]


@pytest.fixture(params=["sync", "async"])
def run(
    request: pytest.FixtureRequest,
    pgqueue_client: Client,
    pgqueue_async_client: AsyncClient,
    handlers: Handlers,
) -> Run:
    """Runs what is pending in either way."""

    def run_async(**options: Any) -> list[pgqueue.AttemptEnded]:
        return asyncio.run(arun_pending(pgqueue_async_client, handlers, **options))

    def run_sync(**options: Any) -> list[pgqueue.AttemptEnded]:
        return run_pending(pgqueue_client, handlers, **options)

    return run_sync if request.param == "sync" else run_async


def test_all_ready_jobs_run_in_order(pgqueue_client: Client, run: Run, ran: list[Any]) -> None:
    """Of all queues: by priority, then by age; sync and async handlers alike."""
    pgqueue_client.enqueue_many(
        [
            NewJob("note", 1),
            NewJob("anote", 2, queue="other"),
            NewJob("note", 3, priority=9),
            NewJob("anote", 4, priority=0),
            NewJob("unknown", 5),
            NewJob("note", 6, delay=HOUR),
        ]
    )
    events = run()
    assert ran == [4, 1, 2, 3]
    assert [event.outcome for event in events] == [Outcome.SUCCEEDED] * 4
    assert [event.job.payload for event in events] == ran
    assert pgqueue_client.get(events[0].job.id).result == 4
    assert [job.kind for job in pgqueue_client.list(state="ready")] == ["unknown"]
    assert run() == []


def test_queues_are_served_in_the_order_given(
    pgqueue_client: Client, run: Run, ran: list[Any]
) -> None:
    """Other queues are left alone."""
    pgqueue_client.enqueue_many([NewJob("note", q, queue=q, priority=5) for q in "abcab"])
    run(queues=["b", "a"])
    assert ran == ["b", "b", "a", "a"]
    run(queues="c")
    assert ran[4:] == ["c"]


def test_limit_is_kept(pgqueue_client: Client, run: Run, ran: list[Any]) -> None:
    """By batches, too; what is left stays ready."""
    pgqueue_client.enqueue_many([("note", n) for n in range(5)])
    assert len(run(limit=2)) == 2
    assert (ran, pgqueue_client.stats()[0].ready) == ([0, 1], 3)
    run()
    pgqueue_client.enqueue_many([("batch", n) for n in range(5)])
    ran.clear()
    run(limit=4)
    assert ran == [[0, 1, 2], [3]]


def test_jobs_that_handlers_enqueue_run_too(
    pgqueue_client: Client, run: Run, ran: list[Any], handlers: Handlers
) -> None:
    """Until none is left."""

    @handlers.register("chain")
    def chain(job: Job[int]) -> None:
        if job.payload:
            pgqueue_client.enqueue("chain", job.payload - 1)
        ran.append(job.payload)

    pgqueue_client.enqueue("chain", 3)
    run()
    assert ran == [3, 2, 1, 0]


def test_scheduled_jobs_run_on_request(pgqueue_client: Client, run: Run, ran: list[Any]) -> None:
    """Those that wait at the start, in the order of their times; not what is put off meanwhile."""
    pgqueue_client.enqueue_many(
        [
            NewJob("note", 1, delay=2 * HOUR),
            NewJob("note", 2, delay=HOUR, priority=5),
            NewJob("returns", "snooze", delay=3 * HOUR),
            NewJob("note", 3),
            NewJob("note", 4, delay=HOUR, queue="other"),
        ]
    )
    run(scheduled=True, queues="default")
    assert ran == [3, 2, 1, "snooze"]
    assert pgqueue_client.stats()[0].scheduled == 1


def test_outcomes_are_as_in_a_worker(pgqueue_client: Client, run: Run) -> None:
    """What a handler returns decides; the events tell of it."""
    pgqueue_client.enqueue_many(
        [("returns", how) for how in ("retry", "snooze", "skip", "cancel")]
        + [NewJob("returns", "retry", max_attempts=1)]
    )
    events = run()
    assert [event.outcome for event in events] == [
        Outcome.FAILED, Outcome.SNOOZED, Outcome.SKIPPED, Outcome.CANCELLED, Outcome.DEAD,
    ]  # fmt: skip
    assert [pgqueue_client.get(event.job.id).state for event in events] == [
        JobState.SCHEDULED, JobState.SCHEDULED, JobState.SKIPPED, JobState.CANCELLED, JobState.DEAD,
    ]  # fmt: skip


def test_handlers_exception_comes_out(pgqueue_client: Client, run: Run, ran: list[Any]) -> None:
    """Once its job has been failed; the jobs after it stay ready."""
    failing = pgqueue_client.enqueue("fails").id
    pgqueue_client.enqueue("note")
    with pytest.raises(ZeroDivisionError):
        run()
    seen = pgqueue_client.get(failing)
    assert (seen.state, seen.history[0].error_class) == (JobState.SCHEDULED, "ZeroDivisionError")
    assert ran == []


def test_handlers_exception_may_be_left_to_the_job(
    pgqueue_client: Client, run: Run, ran: list[Any]
) -> None:
    """Then all goes on as in a worker, and the event has it."""
    pgqueue_client.enqueue_many([("fails", {}), ("note", 1)])
    failed, succeeded = run(reraise=False)
    assert isinstance(failed.error, ZeroDivisionError)
    assert (failed.outcome, succeeded.outcome) == (Outcome.FAILED, Outcome.SUCCEEDED)
    assert ran == [1]


def test_middleware_and_observers_take_part(
    pgqueue_client: Client, run: Run, ran: list[Any], handlers: Handlers
) -> None:
    """As in a worker."""

    @handlers.middleware
    @contextmanager
    def around(job: Job[Any]) -> Iterator[None]:
        ran.append(f"before {job.kind}")
        yield
        ran.append("after")

    handlers.on_end(lambda event: ran.append(str(event.outcome)))
    pgqueue_client.enqueue("note", 1)
    run()
    assert ran == ["before note", 1, "after", "succeeded"]


def test_handler_may_ack_in_its_own_transaction(
    pgqueue_client: Client, ran: list[Any], handlers: Handlers
) -> None:
    """The job's control is the client."""

    @handlers.register("acks")
    def acks(job: Job[Any]) -> None:
        with psycopg.connect(pgqueue_client.dsn) as conn:
            job.ack(conn=conn, result="mine")
        ran.append(job.id)

    pgqueue_client.enqueue("acks")
    (event,) = run_pending(pgqueue_client, handlers)
    assert (event.outcome, event.job.id) == (Outcome.SUCCEEDED, ran[0])
    assert pgqueue_client.get(ran[0]).result == "mine"


def test_job_that_was_lost_meanwhile_is_told(
    pgqueue_client: Client, run: Run, handlers: Handlers
) -> None:
    """Its ending changes nothing."""

    @handlers.register("gives-away")
    def give_away(job: Job[Any]) -> None:
        pgqueue_client.release(job)

    pgqueue_client.enqueue("gives-away")
    assert [event.outcome for event in run(limit=1)] == [Outcome.LOST]


def test_paused_queues_are_left_alone(pgqueue_client: Client, run: Run, ran: list[Any]) -> None:
    """Until they are resumed."""
    pgqueue_client.enqueue("note", 1)
    pgqueue_client.pause("default")
    assert run() == []
    pgqueue_client.resume("default")
    run()
    assert ran == [1]


def test_arguments_are_checked(run: Run) -> None:
    """Before anything runs."""
    with pytest.raises(pgqueue.InvalidJob):
        run(limit=0)
    with pytest.raises(pgqueue.InvalidJob):
        run(queues=["a b"])
