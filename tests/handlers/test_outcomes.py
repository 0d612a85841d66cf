"""Outcomes and events as values."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pgqueue import Cancel, ConfigurationError, Outcome, Retry, Skip, Snooze


@pytest.mark.parametrize("make", [Retry, Snooze])
@pytest.mark.parametrize("delay", [5, timedelta(seconds=-1), "1 s"])
def test_delay_that_cannot_be_is_refused(make: Any, delay: object) -> None:
    """Where it is made, so that the traceback points there."""
    with pytest.raises(ConfigurationError, match="zero or more"):
        make(delay)


def test_outcomes_are_values() -> None:
    """Equal if they say the same; with defaults where nothing needs to be said."""
    assert Retry() == Retry(None, reason="")
    assert Snooze(timedelta(0)) == Snooze(timedelta(0))
    assert (Skip(), Cancel()) == (Skip(""), Cancel(""))
    with pytest.raises(TypeError):
        Snooze()  # type: ignore[call-arg]


def test_outcome_reads_as_its_name() -> None:
    """In logs and metrics."""
    assert f"{Outcome.SUCCEEDED} {Outcome.LOST}" == "succeeded lost"
