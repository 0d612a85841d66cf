"""Every scenario in its fast profile. `make soak` plays the full ones."""

from __future__ import annotations

import secrets

import pytest
from tests.faults.harness.run import Scenario, Stage
from tests.faults.scenarios import SCENARIOS

from pgqueue.testing.databases import Databases

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]


@pytest.mark.parametrize("scenario", [pytest.param(s, id=s.name) for s in SCENARIOS])
def test_scenario(
    scenario: Scenario,
    _pgqueue_databases: Databases,  # noqa: PT019 - its value is what is needed
    pgqueue_template: str,
) -> None:
    """Nothing is lost, nothing is done twice, and all that is promised holds."""
    seed = secrets.randbelow(2**31)
    report = Stage(_pgqueue_databases, pgqueue_template, full=False, seed=seed).play(scenario)
    assert report.ok, f"seed {seed}: {report}"
    assert report.faults > 0
