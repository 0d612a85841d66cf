"""What a worker counts of jobs that are not kept (retention 0): nobody else could.

While finished jobs are kept, the upkeep counts them in the archive, and this does nothing.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import TYPE_CHECKING

from pgqueue.events import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgqueue.worker.runner import Ending

COUNTED = (Outcome.SUCCEEDED, Outcome.SKIPPED, Outcome.CANCELLED)
SAMPLE = 20
"""Jobs of a batch whose waits and run times are looked at; each stands for its share of it."""
PER_DOUBLING, FIRST, LAST = 4, -13, 133
"""Of the buckets: as the SQL function _bucket has them."""


def bucket(seconds: float) -> int:
    """Which bucket a duration is of, from 1."""
    if seconds <= 2.0**FIRST:
        return 1
    return min(LAST, math.ceil(PER_DOUBLING * (math.log2(seconds) - FIRST)))


class Tally:
    """Counts of one worker process since they were last sent."""

    def __init__(self) -> None:
        self.active = True
        """Whether to count: until the database says whether it keeps finished jobs, and if not."""
        self._ended: Counter[tuple[str, str]] = Counter()
        self._waits: Counter[tuple[str, int]] = Counter()
        self._runs: Counter[tuple[str, int]] = Counter()

    def add(self, endings: Sequence[Ending], lost: set[int]) -> None:
        """Counts endings that the database knows of, all but those that are lost."""
        if lost:
            endings = [ending for ending in endings if ending.job.id not in lost]
        ended = [ending for ending in endings if ending.outcome in COUNTED]
        self._ended.update((e.job.queue, e.outcome.value) for e in ended)
        step = max(1, len(ended) // SAMPLE)
        for ending in ended[::step]:
            job = ending.job
            waited = (job.claimed_at - job.run_at).total_seconds()
            self._waits[job.queue, bucket(waited)] += step
            self._runs[job.queue, bucket(ending.duration)] += step

    def take(self) -> str:
        """The counts, as the SQL function note_minute takes them; they begin anew."""
        queues: dict[str, dict[str, object]] = {}
        for (queue, outcome), count in self._ended.items():
            queues.setdefault(queue, {"queue": queue})[outcome] = count
        for queue, found in queues.items():
            found["waits"] = _counts(queue, self._waits.items())
            found["runs"] = _counts(queue, self._runs.items())
        self._ended, self._waits, self._runs = Counter(), Counter(), Counter()
        return json.dumps(list(queues.values()))


def _counts(queue: str, found: Iterable[tuple[tuple[str, int], int]]) -> list[int]:
    ours = {place: count for (name, place), count in found if name == queue}
    return [ours.get(place, 0) for place in range(1, max(ours, default=0) + 1)]
