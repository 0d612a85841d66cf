"""The pool of async handlers alone: cancellations that race, and consumers that must not vanish."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from pgqueue import Handlers, Job
from pgqueue.events import Outcome
from pgqueue.worker.async_pool import AsyncPool
from pgqueue.worker.runner import Ending

from .helpers import make_job


class Bench:
    """A pool with its surroundings."""

    def __init__(self, size: int = 2, **options: Any) -> None:
        self.endings: list[Ending] = []
        self.unwanted: dict[int, Outcome] = {}
        self.room = asyncio.Event()
        self._make(size, options)

    def _make(self, size: int, options: Any) -> None:
        self.handlers = Handlers()
        self.body: Callable[[Any], Awaitable[object]] = self._nothing

        async def handler(job: Any) -> object:
            return await self.body(job)

        self.handlers.register("a", **options)(handler)
        self.pool = AsyncPool(
            self.handlers,
            list(self.handlers.kinds),
            size,
            self.endings.extend,
            lambda job: self.unwanted.get(job.id),
        )
        self.pool.on_room = self.room.set

    async def _nothing(self, _: Any) -> None:
        """Ends at once."""

    async def ended(self, count: int) -> list[Ending]:
        """Waits for so many endings."""
        async with _deadline():
            while len(self.endings) < count:  # noqa: ASYNC110 - looks
                await asyncio.sleep(0.001)
        return self.endings

    async def close(self) -> None:
        """Closes the pool, and waits for its tasks."""
        self.pool.close()
        if self.pool._tasks:
            await asyncio.wait(self.pool._tasks, timeout=5)


def _deadline() -> Any:
    class Deadline:
        async def __aenter__(self) -> None:
            task = asyncio.current_task()
            assert task is not None
            self.timer = asyncio.get_running_loop().call_later(10, task.cancel)

        async def __aexit__(self, *_: object) -> None:
            self.timer.cancel()

    return Deadline()


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a test's body on a loop of its own."""
    asyncio.run(main())


def jobs(count: int) -> list[Job[Any]]:
    """So many claimed jobs."""
    return [make_job(id=n, position=n) for n in range(1, count + 1)]


def test_no_more_than_size_run_at_once_and_all_are_run() -> None:
    """Consumers take the next one themselves."""

    async def main() -> None:
        bench = Bench(size=3)
        most = 0

        async def body(_: Any) -> None:
            nonlocal most
            most = max(most, bench.pool.busy)
            await asyncio.sleep(0.001)

        bench.body = body
        bench.pool.feed(jobs(20))
        assert bench.pool.waiting == 20
        await bench.ended(20)
        assert (most, bench.pool.finished, bench.pool.waiting) == (3, 20, 0)
        assert len(bench.pool._tasks) == 3
        bench.pool.feed(jobs(1))
        await bench.ended(21)
        await bench.close()
        assert bench.pool.busy == 0

    run(main)


def test_consumer_that_dies_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    """An error in the pool's own surroundings is logged, and the rest is run all the same."""

    async def main() -> None:
        bench = Bench(size=1)
        good = bench.pool._report

        def report(_: list[Ending]) -> None:
            bench.pool._report = good
            raise RuntimeError("unforeseen")

        bench.pool._report = report
        bench.pool.feed(jobs(3))
        await bench.ended(2)
        await bench.close()

    run(main)
    assert "unforeseen" in caplog.text


def test_cancellation_that_a_handler_caused_itself_fails_its_attempt() -> None:
    """It cancelled its own task, or awaited one that was cancelled: the next jobs run."""

    async def main() -> None:
        bench = Bench(size=1)

        async def body(job: Any) -> None:
            task = asyncio.current_task()
            assert task is not None
            if job.id == 1:
                task.cancel()
                await asyncio.sleep(0)
            elif job.id == 2:
                task.cancel()  # it takes effect when somebody waits next
            elif job.id == 3:
                other = asyncio.ensure_future(asyncio.sleep(10))
                other.cancel()
                await other
            else:
                await asyncio.sleep(0)

        bench.body = body
        bench.pool.feed(jobs(4))
        endings = await bench.ended(4)
        assert [str(e.outcome) for e in endings] == ["failed", "succeeded", "failed", "succeeded"]
        assert isinstance(endings[0].error, asyncio.CancelledError)
        await bench.close()

    run(main)


def test_python_that_cannot_tell_open_cancellations() -> None:
    """As in 3.10, tasks do not know `cancelling`: handlers' own cancellations fail them."""

    class OldTask(asyncio.tasks._PyTask):  # type: ignore[name-defined, misc] # written in Python
        cancelling = property()
        uncancel = property()

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(
            lambda loop, coro, **_: OldTask(coro, loop=loop)
        )
        bench = Bench(size=1, timeout=timedelta(seconds=0.02))

        async def body(job: Any) -> None:
            if job.id == 1:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            await asyncio.sleep(0.001 if job.id != 2 else 10)

        bench.body = body
        bench.pool.feed(jobs(3))
        endings = await bench.ended(3)
        assert [str(e.outcome) for e in endings] == ["failed", "failed", "succeeded"]
        await bench.close()

    run(main)


@pytest.mark.parametrize("outcome", [Outcome.CANCELLED, Outcome.LOST])
def test_stopped_handler_ends_with_the_given_outcome(outcome: Outcome) -> None:
    """Its task is cancelled, and another takes the next job."""

    async def main() -> None:
        bench = Bench(size=1)

        async def body(job: Any) -> None:
            await asyncio.sleep(10 if job.id == 1 else 0)

        bench.body = body
        bench.pool.feed(jobs(2))
        while not bench.pool.running_jobs():  # noqa: ASYNC110 - looks
            await asyncio.sleep(0)
        bench.pool.stop(make_job(id=9), outcome)  # not one of its
        bench.pool.stop(make_job(id=1), outcome)
        bench.pool.stop(make_job(id=1), Outcome.CANCELLED)  # asked once already
        endings = await bench.ended(2)
        assert [e.outcome for e in endings] == [outcome, Outcome.SUCCEEDED]
        await bench.close()

    run(main)


def test_timeout_that_comes_with_a_request_to_stop_is_one_ending() -> None:
    """Whichever comes first counts; the task is cancelled once."""

    async def main() -> None:
        bench = Bench(size=1, timeout=timedelta(milliseconds=10))
        cancellations = 0

        async def body(_: Any) -> None:
            nonlocal cancellations
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                cancellations += 1
                await asyncio.sleep(0.05)
                raise

        bench.body = body
        bench.pool.feed(jobs(1))
        await asyncio.sleep(0.03)
        bench.pool.stop(make_job(), Outcome.CANCELLED)
        (ending,) = await bench.ended(1)
        assert (ending.outcome, type(ending.error).__name__) == (Outcome.FAILED, "TimedOut")
        assert cancellations == 1
        await bench.close()

    run(main)


def test_stop_all_asks_again_those_that_ignored_a_request() -> None:
    """Shutdown comes last."""

    async def main() -> None:
        bench = Bench(size=2)

        async def body(_: Any) -> None:
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                await asyncio.sleep(10)

        bench.body = body
        bench.pool.feed(jobs(2))
        await asyncio.sleep(0.01)
        bench.pool.stop(make_job(id=1), Outcome.CANCELLED)
        await asyncio.sleep(0.01)
        bench.pool.stop_all()
        (first,) = await bench.ended(1)
        assert (first.job.id, first.outcome) == (1, Outcome.CANCELLED)
        bench.pool.stop_all()
        _, second = await bench.ended(2)
        assert (second.job.id, second.outcome) == (2, Outcome.RELEASED)
        await bench.close()

    run(main)


def test_close_releases_what_still_runs() -> None:
    """A handler that resists is left to itself."""

    async def main() -> None:
        bench = Bench(size=1)
        release = asyncio.Event()

        async def body(_: Any) -> None:
            while not release.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await release.wait()

        bench.body = body
        bench.pool.feed(jobs(2))
        await asyncio.sleep(0.01)
        bench.pool.close()
        assert [e.outcome for e in bench.endings] == [Outcome.RELEASED]
        release.set()
        await asyncio.wait(bench.pool._tasks, timeout=5)
        assert bench.pool.waiting == 1
        assert [job.id for job in bench.pool.take_back()] == [2]

    run(main)


def test_handler_that_is_cancelled_by_close_is_released() -> None:
    """Nobody had asked it before."""

    async def main() -> None:
        bench = Bench(size=1)

        async def body(_: Any) -> None:
            await asyncio.sleep(10)

        bench.body = body
        bench.pool.feed(jobs(1))
        await asyncio.sleep(0.01)
        await bench.close()
        assert {e.outcome for e in bench.endings} == {Outcome.RELEASED}

    run(main)


def test_unwanted_jobs_are_ended_without_being_run() -> None:
    """Lost or cancelled while they waited, alone or as part of a batch."""

    async def main() -> None:
        bench = Bench(size=1, batch=3)
        seen: list[list[int]] = []

        async def body(batch: Any) -> None:
            seen.append([job.id for job in batch])

        bench.body = body
        bench.unwanted = {2: Outcome.LOST, 4: Outcome.CANCELLED}
        bench.pool.feed(jobs(4))
        endings = await bench.ended(4)
        assert seen == [[1, 3]]
        assert {e.job.id: e.outcome for e in endings} == {
            1: Outcome.SUCCEEDED,
            2: Outcome.LOST,
            3: Outcome.SUCCEEDED,
            4: Outcome.CANCELLED,
        }
        await bench.close()

    run(main)


def test_handlers_that_never_wait_leave_the_loop_to_others() -> None:
    """After a few milliseconds everybody else has a turn."""

    async def main() -> None:
        bench = Bench(size=1)
        turns = 0
        total = 0.05

        async def body(_: Any) -> None:

            time.sleep(0.001)  # noqa: ASYNC251 - that is the point

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        bench.body = body
        task = asyncio.ensure_future(other())
        bench.pool.feed(jobs(int(total / 0.001)))
        await bench.ended(50)
        task.cancel()
        assert turns >= 5
        await bench.close()

    run(main)


def test_cancelled_idle_consumer_is_not_woken_in_vain() -> None:
    """Somebody cancelled it: another takes the job."""

    async def main() -> None:
        bench = Bench(size=2)
        bench.pool.feed(jobs(2))
        await bench.ended(2)
        await asyncio.sleep(0)
        next(iter(bench.pool._tasks)).cancel()
        bench.pool.feed(jobs(2))
        await bench.ended(4)
        await bench.close()

    run(main)


def test_room_is_told_once_and_only_when_asked_for() -> None:
    """When the buffer falls to the mark, and when a consumer finds nothing to do."""

    async def main() -> None:
        bench = Bench(size=1)
        gate = asyncio.Semaphore(0)

        async def body(_: Any) -> None:
            await gate.acquire()

        bench.body = body
        bench.pool.feed(jobs(4))
        await asyncio.sleep(0.01)
        assert not bench.room.is_set()
        bench.pool.call_when_low(1)
        gate.release()
        await bench.ended(1)
        assert not bench.room.is_set()
        gate.release()
        await bench.ended(2)
        assert bench.room.is_set()
        bench.room.clear()
        gate.release()
        gate.release()
        await bench.ended(4)
        assert not bench.room.is_set()
        bench.pool.feed(jobs(1))
        await asyncio.sleep(0.01)
        bench.pool.call_when_low(0)
        gate.release()
        await bench.ended(5)
        await asyncio.sleep(0)
        assert bench.room.is_set()
        await bench.close()

    run(main)
