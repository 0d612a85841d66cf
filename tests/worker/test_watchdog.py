"""A process whose claim loops do not move ends, if that was asked for; no other does."""

from __future__ import annotations

import signal
from collections.abc import Callable
from datetime import timedelta

import pytest

from pgqueue import Client, ConfigurationError, Handlers, Worker

from .helpers import SECOND, Database, Process, state, until

Launch = Callable[[str], Process]

WORKER = """
from pgqueue.worker.claims import ClaimLoop

@handlers.register("blocks", retry=pgqueue.Constant(timedelta(milliseconds=10)))
async def blocks(job):
    say("blocks", job.attempt, os.getpid())
    if job.attempt == 1:
        time.sleep(60)

@handlers.register("waits")
def waits(job):
    time.sleep(3)

if "stuck" in STUCK:
    async def stuck(*_):
        await asyncio.Event().wait()
    ClaimLoop._step = stuck

worker = pgqueue.Worker(
    dsn, handlers, lease=timedelta(seconds=1), poll_interval=timedelta(seconds=0.1),
    shutdown_timeout=timedelta(seconds=5), watchdog=timedelta(seconds=1.5), processes=PROCESSES,
)
say("ready")
sys.exit(worker.run())
"""


def script(*, processes: int = 1, stuck: str = "") -> str:
    """The program of a worker."""
    return WORKER.replace("PROCESSES", str(processes)).replace("STUCK", repr(stuck))


def test_blocked_event_loop_ends_the_process(client: Client, launch: Launch) -> None:
    """While its heartbeat keeps the lease; the stacks say where, and the job runs elsewhere."""
    first = launch(script())
    job = client.enqueue("blocks").id
    first.wait_for("blocks 1")
    assert first.end() == 1
    assert any("Timeout" in line for line in first.errors)
    assert any("in blocks" in line for line in first.errors)
    second = launch(script())
    second.wait_for("blocks 2")
    until(lambda: state(client, job) == "succeeded")


def test_claim_loop_that_is_stuck_ends_the_process(client: Client, launch: Launch) -> None:
    """It is said in the log first, as long as there is somebody to say it."""
    del client
    process = launch(script(stuck="stuck"))
    assert process.end() == 1
    assert any("claiming has not moved" in line for line in process.errors)


def test_stuck_process_is_replaced_by_its_parent(client: Client, launch: Launch) -> None:
    """One of several processes."""
    parent = launch(script(processes=2))
    job = client.enqueue("blocks").id
    (before,) = parent.wait_for("blocks 1")
    (after,) = parent.wait_for("blocks 2")
    assert before.split()[-1] != after.split()[-1]
    until(lambda: state(client, job) == "succeeded")


@pytest.mark.direct("no ring gets through a pooler, so the worker asks for none")
def test_process_that_works_or_sleeps_is_left_alone(
    client: Client, launch: Launch, database: Database
) -> None:
    """For longer than the watchdog's patience, in threads, and after all is done."""
    process = launch(script())
    jobs = [client.enqueue("waits").id for _ in range(21)]
    until(lambda: all(state(client, job) == "succeeded" for job in jobs))
    until(lambda: database.query("select 1 from sleeper"))
    process.send(signal.SIGTERM)
    assert process.end() == 0


def test_patience_of_the_watchdog_is_checked(client: Client, handlers: Handlers) -> None:
    """A sleeping worker looks up once in a poll interval only."""
    handlers.register("a")(lambda _: None)
    for wrong in (timedelta(0), 4 * SECOND, 60):
        with pytest.raises(ConfigurationError, match="watchdog is"):
            Worker(client, handlers, watchdog=wrong)  # type: ignore[arg-type]
    Worker(client, handlers, watchdog=5 * SECOND)
