"""Answers that are too dear to be asked for at each hit."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Generic, TypeVar

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

SHARE = 20
"""An answer that took so long is not asked for again within so many times that."""


@attrs.frozen
class Aged(Generic[T]):
    """An answer, and how old it is."""

    value: T
    age: float
    """Seconds."""


class Cached(Generic[T]):
    """One question, asked by one caller at a time, and not oftener than every so many seconds.

    Who comes while it is asked gets the last answer, or waits where there is none.
    """

    def __init__(
        self,
        ask: Callable[[], T],
        every: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._every = every
        self._clock = clock
        self._asking = threading.Lock()
        self._known: tuple[T, float, float] | None = None
        self._thread: threading.Thread | None = None

    def get(self) -> Aged[T]:
        """The answer, asked for now if the last one is too old.

        Raises:
            Exception: whatever the question raises; the last answer is kept.
        """
        known = self._known
        if known is not None and self._clock() < known[2]:
            return self._aged(known)
        if not self._asking.acquire(blocking=known is None):
            return self._aged(known)  # type: ignore[arg-type] # known: else it would have waited
        try:
            if self._known is known:
                self._refresh()
            return self._aged(self._known)  # type: ignore[arg-type] # just made
        finally:
            self._asking.release()

    def peek(self) -> Aged[T] | None:
        """The last answer; where that is too old, it is asked for again in the background."""
        known = self._known
        if known is None or self._clock() >= known[2]:
            self._start()
        return None if known is None else self._aged(known)

    def forget(self) -> None:
        """Has the next caller ask anew."""
        known = self._known
        if known is not None:
            self._known = (known[0], known[1], self._clock())

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._quietly, daemon=True)
            self._thread.start()

    def _quietly(self) -> None:
        try:
            self.get()
        except Exception:  # noqa: BLE001 - who waits for the answer asks again, and is told
            return

    def _refresh(self) -> None:
        start = self._clock()
        value = self._ask()
        end = self._clock()
        self._known = (value, end, end + max(self._every, SHARE * (end - start)))

    def _aged(self, known: tuple[T, float, float]) -> Aged[T]:
        return Aged(known[0], self._clock() - known[1])
