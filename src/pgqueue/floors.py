"""Where in each lane a client's next claim starts to look.

Below the last claimed position lie the index entries of jobs that are finished. Usually they are
cheap to pass over; while some transaction holds an old snapshot they are not, and they pile up
(measured: claims fell to a seventh after 160,000 jobs). So a client remembers a floor per lane and
sends it with each claim.

A floor is a hint. Jobs may turn up below it: committed late, released, or undone with a
transaction. Hence the floor trails the claims by a second, at most 2,000 positions; and now and
then a claim starts from the very bottom, at an interval in proportion to what that costs. Where it
finds jobs below the floor there may be more of them (a big transaction that was committed late, a
sequence that a failover set back), so the lane's floor starts anew from there.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pgqueue.models import Job

LANES = 10
TRAIL_SECONDS = 1.0
TRAIL_POSITIONS = 2_000
RESCAN_SECONDS = 1.0
"""The shortest interval between two claims from the bottom."""
RESCAN_SHARE = 30
"""A claim from the bottom that took t seconds is not repeated within 30 t: about 3% of the time."""

Scope: TypeAlias = "tuple[str, ...] | None"
"""The kinds that a claim asks for: each set of kinds has floors of its own."""


@attrs.define
class _Lane:
    floor: int | None = None
    highest: int = 0
    highest_before: int = 0

    def learn(self, position: int) -> None:
        self.highest = max(self.highest, position)
        self.floor = max(self.floor or 0, self.highest - TRAIL_POSITIONS)

    def trail(self) -> None:
        if self.highest_before:
            self.floor = max(self.floor or 0, self.highest_before)
        self.highest_before = self.highest


@attrs.define
class Claiming:
    """One claim under way: what to send, and what to remember when it is back."""

    scope: Scope
    queues: Sequence[str]
    floors: str | None
    """Ten floors per queue as a Postgres array's text; None asks for the database's own hints."""
    rescan: bool
    started: float


@attrs.define
class Floors:
    """The floors of one client. Safe to share between threads: races only cost precision."""

    clock: Callable[[], float] = time.monotonic
    _lanes: dict[tuple[Scope, str, int], _Lane] = attrs.field(factory=dict)
    _rescan_at: dict[Scope, float] = attrs.field(factory=dict)
    _trail_at: float = 0.0

    def begin(self, scope: Scope, queues: Sequence[str]) -> Claiming:
        """What to send with a claim of `scope` from `queues`."""
        now = self.clock()
        if now >= self._trail_at:
            self._trail_at = now + TRAIL_SECONDS
            for lane in list(self._lanes.values()):
                lane.trail()
        due = self._rescan_at.get(scope)
        if due is None:
            # The first claim goes by the database's hints, which are only as old as its
            # maintenance.
            self._rescan_at[scope] = now + RESCAN_SECONDS
            return Claiming(scope, queues, None, rescan=False, started=now)
        rescan = now >= due
        if rescan:
            # Only one of several threads goes to the bottom; corrected when it is back.
            self._rescan_at[scope] = now + 60
        return Claiming(scope, queues, self._text(scope, queues, rescan=rescan), rescan, now)

    def end(self, claiming: Claiming, jobs: Sequence[Job[Any]]) -> None:
        """Learns from the `jobs` that a claim brought, in its order; with none if it failed."""
        if claiming.rescan:
            now = self.clock()
            pause = max(RESCAN_SECONDS, RESCAN_SHARE * (now - claiming.started))
            self._rescan_at[claiming.scope] = now + pause
            lowest = {(job.queue, job.priority): job.position for job in reversed(jobs)}
            for (queue, priority), position in lowest.items():
                lane = self._lanes.get((claiming.scope, queue, priority))
                if lane is not None and position < (lane.floor or 0):
                    self._lanes.pop((claiming.scope, queue, priority), None)
        highest = {(job.queue, job.priority): job.position for job in jobs}
        for (queue, priority), position in highest.items():
            lane = self._lanes.setdefault((claiming.scope, queue, priority), _Lane())
            if position > lane.highest:
                lane.learn(position)

    def _text(self, scope: Scope, queues: Sequence[str], *, rescan: bool) -> str:
        if rescan:
            return "{" + ",".join(["0"] * (LANES * len(queues))) + "}"
        floors = []
        for queue in queues:
            for priority in range(LANES):
                lane = self._lanes.get((scope, queue, priority))
                floors.append("NULL" if lane is None or lane.floor is None else str(lane.floor))
        return "{" + ",".join(floors) + "}"
