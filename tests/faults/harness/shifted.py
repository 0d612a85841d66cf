"""Runs a module in a process whose clock is wrong.

    python -m tests.faults.harness.shifted SECONDS MODULE ARGUMENT ...

Only the time of day is: the monotonic clock cannot be set.
"""

from __future__ import annotations

import datetime as dt
import runpy
import sys
import time

REAL = dt.datetime


class _Kind(type):
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, REAL)


def shift(seconds: float) -> None:
    """From now on the time of day is so many seconds ahead; call it before others import it."""
    true_time = time.time

    class Shifted(REAL, metaclass=_Kind):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> REAL:  # type: ignore[override]
            return REAL.now(tz) + dt.timedelta(seconds=seconds)

        @classmethod
        def utcnow(cls) -> REAL:  # type: ignore[override]
            return REAL.utcnow() + dt.timedelta(seconds=seconds)

    time.time = lambda: true_time() + seconds
    time.time_ns = lambda: int((true_time() + seconds) * 1e9)
    dt.datetime = Shifted  # type: ignore[misc]


if __name__ == "__main__":
    shift(float(sys.argv[1]))
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
