"""Times as people say them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import attrs

from pgqueue.words import span

_NOW = 1.0
"""Seconds that nobody minds."""


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
