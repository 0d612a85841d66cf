"""What the runner asks of a driver, and the frame of those written in Python.

A driver is a script: `python -m benchmarks.peers.drivers.NAME DSN VARIANT COMMAND [ARGUMENT...]`.
It prints one line of JSON per answer. Commands, of which all but `drain` and `serve` answer once:

    info                   version, settings, and the SQL by which the runner checks the outcome
    setup                  installs the system into an empty database
    enqueue COUNT          the system's fastest bulk enqueue: {"seconds"}, connected beforehand
    single COUNT           one by one on one connection: {"seconds"}
    drain                  says {"ready"}, waits for a line, works until nothing is left: `Drained`
    serve                  says {"ready"}, works until a line comes: {"latencies"}, seconds
    send RATE SECONDS      enqueues jobs for `serve` at an even rate: {"sent", "seconds"}

Nothing but the standard library is imported here: the peers live in an environment of their own.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypedDict

PAYLOAD: dict[str, str | int] = {"to": "somebody@example.org", "subject": "welcome", "n": 1}
MOST_AT_ONCE = 8
"""So many enqueues may be under way while latency is measured, each on its own connection."""


class Info(TypedDict):
    """What a driver says of its system."""

    versions: dict[str, str]
    settings: dict[str, str]
    """The settings that were chosen for speed; also what the system does with a finished job."""
    unfinished: str
    """SQL: how many jobs are not finished."""
    finished: str | None
    """SQL: how many jobs are stored as finished; None if the system deletes them."""
    table: str
    """The table whose rows are deleted, updated or added when jobs are finished, and in which
    nothing else happens afterwards."""
    claim: str
    """A regular expression that the claim's statement matches in the server's log."""


class Drained(TypedDict):
    """What one worker process did."""

    done: int
    """How many handlers ran."""
    first: float
    """When the first of them started, in seconds since 1970; 0 if none did."""


class Driver(Protocol):
    """One system under measurement. Seconds everywhere."""

    def info(self) -> Info:
        """Versions, settings and SQL."""

    def setup(self) -> None:
        """Installs the system."""

    def enqueue(self, count: int) -> float:
        """Bulk enqueue; the time it took."""

    def single(self, count: int) -> float:
        """One by one; the time it took."""

    def drain(self, begin: Callable[[], None]) -> Drained:
        """Works until nothing is left. Calls `begin` once it is connected; it waits there."""

    def serve(self, ready: Callable[[], None]) -> list[float]:
        """Works until `stopped` returns; the time from each enqueue to its handler's start."""

    def send(self, rate: float, seconds: float) -> tuple[int, float]:
        """Enqueues at an even rate; how many, and how long it took."""


class Count:
    """The no-op handlers' tally: the cheapest thing that still tells when work began."""

    def __init__(self) -> None:
        self.done = 0
        self.first = 0.0

    def add(self, jobs: int = 1) -> None:
        """Called by each handler as it starts."""
        if not self.done:
            self.first = time.time()
        self.done += jobs

    def drained(self) -> Drained:
        """The result."""
        return {"done": self.done, "first": self.first}


def stopped() -> str:
    """Blocks until the runner sends a line or goes away."""
    return sys.stdin.readline()


async def at_rate(
    enqueue: Callable[[dict[str, float]], Awaitable[object]], rate: float, seconds: float
) -> tuple[int, float]:
    """Calls `enqueue` with payloads that hold the moment of the call; see `Driver.send`."""
    begin = time.monotonic()
    count = max(1, int(rate * seconds))
    free = asyncio.Semaphore(MOST_AT_ONCE)

    async def one() -> None:
        try:
            await enqueue({"sent_at": time.monotonic()})
        finally:
            free.release()

    tasks = []
    for number in range(count):
        pause = begin + number / rate - time.monotonic()
        if pause > 0:
            await asyncio.sleep(pause)
        await free.acquire()
        tasks.append(asyncio.create_task(one()))
    await asyncio.gather(*tasks)
    return count, time.monotonic() - begin


def main(make: Callable[[str, str], Driver]) -> None:
    """Runs the command that the command line names. `make` takes the DSN and the variant."""
    dsn, variant, command, *arguments = sys.argv[1:]
    driver = make(dsn, variant)
    _say(_answer(driver, command, arguments))
    os._exit(0)  # whatever the system under measurement left running


def _answer(driver: Driver, command: str, arguments: list[str]) -> Any:  # noqa: ANN401 - JSON
    if command == "info":
        return driver.info()
    if command == "setup":
        driver.setup()
        return {}
    if command == "drain":
        return driver.drain(_begin)
    if command == "serve":
        return {"latencies": driver.serve(_ready)}
    if command == "send":
        sent, seconds = driver.send(float(arguments[0]), float(arguments[1]))
        return {"sent": sent, "seconds": seconds}
    timed = {"enqueue": driver.enqueue, "single": driver.single}[command]
    return {"seconds": timed(int(arguments[0]))}


def _ready() -> None:
    _say({"ready": True})


def _begin() -> None:
    _ready()
    sys.stdin.readline()


def _say(answer: object) -> None:
    print(json.dumps(answer), flush=True)
