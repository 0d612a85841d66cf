"""Several worker processes under one parent, which only watches them."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import sys
import threading
import time
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

from pgqueue.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import ForkContext, ForkProcess

logger = logging.getLogger("pgqueue.worker")

WATCH_SECONDS = 0.2
RESTART_SECONDS = 1.0
"""A process that dies is replaced, but none is started sooner than this after its predecessor."""


class Supervisor:
    """Forks `count` processes that run `work`, replaces those that die, and passes signals on to them."""

    def __init__(self, work: Callable[[], int], count: int) -> None:
        if "fork" not in multiprocessing.get_all_start_methods():
            raise ConfigurationError("processes needs fork, which this system lacks; start several workers")
        self._context: ForkContext = multiprocessing.get_context("fork")
        self._work = work
        self._count = count
        self._children: list[ForkProcess] = []
        self._stops = 0
        self._stops_sent = 0
        self._codes: list[int] = []

    def stop(self) -> None:
        """Passes one SIGTERM on to each child; from any thread or signal handler."""
        self._stops += 1

    def run(self, *, restart: bool) -> int:
        """Watches until all children have ended; the highest of their exit codes (1 for one that was killed)."""
        self._children = [self._start() for _ in range(self._count)]
        with _signals(self._on_signal):
            while self._children:
                self._pass_stops_on()
                connection.wait([child.sentinel for child in self._children], WATCH_SECONDS)
                self._collect(restart=restart and not self._stops)
        return max(self._codes, default=0)

    def _start(self) -> ForkProcess:
        process = self._context.Process(target=_run_child, args=(self._work,), name="pgqueue-worker")
        process.start()
        return process

    def _on_signal(self, *_: Any) -> None:  # noqa: ANN401 - signal number and frame
        self.stop()

    def _pass_stops_on(self) -> None:
        while self._stops_sent < self._stops:
            self._stops_sent += 1
            for child in self._children:
                child.terminate()

    def _collect(self, *, restart: bool) -> None:
        for child in [c for c in self._children if c.exitcode is not None]:
            self._children.remove(child)
            code = child.exitcode or 0
            if restart:
                logger.error("worker process %s ended with %s; starting another", child.pid, code)
                time.sleep(RESTART_SECONDS)
                self._children.append(self._start())
            else:
                self._codes.append(code if code >= 0 else 1)


def _run_child(work: Callable[[], int]) -> None:
    # The parent's handlers came along with the fork.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.exit(work())


class _signals:  # noqa: N801 - reads as a function
    """SIGTERM and SIGINT go to `handler` meanwhile, where the main thread allows it."""

    def __init__(self, handler: Callable[..., None]) -> None:
        self._handler = handler
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._handler)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
