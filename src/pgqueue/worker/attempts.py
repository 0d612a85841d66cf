"""The log of attempts: exactly one line for each, with its facts as fields, and never the payload.

Its logger is "pgqueue.attempts", of workers and endpoints alike.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from pgqueue.events import Outcome
from pgqueue.jsontext import storable_text
from pgqueue.masking import LOOKED_THROUGH

if TYPE_CHECKING:
    from pgqueue.redaction import Redact
    from pgqueue.worker.runner import Ending

logger = logging.getLogger("pgqueue.attempts")

LEVELS = {
    Outcome.SUCCEEDED: logging.INFO,
    Outcome.SKIPPED: logging.INFO,
    Outcome.SNOOZED: logging.INFO,
    Outcome.CANCELLED: logging.INFO,
    Outcome.RELEASED: logging.INFO,
    Outcome.FAILED: logging.WARNING,
    Outcome.LOST: logging.WARNING,
    Outcome.DEAD: logging.ERROR,
}
LONGEST_REASON = 1_000
"""Characters of an error or a reason."""


class AttemptLog:
    """Writes the lines of one worker process."""

    def __init__(self, redact: Redact, worker: str) -> None:
        """`redact` gives texts back as they may be seen; `worker` is the process's name."""
        self._redact = redact
        self._worker = worker

    @staticmethod
    def wants_all() -> bool:
        """Whether good endings are logged, too: asked once for a batch, since it seldom is so."""
        return logger.isEnabledFor(logging.INFO)

    def write(self, ending: Ending, outcome: Outcome) -> None:
        """One line, if its level is on."""
        level = LEVELS[outcome]
        if not logger.isEnabledFor(level):
            return
        job, error = ending.job, ending.error
        logger.log(
            level,
            "job %s (%s) attempt %s of %s: %s in %.3fs%s",
            job.id, job.kind, job.attempt, job.max_attempts, outcome, ending.duration,
            self.why(ending),
            extra={
                "job_id": job.id,
                "kind": job.kind,
                "queue": job.queue,
                "attempt": job.attempt,
                "max_attempts": job.max_attempts,
                "outcome": outcome.value,
                "duration": round(ending.duration, 6),
                "wait": round(max(0.0, (job.claimed_at - job.run_at).total_seconds()), 6),
                "worker": self._worker,
                "error_class": None if error is None else type(error).__qualname__,
            },
        )  # fmt: skip

    def why(self, ending: Ending) -> str:
        """The error or reason of an ending, redacted and bounded, behind a colon; "" if none."""
        if ending.error is None:
            text = self._redact(ending.job, ending.reason[:LOOKED_THROUGH])
        else:
            text = type(ending.error).__qualname__
            with contextlib.suppress(Exception):  # somebody's __str__
                text += f": {self._redact(ending.job, str(ending.error)[:LOOKED_THROUGH])}"
        # A lone surrogate would be an error of the log's own, when it is written.
        return f": {storable_text(text[:LONGEST_REASON])}" if text else ""
