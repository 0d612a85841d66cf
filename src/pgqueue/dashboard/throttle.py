"""How often one may guess."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_REMEMBERED = 10_000


class Throttle:
    """After `burst` failures of a key, one more is let through every `pause` seconds.

    One is kept for addresses, and a more generous one for names, so that neither many names nor
    many addresses make guessing faster, and somebody else's guesses hardly keep a user out.
    """

    def __init__(
        self, burst: int = 5, pause: float = 30.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst = burst
        self._pause = pause
        self._clock = clock
        # Until when what was used up is repaid (a leaky bucket as one number).
        self._owed: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, key: str) -> float:
        """Counts an attempt; 0.0 if it may be made, else after how many seconds it may."""
        now = self._clock()
        with self._lock:
            owed = max(self._owed.get(key, now), now)
            wait = owed - now - (self._burst - 1) * self._pause
            if wait > 0:
                return wait
            self._owed[key] = owed + self._pause
            self._owed.move_to_end(key)
            while len(self._owed) > _MOST_REMEMBERED:
                self._owed.popitem(last=False)
        return 0.0

    def forgive(self, key: str) -> None:
        """Forgets the attempts of a key."""
        with self._lock:
            self._owed.pop(key, None)
