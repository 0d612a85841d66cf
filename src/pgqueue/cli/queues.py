"""`stats`, `pause`, `resume`, `purge`: queues as a whole."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from typing import Any

import click

from pgqueue.cli import output, params
from pgqueue.cli.command import Command
from pgqueue.cli.exits import Exit
from pgqueue.cli.session import Session, pass_session
from pgqueue.cli.times import Clock
from pgqueue.models import QueueStats
from pgqueue.words import quantity, span

BATCH = 10_000
"""Jobs deleted in one transaction."""
FOREVER = 9999
"""The year until which a queue is paused that has to be resumed by hand."""
COLUMNS = (
    output.Column("QUEUE", cut=True),
    output.Column("READY", number=True),
    output.Column("SCHEDULED", number=True),
    output.Column("CLAIMED", number=True),
    output.Column("DEAD", number=True),
    output.Column("OLDEST", number=True),
    output.Column("PAUSED"),
)


@click.command(cls=Command)
@pass_session
def stats(session: Session) -> None:
    """Count the jobs of each queue that are unfinished or dead."""
    found = session.client().stats()
    if session.json:
        for queue in found:
            output.json_line(_json(queue))
        return
    if not found:
        output.say("no jobs")
        return
    clock = Clock(session.clock(), session.utc)
    output.table(COLUMNS, [_row(queue, clock) for queue in found])


def _json(queue: QueueStats) -> dict[str, Any]:
    until = queue.paused_until
    return {
        "queue": queue.queue,
        "ready": queue.ready,
        "scheduled": queue.scheduled,
        "claimed": queue.claimed,
        "dead": queue.dead,
        "oldest_wait_seconds": queue.oldest_wait,
        "paused": until is not None,
        "paused_until": until if until is not None and until.year < FOREVER else None,
    }


def _row(queue: QueueStats, clock: Clock) -> tuple[output.Cell, ...]:
    return (
        queue.queue,
        f"{queue.ready:,}",
        f"{queue.scheduled:,}",
        f"{queue.claimed:,}",
        output.alarm(f"{queue.dead:,}") if queue.dead else "0",
        "" if queue.oldest_wait is None else span(queue.oldest_wait),
        "" if queue.paused_until is None else _paused(queue.paused_until, clock),
    )


def _paused(until: datetime, clock: Clock) -> str:
    return "until resumed" if until.year >= FOREVER else f"ends {clock.when(until)}"


@click.command(cls=Command)
@click.argument("queue")
@click.option(
    "--until",
    metavar="TIME|DURATION",
    type=params.moment_or_duration,
    help="Resume by itself then: 2030-01-31T18:00:00Z, or in 2h.",
)
@click.option("--reason", help="Kept with the queue.")
@pass_session
def pause(
    session: Session, queue: str, *, until: datetime | timedelta | None, reason: str | None
) -> None:
    """Stop claims from QUEUE.

    Running jobs go on, and enqueues are stored.
    """
    moment = session.moment(until)
    session.client().pause(queue, until=moment, reason=reason)
    text = f"queue {queue!r} is paused"
    if moment is not None:
        text += f", to go on {Clock(session.clock(), session.utc).when(moment)}"
    output.answer(session.json, {"queue": queue, "paused": True, "paused_until": moment}, text)


@click.command(cls=Command)
@click.argument("queue")
@pass_session
def resume(session: Session, queue: str) -> Exit:
    """Let claims from QUEUE go on."""
    was_paused = session.client().resume(queue)
    text = f"queue {queue!r} goes on" if was_paused else f"queue {queue!r} was not paused"
    output.answer(session.json, {"queue": queue, "was_paused": was_paused}, text)
    return Exit.OK if was_paused else Exit.NEGATIVE


@click.command(cls=Command)
@click.argument("queue")
@click.option("-k", "--kind", help="Only jobs of this kind.")
@click.option("--dry-run", is_flag=True, help="Only say how many jobs it would delete.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@pass_session
def purge(session: Session, queue: str, *, kind: str | None, dry_run: bool, yes: bool) -> Exit:
    """Delete the waiting jobs of QUEUE for good.

    Ready and scheduled jobs go; running and finished ones stay.
    """
    waiting = _waiting(session, queue, kind)
    jobs = quantity(waiting, "waiting job")
    what = {"queue": queue, "kind": kind}
    if dry_run:
        output.answer(session.json, {**what, "waiting": waiting}, f"{jobs} in queue {queue!r}")
        return Exit.OK
    if waiting and not yes:
        confirm(f"Delete {jobs} of queue {queue!r} for good?")
    purged = _purge(session, queue, kind) if waiting else 0
    output.answer(session.json, {**what, "purged": purged}, f"{quantity(purged, 'job')} deleted")
    return Exit.OK if purged else Exit.NEGATIVE


def _waiting(session: Session, queue: str, kind: str | None) -> int:
    view = f"{session.client().statements.quoted}.all_jobs"
    sql = f"select count(*) from {view} where queue = %s and state in ('ready', 'scheduled')"
    narrowed = (sql, queue) if kind is None else (f"{sql} and kind = %s", queue, kind)
    return int(session.value(*narrowed))


def confirm(question: str) -> None:
    """Asks, and ends the command unless the answer is yes.

    Raises:
        click.Abort: the answer is no.
        click.UsageError: there is nobody to ask.
    """
    if not _has_terminal():
        raise click.UsageError("there is no terminal to ask on; pass --yes")
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)  # the cursor stands behind the question
        raise
    if not agreed:
        raise click.Abort


def _has_terminal() -> bool:
    return sys.stdin.isatty()


def _purge(session: Session, queue: str, kind: str | None) -> int:
    purged = 0
    while batch := session.client().purge(queue, kind=kind, limit=BATCH):
        purged += batch
        if batch < BATCH:
            break
    return purged
