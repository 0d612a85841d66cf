"""The statements that tell the database how attempts ended."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from pgqueue import models
from pgqueue.events import Outcome
from pgqueue.masking import LOOKED_THROUGH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgqueue.redaction import Redact
    from pgqueue.statements import Statement, Statements
    from pgqueue.worker.runner import Ending


def statement(
    statements: Statements, outcome: Outcome, endings: Sequence[Ending], redact: Redact
) -> Statement[list[int]]:
    """Ends the jobs of `endings`, all of one `outcome`; gives the ids that were lost.

    Texts of errors and reasons are stored as `redact` gives them back.
    """
    jobs = [ending.job for ending in endings]
    if outcome is Outcome.SUCCEEDED:
        results = [ending.result for ending in endings]
        return statements.ack(jobs, results if any(r is not None for r in results) else None)
    if outcome is Outcome.FAILED:
        errors = [
            models.error_entry(e.reason if e.error is None else e.error, partial(redact, e.job))
            for e in endings
        ]
        return statements.fail(jobs, errors, [ending.delay for ending in endings])
    if outcome is Outcome.SNOOZED:
        return statements.snooze(jobs, [ending.delay or timedelta(0) for ending in endings])
    if outcome is Outcome.SKIPPED:
        return statements.skip(jobs, _reasons(endings, redact))
    if outcome is Outcome.CANCELLED:
        return statements.cancel_claimed(jobs, _reasons(endings, redact))
    return statements.release(jobs)


def _reasons(endings: Sequence[Ending], redact: Redact) -> list[str]:
    return [
        ending.reason and redact(ending.job, ending.reason[:LOOKED_THROUGH]) for ending in endings
    ]
