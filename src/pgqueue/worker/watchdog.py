"""Ends a process that is stuck, so that whoever started it can start another."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("pgqueue.worker")


class Watchdog:
    """A timer that is set back as long as the claim loops move.

    It is the timer of Python's faulthandler, which runs without the interpreter: it goes off where
    a handler blocks the event loop, where a claim never returns, and where something keeps the GIL.
    Meanwhile the heartbeat may well go on, and keep jobs that nobody runs.
    """

    def __init__(self, seconds: float, idle_for: Callable[[], float]) -> None:
        """`idle_for` tells for how many seconds the slowest claim loop has not moved."""
        self._seconds = seconds
        self._idle_for = idle_for

    async def run(self) -> None:
        """Watches until it is cancelled."""
        warned = False
        try:
            while True:
                idle = self._idle_for()
                left = self._seconds - idle
                faulthandler.dump_traceback_later(max(left, 0.001), exit=True, file=_log())
                if idle > self._seconds / 2 and not warned:
                    logger.error(
                        "claiming has not moved for %.3g s; this process ends in %.3g s", idle, left
                    )
                warned = idle > self._seconds / 2
                await asyncio.sleep(self._seconds / 8)
        finally:
            faulthandler.cancel_dump_traceback_later()


def _log() -> int:
    """Where the stacks of all threads are written, whatever stands for sys.stderr."""
    with contextlib.suppress(Exception):
        return sys.stderr.fileno()
    return 2
