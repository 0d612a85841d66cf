"""Several worker processes under one parent, which only watches them."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import time
from multiprocessing import connection
from typing import TYPE_CHECKING

import attrs

from pgqueue.errors import ConfigurationError
from pgqueue.masking import trace
from pgqueue.worker import signals

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import ForkContext, ForkProcess

logger = logging.getLogger("pgqueue.worker")

WATCH_SECONDS = 0.1
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds from a process's death to its replacement's start, doubling while they die young."""
YOUNG_SECONDS = 60.0
KILL_SECONDS = 5.0
"""A process that is still there so long after its shutdown timeout is killed: its jobs have
leases."""


@attrs.define
class _Place:
    """One of the processes, and those that take its place."""

    process: ForkProcess | None = None
    started_at: float = 0.0
    start_at: float | None = 0.0
    """When to start one, while there is none; None: never again."""
    pause: float = FIRST_PAUSE


class Supervisor:
    """Forks processes that run `work`, replaces those that die, and passes signals on to them."""

    def __init__(
        self, work: Callable[[], int], stop: Callable[[], None], count: int, *, patience: float
    ) -> None:
        """`stop` is called in a process that gets a signal; `patience` is its shutdown timeout.

        Raises:
            ConfigurationError: this system has no fork.
        """
        if "fork" not in multiprocessing.get_all_start_methods():
            raise ConfigurationError(
                "processes needs fork, which this system lacks; start several workers"
            )
        self._context: ForkContext = multiprocessing.get_context("fork")
        self._work = work
        self._stop = stop
        self._places = [_Place() for _ in range(count)]
        self._patience = patience
        self._stops = 0
        self._stops_sent = 0
        self._kill_at: float | None = None
        self._codes: list[int] = []

    def stop(self) -> None:
        """Passes one SIGTERM on to each child; from any thread or signal handler."""
        self._stops += 1

    def run(self, *, restart: bool) -> int:
        """Watches until all children have ended.

        Returns:
            The highest of their exit codes, with 1 for one that was killed.
        """
        with signals.handled(self.stop):
            while True:
                if not self._stops:
                    self._start_due()
                self._pass_stops_on()
                running = [place.process for place in self._places if place.process is not None]
                if not running and (self._stops or not restart):
                    return max(self._codes, default=0)
                connection.wait([process.sentinel for process in running], WATCH_SECONDS)
                for place in self._places:
                    self._collect(place, restart=restart and not self._stops)

    def _start_due(self) -> None:
        now = time.monotonic()
        for place in self._places:
            if place.process is None and place.start_at is not None and now >= place.start_at:
                place.process = self._context.Process(
                    target=_run_child, args=(self._work, self._stop), name="pgqueue-worker"
                )
                place.started_at = now
                with signals.held_back():  # until the child has its own handlers for them
                    place.process.start()

    def _pass_stops_on(self) -> None:
        if self._stops_sent < self._stops:
            # One at a time: of two that come at once a process would see only one.
            self._stops_sent += 1
            self._kill_at = self._kill_at or time.monotonic() + self._patience + KILL_SECONDS
            for place in self._places:
                if place.process is not None:
                    place.process.terminate()
        if self._kill_at is not None and time.monotonic() > self._kill_at:
            for place in self._places:
                if place.process is not None:
                    logger.error("worker process %s does not end; killed", place.process.pid)
                    place.process.kill()

    def _collect(self, place: _Place, *, restart: bool) -> None:
        process = place.process
        if process is None or process.exitcode is None:
            return
        code = process.exitcode
        place.process, place.start_at = None, None
        if restart:
            now = time.monotonic()
            young = now - place.started_at < YOUNG_SECONDS
            place.pause = min(place.pause * 2, LONGEST_PAUSE) if young else FIRST_PAUSE
            place.start_at = now + place.pause / 2
            logger.error(
                "worker process %s ended with %s; another starts in %.1f s",
                process.pid, code, place.pause / 2,
            )  # fmt: skip
        else:
            self._codes.append(code if code >= 0 else 1)
        process.close()


def _run_child(work: Callable[[], int], stop: Callable[[], None]) -> None:
    signals.set_for_child(stop)
    code = 1
    try:
        code = work()
    except BaseException as error:  # noqa: BLE001 - told, and then the process ends
        logger.error("worker process %s failed: %s", os.getpid(), trace(error))  # noqa: TRY400 - masked
    finally:
        # Not sys.exit: it would wait for threads that handlers left behind.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
