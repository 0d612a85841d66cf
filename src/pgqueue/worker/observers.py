"""Tells several observers, none of which can do the worker harm."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from pgqueue.events import Observer
from pgqueue.masking import trace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pgqueue.events import Ended, Outcome, Use
    from pgqueue.models import Job

logger = logging.getLogger("pgqueue.worker")

QUIET_SECONDS = 60.0
"""Between two errors that are logged; one that fails for each batch would flood the log."""


class Observers(Observer):
    """All of a process as one. It is falsy where there are none, so that nobody need be told."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers
        self._quiet_until = 0.0

    def __bool__(self) -> bool:
        return bool(self._observers)

    def started(self, worker: str, use: Callable[[], Use]) -> None:
        """See `Observer`, as of all below."""
        self._tell("started", worker, use)

    def stopped(self) -> None:
        """Without fail: what was started has to be ended."""
        self._tell("stopped")

    def claimed(self, jobs: Sequence[Job[Any]], seconds: float) -> None:
        """See `Observer`."""
        self._tell("claimed", jobs, seconds)

    def ended(self, outcome: Outcome, endings: Sequence[Ended]) -> None:
        """See `Observer`."""
        self._tell("ended", outcome, endings)

    def reconnected(self, purpose: str) -> None:
        """See `Observer`."""
        self._tell("reconnected", purpose)

    def connection_failed(self, purpose: str) -> None:
        """See `Observer`."""
        self._tell("connection_failed", purpose)

    def beat_missed(self) -> None:
        """See `Observer`."""
        self._tell("beat_missed")

    def _tell(self, what: str, *facts: object) -> None:
        for observer in self._observers:
            try:
                getattr(observer, what)(*facts)
            except Exception as error:  # noqa: BLE001, PERF203 - one must not silence the others
                self._complain(observer, what, error)

    def _complain(self, observer: Observer, what: str, error: Exception) -> None:
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET_SECONDS
            # Without its message, which may quote a payload.
            logger.error(
                "the observer %s failed in %s: %s",
                type(observer).__qualname__, what, trace(error, frames_only=True),
            )  # fmt: skip
