"""`enqueue`: one job, or one for each line of a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import attrs
import click

from pgqueue import jsontext, models
from pgqueue.cli import params
from pgqueue.cli.command import Command
from pgqueue.cli.output import answer
from pgqueue.cli.session import Session, pass_session
from pgqueue.errors import PayloadError
from pgqueue.retry import RetryPolicy
from pgqueue.words import quantity


@click.command(cls=Command)
@click.argument("kind")
@click.argument("payload", required=False)
@click.option("-q", "--queue", default=models.DEFAULT_QUEUE, show_default=True, help="The queue.")
@click.option(
    "-p", "--priority", metavar="NUMBER", type=int, default=models.DEFAULT_PRIORITY,
    show_default=True, help="0 (runs first) to 9.",
)  # fmt: skip
@click.option(
    "--delay",
    metavar="DURATION",
    type=params.duration,
    help="Start no earlier than so long from now: 90s, 5m, 2h.",
)
@click.option(
    "--run-at",
    metavar="TIME",
    type=params.moment,
    help="Start no earlier than then: 2030-01-31T18:00:00Z.",
)
@click.option(
    "--max-attempts",
    metavar="NUMBER",
    type=int,
    help="After so many the job is dead. [default: the schema's]",
)
@click.option(
    "--retry", type=params.backoff, help="Wait between attempts: 30s, or 5s,1m,10m, or 2s..1h."
)
@click.option("--dedupe-key", help="Add no job while another of this kind holds the key.")
@click.option(
    "--dedupe-until", type=click.Choice(["start", "finish"]), default="finish", show_default=True,
    help="How long the job holds its key.",
)  # fmt: skip
@click.option(
    "--on-conflict", type=click.Choice(["return", "replace", "raise"]), default="return",
    show_default=True,
    help="If the key is held: return the holder, replace its payload and time, or raise (exit 7).",
)  # fmt: skip
@click.option("--tag", "tags", multiple=True, help="A word to filter by; may be repeated.")
@click.option(
    "--metadata",
    metavar="JSON",
    type=params.json_object,
    help="A JSON object that travels with the job.",
)
@click.option("--ref", help="What the job is about, for `cancel --ref`.")
@click.option(
    "--lines", is_flag=True, help="Each line of the payload's file is the payload of one job."
)
@pass_session
def enqueue(
    session: Session,
    kind: str,
    payload: str | None,
    *,
    queue: str,
    priority: int,
    delay: timedelta | None,
    run_at: datetime | None,
    max_attempts: int | None,
    retry: RetryPolicy | None,
    dedupe_key: str | None,
    dedupe_until: models.DedupeUntil,
    on_conflict: models.OnConflict,
    tags: tuple[str, ...],
    metadata: dict[str, Any] | None,
    ref: str | None,
    lines: bool,
) -> None:
    """Store a job of KIND.

    PAYLOAD is JSON, @FILE, or - for standard input; without it the payload is {}.
    """
    job = models.NewJob(
        kind, queue=queue, priority=priority, delay=delay, run_at=run_at, max_attempts=max_attempts,
        retry=retry, dedupe_key=dedupe_key, dedupe_until=dedupe_until, on_conflict=on_conflict,
        tags=tags or None, metadata=metadata, ref=ref,
    )  # fmt: skip
    if lines:
        _enqueue_lines(session, job, payload)
        return
    value = {} if payload is None else params.json_value(payload)
    stored = session.client().enqueue(
        **attrs.asdict(attrs.evolve(job, payload=value), recurse=False)
    )
    text = f"job {stored.id}"
    if stored.duplicate:
        text += f" holds the dedupe key {dedupe_key!r}; no job was added"
        if on_conflict == "replace":
            text += " (if it still waits, it has the new payload and options)"
    answer(session.json, attrs.asdict(stored), text)


def _enqueue_lines(session: Session, job: models.NewJob, source: str | None) -> None:
    if source is None:
        raise click.UsageError("--lines needs a PAYLOAD: @FILE, or - for standard input")
    if job.dedupe_key is not None:
        raise click.UsageError("--lines and --dedupe-key exclude each other: one key, one job")
    stored = session.client().enqueue_many(_jobs(job, params.read_text(source)))
    what = {
        "enqueued": stored.enqueued,
        "first_id": min(stored.ids, default=None),
        "last_id": max(stored.ids, default=None),
    }
    answer(session.json, what, f"{quantity(stored.enqueued, 'job')} enqueued")


def _jobs(job: models.NewJob, text: str) -> Iterator[models.NewJob]:
    # Not splitlines(): JSON may hold U+2028 and the like as they are.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            payload = json.loads(line)
        except json.JSONDecodeError as error:
            why = f"{error.msg} at column {error.colno}"
            raise click.UsageError(f"line {number} is not JSON: {why}; no job was added") from error
        except RecursionError as error:
            raise click.UsageError(
                f"line {number} is nested too deeply; no job was added"
            ) from error
        try:
            jsontext.dumps(payload)
        except PayloadError as error:
            raise click.UsageError(f"line {number}: {error}; no job was added") from error
        yield attrs.evolve(job, payload=payload)
