"""What a worker process does, counted as it is told in batches."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from pgqueue.events import Observer, Outcome
from pgqueue.metrics import catalog
from pgqueue.metrics.render import families
from pgqueue.metrics.tallies import Labels, Tallies
from pgqueue.worker.options import whole

if TYPE_CHECKING:
    from pgqueue.events import Ended, Use
    from pgqueue.models import Job

NOT_RUN = (Outcome.RELEASED, Outcome.LOST)
"""They may not have been started: their durations say nothing."""
MEASURED = 32
"""Of a larger claim so many waits are measured, each of which stands for those around it. To
measure each takes 0.4 µs, a twentieth of what a small job takes in all."""


class WorkerMetrics(Observer, Collector):
    """Counts what a worker process does; a collector for a registry of prometheus_client.

    Pass it to the worker, `Worker(..., observers=[metrics])`, and register it where your process
    serves its metrics: `prometheus_client.REGISTRY.register(metrics)`. For a worker of several
    processes, or one that serves nothing else, use `MetricsServer`.

    Args:
        most_labels: of queues, and of kinds, so many have a label of their own, the first that
            came; the others are "other".
    """

    def __init__(self, *, most_labels: int = 100) -> None:
        self._most_labels = whole(most_labels, "most_labels", 1)
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._tallies = Tallies()
        self._queues = Labels(self._most_labels)
        self._kinds = Labels(self._most_labels)
        self._use: Callable[[], Use] | None = None

    # As an observer

    def started(self, worker: str, use: Callable[[], Use]) -> None:  # noqa: ARG002
        """Begins from zero, in this process."""
        self._begin()
        self._use = use

    def stopped(self) -> None:
        """Nothing runs any more; what was counted stays."""
        self._use = None

    def claimed(self, jobs: Sequence[Job[Any]], seconds: float) -> None:
        """Counts a claim, its jobs and their waits."""
        with self._lock:
            self._tallies.count(catalog.CLAIMS, "jobs" if jobs else "empty")
            self._tallies.histogram(catalog.CLAIM_DURATION).add(seconds)
            if jobs:
                self._tallies.histogram(catalog.CLAIM_JOBS).add(len(jobs))
                self._add_waits(jobs)

    def _add_waits(self, jobs: Sequence[Job[Any]]) -> None:
        step = -(-len(jobs) // MEASURED)
        left = len(jobs)
        for job in jobs[::step]:
            wait = max(0.0, (job.claimed_at - job.run_at).total_seconds())
            histogram = self._tallies.histogram(catalog.WAIT, self._queues(job.queue))
            histogram.add(wait, min(step, left))
            left -= step

    def ended(self, outcome: Outcome, endings: Sequence[Ended]) -> None:
        """Counts attempts, and how long they took."""
        # By queue and then by kind: to make a pair of each job's would take twice as long.
        queues: dict[str, defaultdict[str, list[float]]] = {}
        kinds: defaultdict[str, list[float]] = defaultdict(list)
        last = None
        for ending in endings:
            job = ending.job
            if job.queue != last:
                last = job.queue
                kinds = queues.setdefault(last, defaultdict(list))
            kinds[job.kind].append(ending.duration)
        with self._lock:
            for queue, kinds in queues.items():
                for kind, durations in kinds.items():
                    self._add_attempts(self._queues(queue), self._kinds(kind), outcome, durations)

    def _add_attempts(
        self, queue: str, kind: str, outcome: Outcome, durations: Sequence[float]
    ) -> None:
        self._tallies.count(catalog.ATTEMPTS, queue, kind, outcome.value, by=len(durations))
        if outcome not in NOT_RUN:
            self._tallies.histogram(catalog.DURATION, queue, kind).add_all(durations)

    def reconnected(self, purpose: str) -> None:
        """Counts it."""
        with self._lock:
            self._tallies.count(catalog.RECONNECTS, purpose)

    def connection_failed(self, purpose: str) -> None:
        """Counts it."""
        with self._lock:
            self._tallies.count(catalog.CONNECTION_FAILURES, purpose)

    def beat_missed(self) -> None:
        """Counts it."""
        with self._lock:
            self._tallies.count(catalog.BEATS_MISSED)

    # As a collector

    def describe(self) -> Iterable[Family]:
        """What `collect` gives, without a look."""
        return families(catalog.WORKER, Tallies())

    def collect(self) -> Iterable[Family]:
        """The metrics as they are now; in any thread."""
        return families(catalog.WORKER, self.tallies())

    def tallies(self) -> Tallies:
        """A copy of what was counted, with how busy the worker is now."""
        made = Tallies()
        with self._lock:
            made.add(self._tallies.dumped(), gauges=False)
            use = self._use
        if use is not None:
            _add_use(made, use())
        return made


def _add_use(tallies: Tallies, use: Use) -> None:
    for pool in use.pools:
        tallies.gauge(catalog.RUNNING, pool.pool, value=pool.busy)
        tallies.gauge(catalog.LIMIT, pool.pool, value=pool.size)
        tallies.gauge(catalog.PREFETCHED, pool.pool, value=pool.waiting)
    tallies.gauge(catalog.HELD, value=use.held)
    tallies.gauge(catalog.UNREPORTED, value=use.unreported)
    tallies.gauge(catalog.PROCESSES, value=1)
