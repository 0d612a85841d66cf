"""When a worker that runs until it is idle has nothing left to do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pgqueue.worker.leases import Leases


class Idleness:
    """Reached when every claim loop has looked in vain, and no job came or went since.

    One loop alone does not know: a job of another one's may enqueue one for it.
    """

    def __init__(self, leases: Leases, loops: int) -> None:
        self._leases = leases
        self._loops = loops
        self._seen: dict[object, int] = {}
        self.reached = asyncio.Event()

    def saw_nothing(self, loop: object, moves: int) -> None:
        """Notes that `loop` found nothing, and how many `moves` there had been when it looked."""
        self._seen[loop] = moves
        if self.still():
            self.reached.set()

    def reset(self) -> None:
        """Makes all loops look again; looks that are under way do not count."""
        self._seen.clear()
        self._leases.moves += 1
        self.reached.clear()

    def still(self) -> bool:
        """Whether nothing has happened since."""
        looks = list(self._seen.values())
        return not self._leases and looks == [self._leases.moves] * self._loops
