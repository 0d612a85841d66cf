"""`jobs`: the list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from pgqueue import models
from pgqueue.cli import output
from pgqueue.cli.command import Command
from pgqueue.cli.filters import as_filter, filtered
from pgqueue.cli.params import COUNT
from pgqueue.cli.report import note
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
@filtered
@click.option("--after", metavar="PLACE", help="The next page: what the last one said.")
@click.option(
    "-n",
    "--limit",
    metavar="NUMBER",
    type=COUNT,
    default=PAGE,
    show_default=True,
    help="The most to list.",
)
@click.option("--count", "only_count", is_flag=True, help="Only say how many there are.")
@pass_session
def jobs(
    session: Session, *, given: dict[str, Any], after: str | None, limit: int, only_count: bool
) -> None:
    """List jobs: those that run, those that wait, then the latest that finished."""
    wanted = as_filter(session, given)
    if only_count:
        count = session.client().operations.count(wanted)
        many = {"count": count.number, "more": count.more}
        output.answer(session.json, many, f"{count} {'job' if count.number == 1 else 'jobs'}")
        return
    page = session.client().operations.search(wanted, after=after, limit=limit)
    if session.json:
        for job in page.jobs:
            output.json_line(job)
    elif not page.jobs:
        output.say("no jobs")
    else:
        clock = Clock(session.clock(), session.utc)
        output.table(COLUMNS, [_row(job, clock) for job in page.jobs])
    if page.next is not None:
        note(f"there are more: --after {page.next}")


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
