"""The pool of sync handlers alone: its counts, its tokens and its late endings."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from pgqueue import Handlers, Job
from pgqueue.events import Outcome
from pgqueue.worker.runner import Ending
from pgqueue.worker.thread_pool import ThreadPool

from .helpers import make_job, until


class Bench:
    """A pool with its surroundings."""

    def __init__(self, size: int = 2, **options: Any) -> None:
        self.endings: list[Ending] = []
        self.unwanted: dict[int, Outcome] = {}
        self.room = asyncio.Event()
        self.body: Callable[[Any], object] = lambda _: None
        self.handlers = Handlers()
        self.handlers.register("a", **options)(self._call)
        self.pool = ThreadPool(
            self.handlers,
            list(self.handlers.kinds),
            size,
            self.endings.extend,
            lambda job: self.unwanted.get(job.id),
        )
        self.pool.on_room = self.room.set

    def _call(self, job: Any) -> object:
        return self.body(job)

    async def ended(self, count: int) -> list[Ending]:
        """Waits for so many endings."""
        await asyncio.to_thread(until, lambda: len(self.endings) >= count)
        return self.endings

    def close(self) -> None:
        """Closes the pool, and waits for its threads."""
        self.pool.close()
        for thread in self.pool._threads:
            thread.join(10)
            assert not thread.is_alive()


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a test's body on a loop of its own."""
    asyncio.run(main())


def jobs(count: int) -> list[Job[Any]]:
    """So many claimed jobs."""
    return [make_job(id=n, position=n) for n in range(1, count + 1)]


def test_all_are_run_and_counted_under_contention() -> None:
    """With more threads than processors, fed while they run, nothing is lost or counted twice."""

    async def main() -> None:
        bench = Bench(size=8)
        for _ in range(50):
            bench.pool.feed(jobs(40))
            await asyncio.sleep(0)
        await bench.ended(2_000)
        await asyncio.to_thread(until, lambda: bench.pool.busy == 0)
        assert (bench.pool.finished, bench.pool.waiting) == (2_000, 0)
        assert len(bench.pool._threads) == 8
        bench.close()

    run(main)


def test_unit_is_at_any_moment_waiting_running_or_ended() -> None:
    """Nobody may take a job that is about to start for one that is done."""

    async def main() -> None:
        bench = Bench(size=4)
        total = 3_000
        bench.body = lambda _: None
        bench.pool.feed(jobs(total))
        while True:
            with bench.pool._lock:
                counted = bench.pool.waiting + bench.pool.busy + bench.pool.finished
            assert counted == total
            if bench.pool.finished == total:
                break
            await asyncio.sleep(0)
        bench.close()

    run(main)


def test_taken_back_jobs_are_not_run_and_threads_go_on() -> None:
    """The tokens that are left over wake threads for nothing, and that is all."""

    async def main() -> None:
        bench = Bench(size=1)
        gate = threading.Event()
        bench.body = lambda _: gate.wait(10)
        bench.pool.feed(jobs(5))
        await asyncio.to_thread(until, lambda: bench.pool.busy == 1)
        assert [job.id for job in bench.pool.take_back()] == [2, 3, 4, 5]
        assert bench.pool.waiting == 0
        gate.set()
        bench.pool.feed([make_job(id=6)])
        endings = await bench.ended(2)
        assert [e.job.id for e in endings] == [1, 6]
        assert bench.pool.take_back() == []
        bench.close()
        assert bench.pool.take_back() == []

    run(main)


def test_close_releases_what_still_runs() -> None:
    """Its thread is left to itself, and what it does later is its own."""

    async def main() -> None:
        bench = Bench(size=1)
        gate = threading.Event()
        bench.body = lambda _: gate.wait(10)
        bench.pool.feed(jobs(1))
        await asyncio.to_thread(until, lambda: bench.pool.busy == 1)
        bench.pool.close()
        assert [e.outcome for e in bench.endings] == [Outcome.RELEASED]
        gate.set()
        bench.close()

    run(main)


def test_handler_that_ends_after_it_was_asked_to_release_is_released() -> None:
    """It may have returned early because of the request."""

    async def main() -> None:
        bench = Bench(size=1)
        gate = threading.Event()
        bench.body = lambda _: gate.wait(10)
        bench.pool.feed(jobs(1))
        await asyncio.to_thread(until, lambda: bench.pool.busy == 1)
        bench.unwanted[1] = Outcome.RELEASED
        bench.pool.stop_all()
        gate.set()
        (ending,) = await bench.ended(1)
        assert ending.outcome is Outcome.RELEASED
        bench.close()

    run(main)


def test_stop_ends_lost_attempts_at_once_and_leaves_cancelled_ones_to_their_handlers() -> None:
    """Only the latter may still have something to say."""

    async def main() -> None:
        bench = Bench(size=1)
        bench.pool.stop(make_job(), Outcome.CANCELLED)
        assert bench.endings == []
        bench.pool.stop(make_job(), Outcome.LOST)
        assert [e.outcome for e in bench.endings] == [Outcome.LOST]
        bench.close()

    run(main)


def test_unwanted_jobs_are_ended_without_being_run() -> None:
    """Lost or cancelled while they waited."""

    async def main() -> None:
        bench = Bench(size=1)
        seen: list[int] = []
        bench.body = lambda job: seen.append(job.id)
        bench.unwanted = {1: Outcome.LOST, 2: Outcome.CANCELLED}
        bench.pool.feed(jobs(3))
        endings = await bench.ended(3)
        assert [str(e.outcome) for e in endings] == ["lost", "cancelled", "succeeded"]
        assert seen == [3]
        bench.close()

    run(main)


def test_timeout_is_noticed_also_for_a_job_that_waited_long() -> None:
    """The looks go on as long as anything waits or runs, and begin again with the next job."""

    async def main() -> None:
        bench = Bench(size=1, timeout=timedelta(milliseconds=50))
        bench.body = lambda job: time.sleep(0.12 if job.id % 2 == 0 else 0.0)
        bench.pool.feed(jobs(2))
        await asyncio.to_thread(until, lambda: any(e.error for e in bench.endings))
        assert bench.endings[1].job.id == 2
        await asyncio.to_thread(until, lambda: not bench.pool._looking)
        bench.endings.clear()
        bench.pool.feed([make_job(id=4)])
        await asyncio.to_thread(until, lambda: any(e.error for e in bench.endings))
        bench.close()

    run(main)


def test_room_is_told_once_and_only_when_asked_for() -> None:
    """When the buffer falls to the mark, and when a unit has ended."""

    async def main() -> None:
        bench = Bench(size=1)
        gate = threading.Semaphore(0)
        bench.body = lambda _: gate.acquire()
        bench.pool.feed(jobs(3))
        await asyncio.to_thread(until, lambda: bench.pool.busy == 1)
        bench.pool.call_when_low(0)
        gate.release()
        await bench.ended(1)
        assert not bench.room.is_set()
        gate.release()
        await asyncio.wait_for(bench.room.wait(), 10)
        bench.room.clear()
        await asyncio.to_thread(until, lambda: bench.pool.busy == 1 and not bench.pool.waiting)
        bench.pool.call_when_low(0)
        gate.release()
        await asyncio.wait_for(bench.room.wait(), 10)
        bench.close()

    run(main)


def test_threads_outlive_the_loop_without_noise() -> None:
    """A handler that ends after its worker has nobody to tell."""
    gate = threading.Event()
    benches: list[Bench] = []

    async def main() -> None:
        bench = Bench(size=1)
        benches.append(bench)
        bench.body = lambda _: gate.wait(10)
        bench.pool.feed(jobs(1))
        await asyncio.to_thread(until, lambda: bench.pool.busy == 1)
        bench.pool.call_when_low(0)

    run(main)
    gate.set()
    benches[0].close()
