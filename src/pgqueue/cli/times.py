"""Times as people say them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import attrs

_NOW = 1.0
"""Seconds that nobody minds."""
_UNITS = ((172_800, 86_400, "d"), (7_200, 3_600, "h"), (120, 60, "m"), (0, 1, "s"))
"""From so many seconds on, the unit's seconds and its letter."""


def span(length: timedelta) -> str:
    """`0.25s`, `42s`, `5m`, `3h`, `12d`: one unit, coarse enough to be read at a glance."""
    seconds = length.total_seconds()
    if 0 < seconds < 1:
        return f"{seconds:.2g}s" if seconds >= 0.001 else "<1ms"  # noqa: PLR2004 - a millisecond
    whole = round(seconds)
    unit, letter = next((unit, letter) for least, unit, letter in _UNITS if whole >= least)
    return f"{whole // unit}{letter}"


@attrs.frozen
class Clock:
    """Shows moments: relative to the database's `now`, or in full."""

    now: datetime
    utc: bool

    def when(self, moment: datetime) -> str:
        """`in 4m`, `3s ago`, `now`; or the moment itself."""
        if self.utc:
            return moment.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
        ahead = moment - self.now
        if abs(ahead.total_seconds()) < _NOW:
            return "now"
        return f"in {span(ahead)}" if ahead > timedelta(0) else f"{span(-ahead)} ago"
