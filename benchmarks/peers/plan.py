"""How much is measured."""

from __future__ import annotations

import attrs
from benchmarks.peers.systems import System

LEAST = 100
"""So many jobs a measure has whatever the scale."""
LEAST_WRITES = 1_000
"""The same for what is written: fewer would share what is written once, by a start of a worker."""


@attrs.frozen
class Plan:
    """Counts are those of a run at scale 1, for a system with a share of 1."""

    scale: float = 1.0
    """Multiplies counts and times."""
    rounds: int = 3
    """How often each figure is taken; medians are reported."""
    drain_jobs: int = 40_000
    single_jobs: int = 1_000
    write_jobs: int = 20_000
    rates: tuple[float, ...] = (50.0, 1_000.0)
    """Jobs per second while latency is measured."""
    latency_seconds: float = 3.0
    held_round: int = 25_000
    """Jobs per round under the held snapshot."""
    held_ours: int = 1_000_000
    """Jobs until pgqueue's rounds end."""
    held_peers: int = 500_000
    """Jobs until a peer's rounds end."""
    held_seconds: float = 45.0
    """No round of a peer begins after so many seconds; pgqueue has three times as many."""

    def jobs(self, count: int, system: System | None = None, least: int = LEAST) -> int:
        """`count`, scaled, for that system."""
        return max(least, int(count * self.scale * (system.share if system else 1)))

    def seconds(self, value: float) -> float:
        """`value`, scaled; at least a second."""
        return max(1.0, value * self.scale)
