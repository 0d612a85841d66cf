"""How many jobs a pool should be given, and when it holds too many."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgqueue.worker.pool import Pool

AHEAD_SECONDS = 0.1
"""How much work to hold in the buffer, at the rate at which the pool gets through it."""
MOST_AHEAD = 2_000
LARGEST_CLAIM = 1_000
STUCK_SECONDS = 1.0
"""After so long without an end in sight, waiting jobs are better off with another worker."""


class Demand:
    """What one pool wants: what its free consumers can run, and enough ahead that none waits.

    Args:
        pool: the pool.
        prefetch: how many ahead; None: by the pool's rate.
        clock: in seconds.
    """

    def __init__(
        self, pool: Pool, prefetch: int | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pool = pool
        self._prefetch = prefetch
        self._clock = clock
        # Of mixed kinds nobody knows which will come: a unit is counted as the smallest of them.
        self._unit = min(kind.batch or 1 for kind in pool.kinds)
        self._rate = 0.0
        self._rate_at = self._progress_at = clock()
        self._finished = 0

    def room(self) -> int:
        """How many jobs to claim now; 0 as long as enough are waiting."""
        ahead = self._ahead()
        waiting = self._pool.waiting
        if waiting > ahead // 2:
            return 0
        free = (self._pool.size - self._pool.busy) * self._unit
        return min(LARGEST_CLAIM, max(0, ahead + free - waiting))

    @property
    def low(self) -> int:
        """How many waiting jobs are so few that `room` should be asked again."""
        return self._ahead() // 2

    def stuck(self) -> bool:
        """Whether jobs wait behind slow ones, of their own accord for nobody but us.

        They were claimed when jobs were fast. The rate counts from zero afterwards.
        """
        self._ahead()
        if self._prefetch is not None or not self._pool.waiting:
            return False
        if self._clock() - self._progress_at < STUCK_SECONDS:
            return False
        self._rate = 0.0
        return True

    def _ahead(self) -> int:
        if self._prefetch is not None:
            return self._prefetch
        now = self._clock()
        elapsed = now - self._rate_at
        if elapsed > AHEAD_SECONDS / 4:
            finished = self._pool.finished
            lately = (finished - self._finished) / elapsed
            if finished != self._finished:
                self._progress_at = now
            self._rate = lately if lately > self._rate else 0.7 * self._rate + 0.3 * lately
            self._rate_at, self._finished = now, finished
        return min(MOST_AHEAD, int(self._rate * AHEAD_SECONDS))
