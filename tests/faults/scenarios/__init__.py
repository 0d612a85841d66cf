"""All scenarios, in the order in which they are shown."""

from __future__ import annotations

from tests.faults.harness.run import Scenario
from tests.faults.scenarios import kills, zombies

SCENARIOS: tuple[Scenario, ...] = (
    Scenario("kills", "SIGKILL of workers under load", kills.run, (2,)),
    Scenario("zombies", "late ends, by stopped workers and stale clients", zombies.run, (1,)),
)
