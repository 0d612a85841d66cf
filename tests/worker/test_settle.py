"""Endings on their way to the database: none is forgotten, and none holds up the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from pgqueue import (
    AttemptEnded,
    Client,
    DatabaseUnavailable,
    Handlers,
    InvalidJob,
    Job,
    PayloadError,
    SchemaMissing,
)
from pgqueue.drivers import AsyncDriver
from pgqueue.events import Outcome
from pgqueue.statements import Statements
from pgqueue.worker import settle
from pgqueue.worker.attempts import AttemptLog
from pgqueue.worker.leases import Leases
from pgqueue.worker.link import Link
from pgqueue.worker.runner import Ending
from pgqueue.worker.settle import Settler

from .helpers import Database, state


class Bench:
    """A settler on a real connection, whose statements may be made to fail."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.link = Link(AsyncDriver(client.dsn, "pgqueue", 1), "test")
        self.leases = Leases()
        self.events: list[AttemptEnded] = []
        self.sent: list[int] = []
        self.fail: Callable[[int], Exception | None] = lambda _: None
        self.settler = Settler(
            self.link,
            Statements("pgqueue"),
            self.leases,
            timedelta(seconds=30),
            self.events.append,
            Handlers().redacted,
            AttemptLog(Handlers().redacted, "test"),
        )
        self._try_run = self.link.try_run
        self.link.try_run = self.try_run  # type: ignore[method-assign]

    async def try_run(self, statement: Any) -> Any:
        """Counts the jobs in a statement, and fails it if told to."""
        count = len(statement.params[0].strip("{}").split(","))
        self.sent.append(count)
        if (error := self.fail(count)) is not None:
            raise error
        return await self._try_run(statement)

    def claim(self, count: int) -> list[Job[Any]]:
        """Claims new jobs, and holds them."""
        for _ in range(count):
            self.client.enqueue("a")
        jobs = self.client.claim(limit=count)
        self.leases.hold(jobs, 0.0)
        return jobs

    async def settle(self, endings: list[Ending]) -> None:
        """Sends `endings`, to the last."""
        self.settler.add(endings)
        self.settler.close()
        await asyncio.wait_for(self.settler.run(), 15)
        await self.link.close()


@pytest.fixture
def run(client: Client) -> Callable[[Callable[[Bench], Coroutine[Any, Any, None]]], None]:
    """Runs a test's body with a bench."""

    def start(body: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            await body(Bench(client))

        asyncio.run(main())

    return start


def succeeded(jobs: list[Job[Any]]) -> list[Ending]:
    """Good endings."""
    return [Ending(job, Outcome.SUCCEEDED) for job in jobs]


def test_many_endings_are_few_statements(run: Any) -> None:
    """One for each outcome, however many there are."""

    async def body(bench: Bench) -> None:
        jobs = bench.claim(60)
        endings = succeeded(jobs[:40])
        endings += [Ending(job, Outcome.SKIPPED) for job in jobs[40:50]]
        endings += [Ending(job, Outcome.RELEASED) for job in jobs[50:]]
        await bench.settle(endings)
        assert sorted(bench.sent) == [10, 10, 40]
        assert bench.settler.settled == 60
        assert len(bench.leases) == 0

    run(body)


def test_large_results_are_sent_in_parts(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No statement grows without bound."""
    monkeypatch.setattr(settle, "MOST_TEXT", 1_000)

    async def body(bench: Bench) -> None:
        jobs = bench.claim(6)
        text = '"' + "x" * 600 + '"'
        await bench.settle([Ending(job, Outcome.SUCCEEDED, result=text) for job in jobs])
        assert bench.sent == [2, 2, 2]

    run(body)


def test_first_ending_of_an_attempt_counts(run: Any) -> None:
    """Whether the second one comes in the same round or later."""

    async def body(bench: Bench) -> None:
        (job,) = bench.claim(1)
        bench.settler.add([Ending(job, Outcome.SKIPPED), Ending(job, Outcome.SUCCEEDED)])
        await bench.settle([Ending(job, Outcome.CANCELLED)])
        bench.settler.add(succeeded([job]))
        await bench.settler.run()
        assert [str(event.outcome) for event in bench.events] == ["skipped"]
        assert state(bench.client, job.id) == "skipped"

    run(body)


def test_one_refused_ending_is_found_among_many(run: Any) -> None:
    """By halves: the others go through, and it fails with what the database says."""

    async def body(bench: Bench) -> None:
        jobs = bench.claim(16)
        bad = jobs[5].id

        async def refuse(statement: Any) -> Any:
            if str(bad) in statement.params[0].strip("{}").split(",") and ".ack(" in statement.sql:
                bench.sent.append(0)
                raise PayloadError("not that one")
            return await bench._try_run(statement)

        bench.link.try_run = refuse  # type: ignore[method-assign]
        await bench.settle(succeeded(jobs))
        assert len(bench.sent) == 5
        outcomes = {event.job.id: str(event.outcome) for event in bench.events}
        assert outcomes.pop(bad) == "failed"
        assert set(outcomes.values()) == {"succeeded"}
        assert bench.client.get(bad).history[0].error == "not that one"

    run(body)


@pytest.mark.parametrize(
    "error",
    [
        psycopg.errors.LockNotAvailable,
        psycopg.errors.QueryCanceled,
        psycopg.errors.SerializationFailure,
        psycopg.errors.DeadlockDetected,
        psycopg.errors.InternalError_,
        RuntimeError,
        lambda: DatabaseUnavailable("gone"),
        lambda: SchemaMissing("pgqueue"),
    ],
)
def test_passing_trouble_delays_endings_only(
    run: Any, monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception]
) -> None:
    """Whatever it is: timeouts, locks, restarts, what nobody thought of."""
    monkeypatch.setattr(settle, "FIRST_DELAY", 0.001)
    monkeypatch.setattr("pgqueue.worker.link.FIRST_PAUSE", 0.001)

    async def body(bench: Bench) -> None:
        jobs = bench.claim(4)
        left = iter(range(5))
        bench.fail = lambda _: error() if next(left, None) is not None else None
        await bench.settle(succeeded(jobs))
        assert [str(event.outcome) for event in bench.events] == ["succeeded"] * 4

    run(body)


def test_ending_that_never_goes_through_is_given_up(
    run: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its lease is not renewed any more, so that the job runs again; the log says so."""
    monkeypatch.setattr(settle, "FIRST_DELAY", 0.0001)
    monkeypatch.setattr(settle, "LONGEST_DELAY", 0.001)

    async def body(bench: Bench) -> None:
        jobs = bench.claim(2)
        bad = jobs[0].id

        async def refuse(statement: Any) -> Any:
            if str(bad) in statement.params[0].strip("{}").split(","):
                raise InvalidJob("never")
            return await bench._try_run(statement)

        bench.link.try_run = refuse  # type: ignore[method-assign]
        await bench.settle(succeeded(jobs))
        assert {event.job.id: str(event.outcome) for event in bench.events} == {
            jobs[1].id: "succeeded",
            bad: "lost",
        }
        assert len(bench.leases) == 0
        assert state(bench.client, bad) == "claimed"

    run(body)
    assert "given up" in caplog.text


def test_locked_row_is_waited_for_as_long_as_it_takes(
    run: Any, monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    """Nobody else can have that job, so that it is never given up; the others are done at once."""
    monkeypatch.setattr(settle, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(settle, "LOCK_SECONDS", 0.01)
    monkeypatch.setattr(settle, "MOST_TRIES", 2)

    async def body(bench: Bench) -> None:
        jobs = bench.claim(8)
        with psycopg.connect(bench.client.dsn) as conn:
            conn.execute("select from pgqueue.job where id = %s for update", [jobs[2].id])
            bench.settler.add(succeeded(jobs))
            running = asyncio.ensure_future(bench.settler.run())
            while len(bench.events) < 7:  # noqa: ASYNC110 - looks
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            assert len(bench.events) == 7
        bench.settler.close()
        await asyncio.wait_for(running, 10)
        assert len(bench.events) == 8
        await bench.link.close()

    run(body)
    assert database.query("select 1 from job") == []


def test_endings_come_from_any_thread(run: Any) -> None:
    """While the loop waits for them, and after it has ended."""

    async def body(bench: Bench) -> None:
        jobs = bench.claim(50)
        running = asyncio.ensure_future(bench.settler.run())
        await asyncio.sleep(0)
        await asyncio.gather(
            *(asyncio.to_thread(bench.settler.add_from_thread, succeeded([job])) for job in jobs)
        )
        while bench.settler.settled < 50:  # noqa: ASYNC110 - looks
            await asyncio.sleep(0.001)
        bench.settler.close()
        await asyncio.wait_for(running, 10)
        await bench.link.close()
        kept.append(bench.settler)

    kept: list[Settler] = []
    run(body)
    kept[0].add_from_thread([])


def test_endings_outlive_a_cancellation(run: Any) -> None:
    """Another run sends what was under way, and what was stored by then is told once."""

    async def body(bench: Bench) -> None:
        jobs = bench.claim(4)
        sending = asyncio.Event()

        async def answer_is_lost(statement: Any) -> Any:
            await bench._try_run(statement)
            sending.set()
            await asyncio.Event().wait()

        bench.link.try_run = answer_is_lost  # type: ignore[method-assign]
        bench.settler.add(succeeded(jobs))
        running = asyncio.ensure_future(bench.settler.run())
        await asyncio.wait_for(sending.wait(), 10)
        running.cancel()
        await asyncio.wait([running])
        bench.link.try_run = bench.try_run  # type: ignore[method-assign]
        await bench.settle([])
        assert [str(event.outcome) for event in bench.events] == ["succeeded"] * 4
        assert len(bench.leases) == 0

    run(body)


def test_acked_endings_are_found_among_those_whose_transactions_are_open(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By halves, as well."""
    monkeypatch.setattr(settle, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(settle, "LOCK_SECONDS", 0.01)

    async def body(bench: Bench) -> None:
        jobs = bench.claim(5)
        make = Statements("pgqueue")
        async with await psycopg.AsyncConnection.connect(bench.client.dsn) as conn:
            ack = make.ack([jobs[3]], None)
            await conn.execute(ack.sql.encode(), ack.params)
            bench.client.ack(jobs[:3])
            for job in jobs:
                bench.leases.note_ack(job)
            bench.settler.add(succeeded(jobs))
            running = asyncio.ensure_future(bench.settler.run())
            while len(bench.events) < 4:  # noqa: ASYNC110 - looks
                await asyncio.sleep(0.01)
        bench.settler.close()
        await asyncio.wait_for(running, 10)
        outcomes = {event.job.id: str(event.outcome) for event in bench.events}
        assert [outcomes[job.id] for job in jobs] == ["succeeded"] * 4 + ["failed"]
        await bench.link.close()

    run(body)


def test_replaced_attempt_is_told_as_lost(run: Any) -> None:
    """There is nothing to send for it."""

    async def body(bench: Bench) -> None:
        (job,) = bench.claim(1)
        bench.settler.lose(job)
        assert [str(event.outcome) for event in bench.events] == ["lost"]
        assert bench.sent == []

    run(body)


@pytest.mark.parametrize("heard", [True, False])
def test_job_that_is_claimed_again_before_its_ending_is_heard_of_was_not_lost(
    run: Any, *, heard: bool
) -> None:
    """It was put back, by us. Where the answer got lost nobody knows; each is told once."""

    async def body(bench: Bench) -> None:
        jobs = bench.claim(2)

        async def claim_meanwhile(statement: Any) -> Any:
            lost = await bench._try_run(statement)
            for job in bench.leases.hold(bench.client.claim(limit=2), 0.0):
                bench.settler.lose(job)
            if not heard:
                raise psycopg.errors.InternalError_
            return lost

        bench.link.try_run = claim_meanwhile  # type: ignore[method-assign]
        await bench.settle([Ending(job, Outcome.RELEASED) for job in jobs])
        assert [event.job.id for event in bench.events] == [job.id for job in jobs]
        expected = "released" if heard else "lost"
        assert [str(event.outcome) for event in bench.events] == [expected] * 2
        assert len(bench.leases) == 2

    run(body)
