"""The claims that a worker process holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgqueue.events import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgqueue.models import Job


class Leases:
    """What this worker holds, by job id. An ending counts only while its job is in here.

    The event loop writes; the heartbeat and handlers in threads look. One job may be claimed twice
    by the same worker, if the first claim was lost, so that every question is about an id and a
    token.
    """

    def __init__(self) -> None:
        self._held: dict[int, Job[Any]] = {}
        # By token: all jobs of one claim have the same, and are renewed together.
        self._renewed: dict[int, float] = {}
        self._stopping: dict[int, tuple[int, Outcome]] = {}
        self._acked: dict[int, int] = {}
        self.moves = 0
        """Grows whenever a job comes or goes, and when an earlier look is not to count."""

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, jobs: Sequence[Job[Any]], sent_at: float) -> list[Job[Any]]:
        """Adds claimed jobs; `sent_at` is the monotonic time at which the claim was sent.

        Returns the earlier claims of the same jobs, which were lost before anybody noticed.
        """
        lost = [held for job in jobs if (held := self._held.get(job.id)) is not None]
        for job in jobs:
            self._held[job.id] = job
            self._renewed[job.token] = sent_at
        self.moves += 1
        return lost

    def holds(self, job: Job[Any]) -> bool:
        """Whether `job` is still to be ended by us."""
        held = self._held.get(job.id)
        return held is not None and held.token == job.token

    def drop(self, job: Job[Any]) -> None:
        """Takes `job` out, if it is in here."""
        if self.holds(job):
            del self._held[job.id]
            if self._stopping:
                self._stopping.pop(job.id, None)
            if self._acked:
                self._acked.pop(job.id, None)
            self.moves += 1

    # Jobs that should stop

    def ask_to_stop(self, job: Job[Any], outcome: Outcome) -> None:
        """Notes that `job` should stop, and end with `outcome`."""
        self._stopping[job.id] = (job.token, outcome)

    def unwanted(self, job: Job[Any]) -> Outcome | None:
        """With what `job` should end, whatever its handler does; None if it should go on."""
        held = self._held.get(job.id)  # not `holds`: this is asked for every job
        if held is None or held.token != job.token:
            return Outcome.LOST
        if not self._stopping:
            return None
        token, outcome = self._stopping.get(job.id, (None, None))
        return outcome if token == job.token else None

    # Jobs that a handler acked in a transaction of its own

    def note_ack(self, job: Job[Any]) -> None:
        """Notes that `job` was acked in a transaction, which may or may not be committed."""
        self._acked[job.id] = job.token

    def is_acked(self, job: Job[Any]) -> bool:
        """Whether `job` was acked in a transaction of its handler's."""
        return bool(self._acked) and self._acked.get(job.id) == job.token

    def forget_acks(self, jobs: Iterable[Job[Any]]) -> None:
        """Notes that the transactions in which `jobs` were acked did not come to pass."""
        for job in jobs:
            self._acked.pop(job.id, None)

    # Renewal

    def due(self, now: float, interval: float) -> list[Job[Any]]:
        """Held jobs whose leases were not renewed for `interval` seconds.

        Without those acked in an open transaction: it has their rows locked, so that nobody can
        take them, and a renewal would wait for it.
        """
        # In this order: what `hold` adds meanwhile must not look like left-overs.
        renewed = list(self._renewed)
        held = list(self._held.values())
        tokens = {job.token for job in held}
        for token in renewed:
            if token not in tokens:
                self._renewed.pop(token, None)
        return [
            job
            for job in held
            if now - self._renewed.get(job.token, 0.0) >= interval and not self.is_acked(job)
        ]

    def renewed(self, jobs: Iterable[Job[Any]], sent_at: float) -> None:
        """Notes renewals, sent at the monotonic time `sent_at`."""
        for job in jobs:
            self._renewed[job.token] = sent_at
