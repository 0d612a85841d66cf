"""What came of a poke."""

from __future__ import annotations

from typing import TypedDict


class _Attempt(TypedDict):
    id: int
    kind: str
    outcome: str
    attempt: int
    duration_ms: int


class JobAnswer(_Attempt, total=False):
    """One attempt: `id`, `kind`, `outcome`, `attempt`, `duration_ms` and, if asked for, `error`.

    `outcome` is an `Outcome`'s value, or "running": a sync handler that had not returned when the
    budget was over.
    """

    error: str
    """Only if the endpoint is to show errors, and there was one."""


class Answer(TypedDict):
    """`processed` attempts have ended, `succeeded`, `failed` and `skipped` among them.

    Released ones and those that still run are only in `results`.
    """

    processed: int
    succeeded: int
    failed: int
    """Dead ones are among them."""
    skipped: int
    more: bool
    """Whether something other than a lack of ready jobs ended the poke: poke again."""
    results: list[JobAnswer]


RUNNING = "running"
_UNDONE = (RUNNING, "released")


def counted(results: list[JobAnswer], *, more: bool) -> Answer:
    """The answer that these results make."""
    outcomes = [result["outcome"] for result in results]
    return {
        "processed": sum(outcome not in _UNDONE for outcome in outcomes),
        "succeeded": outcomes.count("succeeded"),
        "failed": outcomes.count("failed") + outcomes.count("dead"),
        "skipped": outcomes.count("skipped"),
        "more": more,
        "results": results,
    }
