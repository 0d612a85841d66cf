"""What a worker tells those who observe it."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from datetime import timedelta

    from pgqueue.models import Job


class Outcome(str, Enum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """It will be tried again."""
    DEAD = "dead"
    """It failed, and was the last attempt."""
    SKIPPED = "skipped"
    SNOOZED = "snoozed"
    CANCELLED = "cancelled"
    RELEASED = "released"
    """Given back when the worker stopped; not counted."""
    LOST = "lost"
    """The lease was lost while it ran: what the handler did may happen again elsewhere."""

    def __str__(self) -> str:
        return self.value


@attrs.frozen
class AttemptEnded:
    """One attempt is over, and the database knows."""

    job: Job[Any]
    outcome: Outcome
    duration: timedelta
    """From the handler's start to its end; zero if it was never started."""
    error: BaseException | None = None
    """What the handler raised, if it did."""
