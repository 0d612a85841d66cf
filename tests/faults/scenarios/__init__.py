"""All scenarios, in the order in which they are shown."""

from __future__ import annotations

from tests.faults.harness.run import Scenario
from tests.faults.scenarios import kills

SCENARIOS: tuple[Scenario, ...] = (
    Scenario("kills", "SIGKILL of workers under load", kills.run, (2,)),
)
