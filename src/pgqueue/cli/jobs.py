"""`jobs`: the list."""

from __future__ import annotations

from collections.abc import Sequence

import click

from pgqueue import models
from pgqueue.cli import output
from pgqueue.cli.command import Command
from pgqueue.cli.params import COUNT, job_id
from pgqueue.cli.session import Session, pass_session
from pgqueue.cli.times import Clock
from pgqueue.models import JobState

PAGE = 50
COLUMNS = (
    output.Column("ID", number=True),
    output.Column("STATE"),
    output.Column("QUEUE", cut=True),
    output.Column("KIND", cut=True),
    output.Column("ATTEMPT", number=True),
    output.Column("WHEN"),
    output.Column("ABOUT", cut=True),
)


@click.command(cls=Command)
@click.option("-q", "--queue", help="Only of this queue.")
@click.option("-k", "--kind", help="Only of this kind.")
@click.option(
    "-s", "--state", type=click.Choice([s.value for s in JobState]), help="Only in this state."
)
@click.option("--tag", help="Only with this tag.")
@click.option("--ref", help="Only about this.")
@click.option(
    "--before", type=job_id, metavar="ID", help="Only older ones than this id: the next page."
)
@click.option(
    "-n",
    "--limit",
    metavar="NUMBER",
    type=COUNT,
    default=PAGE,
    show_default=True,
    help="The most to list.",
)
@pass_session
def jobs(
    session: Session,
    *,
    queue: str | None,
    kind: str | None,
    state: str | None,
    tag: str | None,
    ref: str | None,
    before: int | None,
    limit: int,
) -> None:
    """List jobs, unfinished and finished, newest first."""
    found = session.client().list(
        queue=queue, kind=kind, state=state, tag=tag, ref=ref, before=before, limit=limit
    )
    if session.json:
        for job in found:
            output.json_line(job)
        return
    if not found:
        output.say("no jobs")
        return
    clock = Clock(session.clock(), session.utc)
    output.table(COLUMNS, [_row(job, clock) for job in found])
    if len(found) == limit and output.terminal().is_terminal:
        output.say(f"\nolder ones: --before {found[-1].id}")


def _row(job: models.JobSummary, clock: Clock) -> Sequence[output.Cell]:
    about = [*(job.tags or ()), *([job.ref] if job.ref else [])]
    return (
        str(job.id),
        output.state_text(job.state),
        job.queue,
        job.kind,
        f"{job.attempt}/{job.max_attempts}",
        when(job, clock),
        " ".join(about),
    )


def when(job: models.JobSummary, clock: Clock) -> str:
    """The time that matters in the job's state."""
    if job.finished_at is not None:
        return clock.when(job.finished_at)
    if job.state is JobState.CLAIMED and job.claimed_at is not None:
        return clock.when(job.claimed_at)
    return clock.when(job.run_at)
