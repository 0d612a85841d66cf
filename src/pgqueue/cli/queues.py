"""`stats`, `pause`, `resume`, `purge`: queues as a whole."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import click

from pgqueue.cli import output, params
from pgqueue.cli.actor import whoami
from pgqueue.cli.command import Command
from pgqueue.cli.confirm import confirm
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
@click.argument("queue", required=False)
@click.option("--all", "every", is_flag=True, help="Everything: claims, schedules and pokes.")
@click.option(
    "--until",
    metavar="TIME|DURATION",
    type=params.moment_or_duration,
    help="Resume by itself then: 2030-01-31T18:00:00Z, or in 2h.",
)
@click.option("--reason", help="Kept with the queue.")
@pass_session
def pause(
    session: Session,
    queue: str | None,
    *,
    every: bool,
    until: datetime | timedelta | None,
    reason: str | None,
) -> None:
    """Stop claims from QUEUE, or everything.

    Running jobs go on, and enqueues are stored. While everything is paused, `pgqueue run`, `retry`
    and `cancel` work, and so does whatever else is done by hand.
    """
    name = _named(queue, every=every)
    moment = session.moment(until)
    session.client().operations.pause(queue, until=moment, reason=reason, **whoami())
    text = f"{name} is paused"
    if moment is not None:
        text += f", to go on {Clock(session.clock(), session.utc).when(moment)}"
    output.answer(session.json, {"queue": queue, "paused": True, "paused_until": moment}, text)


@click.command(cls=Command)
@click.argument("queue", required=False)
@click.option("--all", "every", is_flag=True, help="What `pause --all` stopped.")
@pass_session
def resume(session: Session, queue: str | None, *, every: bool) -> Exit:
    """Let claims from QUEUE, or everything, go on."""
    name = _named(queue, every=every)
    was_paused = session.client().operations.resume(queue, **whoami())
    text = f"{name} goes on" if was_paused else f"{name} was not paused"
    output.answer(session.json, {"queue": queue, "was_paused": was_paused}, text)
    return Exit.OK if was_paused else Exit.NEGATIVE


def _named(queue: str | None, *, every: bool) -> str:
    """What is paused, in words.

    Raises:
        click.UsageError: neither or both are given.
    """
    if (queue is None) is not every:
        raise click.UsageError("name a queue, or pass --all")
    return "everything" if queue is None else f"queue {queue!r}"


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


def _purge(session: Session, queue: str, kind: str | None) -> int:
    client = session.client()
    purged, batch = 0, BATCH
    while batch == BATCH:
        with client.driver.transaction() as conn:
            batch = client.purge(queue, kind=kind, limit=BATCH, conn=conn)
            if batch:
                client.operations.record(
                    "purge", queue=queue, affected=batch, conn=conn,
                    detail=None if kind is None else {"kind": kind}, **whoami(),
                )  # fmt: skip
        purged += batch
    return purged
