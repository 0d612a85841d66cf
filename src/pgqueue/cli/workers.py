"""`workers`: who works, and on what."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import attrs
import click
from rich.text import Text

from pgqueue.cli import output
from pgqueue.cli.command import Command
from pgqueue.cli.session import Session, pass_session
from pgqueue.cli.times import Clock
from pgqueue.registry import WorkerState
from pgqueue.words import quantity, span

COLUMNS = (
    output.Column("WORKER", cut=True),
    output.Column("STARTED"),
    output.Column("BEAT"),
    output.Column("QUEUES", cut=True),
    output.Column("KINDS", number=True),
    output.Column("RUNNING", number=True),
    output.Column("RUNS NOW", cut=True),
)
_SHOWN = 3


@click.command(cls=Command)
@pass_session
def workers(session: Session) -> None:
    """List the workers and schedulers that say that they live, and what each runs now."""
    found = session.client().workers()
    if session.json:
        for worker in found:
            output.json_line(_json(worker))
        return
    if not found:
        output.say("no workers")
        return
    clock = Clock(session.clock(), session.utc)
    output.table(COLUMNS, [_row(worker, clock) for worker in found])


def _json(worker: WorkerState) -> dict[str, Any]:
    told = attrs.asdict(worker, recurse=False)
    silent: timedelta = told.pop("silent")
    return {**told, "silent_seconds": silent, "alive": worker.alive, "scheduler": worker.scheduler}


def _row(worker: WorkerState, clock: Clock) -> Sequence[output.Cell]:
    return (
        worker.id,
        clock.when(worker.started_at),
        _beat(worker),
        "scheduler" if worker.scheduler else " ".join(worker.queues),
        str(len(worker.kinds)) if worker.kinds else "",
        "" if worker.scheduler else f"{worker.running}/{worker.concurrency}",
        _runs(worker, clock),
    )


def _beat(worker: WorkerState) -> Text:
    if not worker.alive:
        return output.alarm(f"silent for {span(worker.silent)}")
    if worker.stopping:
        return Text("stopping", style="yellow")
    return Text(f"{span(worker.silent)} ago", style="green")


def _runs(worker: WorkerState, clock: Clock) -> str:
    shown = [f"{job.id} {job.kind} for {span(clock.now - job.claimed_at)}" for job in worker.jobs]
    more = worker.claimed - min(len(shown), _SHOWN)
    rest = [f"and {quantity(more, 'more', 'more')}"] if more else []
    return ", ".join([*shown[:_SHOWN], *rest])
