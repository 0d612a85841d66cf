"""`retry` and `cancel` of all jobs of a filter: say how many, ask, and show how far it is."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Literal

import attrs
import click

from pgqueue.cli import output
from pgqueue.cli.actor import whoami
from pgqueue.cli.confirm import confirm
from pgqueue.cli.exits import Exit
from pgqueue.cli.filters import as_filter
from pgqueue.cli.progress import progress
from pgqueue.cli.session import Session
from pgqueue.operations import BulkResult
from pgqueue.words import quantity

LONG = 1_000
"""From so many jobs on, a bar shows how far it is."""
_WORDS = {"retry": ("Run {} again now?", "will run again"), "cancel": ("Cancel {}?", "cancelled")}


@attrs.frozen
class Care:
    """How careful to be."""

    dry_run: bool
    yes: bool


def careful(function: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command --dry-run and --yes; it gets them as `care`."""

    @click.option("--dry-run", is_flag=True, help="Only say how many jobs it would be.")
    @click.option("-y", "--yes", is_flag=True, help="Do not ask.")
    @wraps(function)
    def called(*args: Any, dry_run: bool, yes: bool, **options: Any) -> Any:  # noqa: ANN401 - click's
        return function(*args, care=Care(dry_run, yes), **options)

    return called


def on_all(
    session: Session,
    action: Literal["retry", "cancel"],
    given: dict[str, Any],
    reason: str | None,
    care: Care,
) -> Exit:
    """Does it to all jobs that fit."""
    wanted = as_filter(session, given)
    operations = session.client().operations
    question, words = _WORDS[action]
    count = operations.preview(action, wanted, at_most=100_000)
    jobs = f"{count} {'job' if count.number == 1 else 'jobs'}"
    if care.dry_run:
        found = {"action": action, "matched": count.number, "more": count.more}
        output.answer(session.json, found, f"{jobs} would be tried")
        return Exit.OK if count.number else Exit.NEGATIVE
    if not count.number:
        output.answer(session.json, _json(action, None), "no jobs fit")
        return Exit.NEGATIVE
    if not care.yes:
        confirm(question.format(jobs))
    with progress(count, least=LONG) as tell:
        done = getattr(operations, action)(
            wanted, reason=reason, on_progress=lambda matched, _: tell(matched), **whoami()
        )
    text = f"{quantity(done.affected, 'job')} {words}"
    if action == "cancel":
        text += ", or asked to stop"
    if done.affected < done.matched:
        text += f"; {done.matched - done.affected:,} had changed, or another holds their key"
    output.answer(session.json, _json(action, done), text)
    return Exit.OK if done.affected else Exit.NEGATIVE


def _json(action: str, done: BulkResult | None) -> dict[str, Any]:
    return {
        "action": action,
        "matched": 0 if done is None else done.matched,
        "affected": 0 if done is None else done.affected,
        "audit_id": None if done is None else done.audit_id,
    }
