"""Figures as people say them."""

from __future__ import annotations

from datetime import timedelta

_UNITS = ((172_800, 86_400, "d"), (7_200, 3_600, "h"), (120, 60, "m"), (0, 1, "s"))
"""From so many seconds on, the unit's seconds and its letter."""
_SIZES = ("bytes", "kB", "MB", "GB", "TB")
_STEP = 1024
_FEW = 10
"""Of a unit: below that, a digit after the point matters."""


def span(length: timedelta) -> str:
    """`0.25s`, `42s`, `5m`, `3h`, `12d`: one unit, coarse enough to be read at a glance."""
    seconds = length.total_seconds()
    if 0 < seconds < 1:
        return f"{seconds:.2g}s" if seconds >= 0.001 else "<1ms"  # noqa: PLR2004 - a millisecond
    whole = round(seconds)
    unit, letter = next((unit, letter) for least, unit, letter in _UNITS if whole >= least)
    return f"{whole // unit}{letter}"


def quantity(count: int, singular: str, plural: str | None = None) -> str:
    """`1 job`, `3 jobs`, `12,000 jobs`."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def size(count: int) -> str:
    """`512 bytes`, `8 kB`, `1.5 GB`: as Postgres writes them, 1 kB being 1024 bytes."""
    value, unit = float(count), 0
    while value >= _STEP and unit < len(_SIZES) - 1:
        value, unit = value / _STEP, unit + 1
    digits = 1 if unit and value < _FEW and value != int(value) else 0
    return f"{value:.{digits}f} {_SIZES[unit]}"
