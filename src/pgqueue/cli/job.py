"""`job`: all that is known of one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import click
from rich.text import Text

from pgqueue.cli import output
from pgqueue.cli.command import Command
from pgqueue.cli.params import job_id, positive_duration
from pgqueue.cli.report import printable
from pgqueue.cli.session import Session, pass_session
from pgqueue.cli.times import Clock
from pgqueue.models import Attempt, JobDetail, JobState
from pgqueue.words import span

_BAD = ("failed", "expired")


@click.command(cls=Command)
@click.argument("id", type=job_id)
@click.option(
    "--wait",
    metavar="DURATION",
    type=positive_duration,
    help="Wait until it is finished, but no longer than this (exit 8).",
)
@pass_session
def job(session: Session, id: int, *, wait: timedelta | None) -> None:  # noqa: A002 - the argument's name in the help
    """Show a job: its payload, attempts, tracebacks and result."""
    client = session.client()
    found = client.get(id) if wait is None else client.wait(id, timeout=wait)
    if session.json:
        output.json_line(found)
        return
    clock = Clock(session.clock(), session.utc)
    click.echo(f"Job {found.id}: {printable(found.kind)}")
    output.fields(_facts(found, clock))
    output.block("Payload", output.pretty(found.payload))
    if found.metadata is not None:
        output.block("Metadata", output.pretty(found.metadata))
    if found.state is JobState.SUCCEEDED:
        output.block("Result", output.pretty(found.result))
    for attempt in found.history:
        _show(attempt, clock)


def _facts(found: JobDetail, clock: Clock) -> Mapping[str, str | Text | None]:
    key = found.dedupe_key
    return {
        "state": _state(found, clock),
        "queue": f"{found.queue}, priority {found.priority}",
        "attempts": f"{found.attempt} of {found.max_attempts}",
        "enqueued": clock.when(found.enqueued_at),
        "run at": clock.when(found.run_at),
        "claimed": _claimed(found, clock),
        "lease": None if found.lease_until is None else f"until {clock.when(found.lease_until)}",
        "finished": None if found.finished_at is None else clock.when(found.finished_at),
        "dedupe key": key,
        "tags": ", ".join(found.tags) if found.tags else None,
        "ref": found.ref,
        "tenant": found.tenant,
    }


def _state(found: JobDetail, clock: Clock) -> Text:
    text = output.state_text(found.state)
    if found.cancel_requested:
        text.append(", was asked to stop", style="magenta")
    if found.state is JobState.SCHEDULED and found.history:
        text.append(f", backs off until {clock.when(found.run_at)}")
    return text


def _claimed(found: JobDetail, clock: Clock) -> str | None:
    if found.claimed_at is None:
        return None
    return clock.when(found.claimed_at) + (f" by {found.worker}" if found.worker else "")


def heading(attempt: Attempt, clock: Clock) -> str:
    """What an attempt came to, when and where, as far as that is known."""
    parts = [f"Attempt {attempt.attempt} {attempt.outcome}"]
    if attempt.started and attempt.ended:
        parts.append(f"after {span(attempt.ended - attempt.started)}")
    if attempt.ended:
        parts.append(clock.when(attempt.ended))
    if attempt.worker:
        parts.append(f"on {attempt.worker}")
    return ", ".join(parts)


def _show(attempt: Attempt, clock: Clock) -> None:
    message = ": ".join(text for text in (attempt.error_class, attempt.error) if text)
    # A traceback ends with the message itself.
    text = attempt.traceback or message
    output.block(heading(attempt, clock), text, style="red" if attempt.outcome in _BAD else "")
