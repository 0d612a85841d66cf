"""How times are said."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from pgqueue.cli.times import Clock
from pgqueue.words import span

NOW = datetime(2030, 1, 1, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "seconds,text",
    [
        (0, "0s"),
        (0.0001, "<1ms"),
        (0.25, "0.25s"),
        (1.4, "1s"),
        (119.4, "119s"),
        (119.9, "2m"),
        (7199, "119m"),
        (7199.9, "2h"),
        (86_400, "24h"),
        (172_800, "2d"),
        (10**8, "1157d"),
    ],
)
def test_span_has_one_unit(seconds: float, text: str) -> None:
    """One glance is enough, and nothing is rounded up to the next unit's number."""
    assert span(timedelta(seconds=seconds)) == text


def test_moment_is_told_from_the_database_s_now() -> None:
    """Ahead, past, and near enough."""
    clock = Clock(NOW, utc=False)
    assert clock.when(NOW + timedelta(minutes=4)) == "in 4m"
    assert clock.when(NOW - timedelta(seconds=3)) == "3s ago"
    assert clock.when(NOW + timedelta(milliseconds=900)) == "now"


def test_moment_is_told_in_full_on_request() -> None:
    """UTC, whatever zone the value came in."""
    local = NOW.astimezone(timezone(timedelta(hours=5)))
    assert Clock(NOW, utc=True).when(local) == "2030-01-01 12:00:00Z"
