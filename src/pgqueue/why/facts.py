"""The facts that the database gave, read as what they are."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import attrs

from pgqueue import readers
from pgqueue.words import span


@attrs.frozen
class Facts:
    """JSON objects within JSON objects. What is missing is None, or an object without anything."""

    given: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - JSON is whatever it is
        return self.given.get(name)

    def has(self, name: str) -> bool:
        """Whether it is known."""
        return self.given.get(name) is not None

    def of(self, name: str) -> Facts:
        """An object within."""
        return Facts(self.given.get(name) or {})

    def all_of(self, name: str) -> list[Facts]:
        """A list of objects within."""
        return [Facts(entry) for entry in self.given.get(name) or ()]

    def number(self, name: str) -> int:
        """A number; 0 if it is not known."""
        return int(self.given.get(name) or 0)

    def time(self, name: str) -> datetime | None:
        """A time."""
        text = self.given.get(name)
        return None if text is None else readers.moment(text)

    def must(self, name: str) -> datetime:
        """A time that is always there."""
        return readers.moment(self.given[name])

    @property
    def now(self) -> datetime:
        """The moment of all facts."""
        return self.must("now")


def when(moment: datetime, now: datetime) -> str:
    """`in 5m (2026-11-27 09:00:00Z)`, `12s ago (...)`."""
    ahead = moment - now
    if abs(ahead) < _NOW:
        return f"now ({absolute(moment)})"
    relative = f"in {span(ahead)}" if ahead > timedelta(0) else f"{span(-ahead)} ago"
    return f"{relative} ({absolute(moment)})"


def absolute(moment: datetime) -> str:
    """`2026-11-27 09:00:00Z`."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")


def error_text(last: Facts) -> str:
    """The class and message of an attempt's error, at most so long that a sentence bears it."""
    text = ": ".join(part for part in (last["error_class"], last["error"]) if part)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


_LONGEST = 200
_NOW = timedelta(seconds=1)
