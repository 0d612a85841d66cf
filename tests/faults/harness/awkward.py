"""Handlers as nobody should write them: they block the event loop, the interpreter, the pool."""

from __future__ import annotations

import time
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from pgqueue import Client, Constant, Handlers, Job

RETRY = Constant(timedelta(milliseconds=100))
POOL = 4
RELEASE_SECONDS = 60.0
"""A handler that is never released ends by itself."""


def register(handlers: Handlers) -> None:
    """Adds them; see `--also` of the app."""

    @handlers.register("awkward.block", retry=RETRY)
    async def block(job: Job[Any]) -> None:
        time.sleep(job.payload["seconds"])  # noqa: ASYNC251 - that is the point

    @handlers.register("awkward.hold", retry=RETRY)
    def hold(job: Job[Any]) -> None:
        if job.attempt == 1:
            hold_interpreter(job.payload["seconds"])

    @handlers.register("awkward.drain", retry=RETRY)
    def drain(job: Job[Any]) -> None:
        release, until = Path(job.payload["release"]), time.monotonic() + RELEASE_SECONDS
        with _client().driver.connection() as conn:
            conn.execute("select")
            while not release.exists() and time.monotonic() < until:
                time.sleep(0.01)


@cache
def _client() -> Client:
    return Client(pool_size=POOL)


def hold_interpreter(seconds: float) -> None:
    """One call of C code that no other thread gets a word in for so long."""
    exponent, took = 100_000, 0.0
    while took < seconds:
        began = time.monotonic()
        _ = 3**exponent
        took = time.monotonic() - began
        exponent = int(exponent * 1.5)
