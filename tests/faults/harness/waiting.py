"""Waits that have a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE = 30.0
"""Seconds that anything may take on a busy machine."""


class TooLate(AssertionError):
    """What was waited for did not come in time."""


def until(condition: Callable[[], T], what: str, seconds: float = DEADLINE) -> T:
    """Waits until `condition` gives something true, and returns that.

    Raises:
        TooLate: it did not within `seconds`; the message says `what`.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TooLate(f"not within {seconds:g} s: {what}")
        time.sleep(0.005)
    return found
