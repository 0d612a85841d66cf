"""Help for tests of applications that use pgqueue.

The fixtures are in `plugin`, and pytest finds them by itself.
"""

from pgqueue.testing.assertions import assert_enqueued, assert_not_enqueued, enqueued
from pgqueue.testing.clock import stop_travelling, travel
from pgqueue.testing.inline import arun_pending, run_pending

__all__ = [
    "arun_pending",
    "assert_enqueued",
    "assert_not_enqueued",
    "enqueued",
    "run_pending",
    "stop_travelling",
    "travel",
]
