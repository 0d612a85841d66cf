"""Counts how attempts of each kind ended in this process, until they are added in the database."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

from pgqueue.events import Outcome
from pgqueue.vitals import AttemptCounts

if TYPE_CHECKING:
    from pgqueue.events import Ended

_kind = attrgetter("job.kind")
FAILED = (Outcome.FAILED, Outcome.DEAD)
NOT_COUNTED = (Outcome.RELEASED, Outcome.SNOOZED, Outcome.LOST)
"""They say nothing about the kind."""


class Counts:
    """`add` belongs to the event loop, the rest to the watch's thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._ended: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._dead: Counter[str] = Counter()

    def add(self, outcome: Outcome, endings: Sequence[Ended]) -> None:
        """Adds endings of one outcome."""
        if outcome in NOT_COUNTED:
            return
        with self._lock:
            kinds = Counter(map(_kind, endings))
            self._ended.update(kinds)
            if outcome in FAILED:
                self._failed.update(kinds)
            if outcome is Outcome.DEAD:
                self._dead.update(kinds)

    def take(self) -> dict[str, AttemptCounts]:
        """All so far, which begin anew."""
        with self._lock:
            taken = {
                kind: AttemptCounts(ended=ended, failed=self._failed[kind], dead=self._dead[kind])
                for kind, ended in self._ended.items()
            }
            self._clear()
            return taken

    def put_back(self, counts: Mapping[str, AttemptCounts]) -> None:
        """Adds what was taken, and could not be stored."""
        with self._lock:
            for kind, count in counts.items():
                self._ended[kind] += count.ended
                self._failed[kind] += count.failed
                self._dead[kind] += count.dead
