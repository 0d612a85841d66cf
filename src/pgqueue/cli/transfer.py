"""`export`, `import`, `take-over`: jobs into a file and back, and out of other queues' tables."""

from __future__ import annotations

from pathlib import Path

import attrs
import click

from pgqueue.cli import output
from pgqueue.cli.command import Command
from pgqueue.cli.confirm import confirm
from pgqueue.cli.exits import Exit
from pgqueue.cli.progress import progress
from pgqueue.cli.session import Session, pass_session
from pgqueue.models import JobState
from pgqueue.operations import Count, JobFilter
from pgqueue.transfer import (
    SOURCES,
    Choice,
    Other,
    export_jobs,
    import_jobs,
    inspect_other,
    take_over,
)
from pgqueue.words import quantity

WAITING = (JobState.READY, JobState.SCHEDULED)
MOST_COUNTED = 1_000_000


@click.command(cls=Command)
@click.argument("queue")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("-k", "--kind", help="Only jobs of this kind.")
@click.option("--drain", is_flag=True, help="Take them out of the queue; without it, it is a copy.")
@click.option("--dry-run", is_flag=True, help="Only say how many jobs they are.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask before --drain.")
@pass_session
def export(
    session: Session,
    queue: str,
    file: Path,
    *,
    kind: str | None,
    drain: bool,
    dry_run: bool,
    yes: bool,
) -> Exit:
    """Write the waiting jobs of QUEUE into a new FILE.

    Ready and scheduled ones, in their order; running and finished ones stay out of it.
    """
    wanted = JobFilter(queue=queue, kind=kind, state=WAITING)
    count = session.client().operations.count(wanted, at_most=MOST_COUNTED)
    waiting = count.number
    jobs = f"{count} waiting jobs" if count.more else quantity(waiting, "waiting job")
    what = {"queue": queue, "kind": kind, "file": str(file)}
    if dry_run:
        output.answer(session.json, {**what, "waiting": waiting}, f"{jobs} in queue {queue!r}")
        return Exit.OK
    if file.exists():
        raise click.UsageError(f"{file} exists already; name a new file")
    if drain and waiting and not yes:
        confirm(f"Move {jobs} of queue {queue!r} into {file}?")
    with progress(count) as tell:
        done = export_jobs(session.client(), queue, file, kind=kind, drain=drain, on_progress=tell)
    verb = "moved" if drain else "copied"
    text = f"{quantity(done, 'job')} {verb} to {file}"
    output.answer(session.json, {**what, "exported": done, "drained": drain}, text)
    return Exit.OK if done else Exit.NEGATIVE


@click.command("import", cls=Command)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("-q", "--queue", help="Put all into this queue instead of their own.")
@click.option("--again", is_flag=True, help="Import it although it was imported already.")
@pass_session
def import_(session: Session, file: Path, *, queue: str | None, again: bool) -> Exit:
    """Enqueue the jobs of a FILE that `export` wrote, all or none.

    The audit log remembers the file, so that it is not imported twice by mistake.
    """
    with progress(None) as tell:
        loaded = import_jobs(session.client(), file, queue=queue, again=again, on_progress=tell)
    text = f"{quantity(loaded.enqueued, 'job')} enqueued"
    if loaded.duplicates:
        text += f"; {loaded.duplicates:,} not added, because their dedupe keys are held"
    output.answer(session.json, {"file": str(file), **attrs.asdict(loaded)}, text)
    return Exit.OK if loaded.enqueued else Exit.NEGATIVE


@click.command("take-over", cls=Command)
@click.argument("source", type=click.Choice(SOURCES))
@click.argument("name", required=False)
@click.option("--source-schema", help="Where its tables are, if not where it installs them.")
@click.option("-q", "--queue", help="The queue here. [default: theirs]")
@click.option("-k", "--kind", help="The kind here. [default: theirs; PGMQ has none]")
@click.option("--kind-key", help="The key of PGMQ's messages that has the kind.")
@click.option(
    "--dry-run", is_flag=True, help="Only say what would be moved, and what is in the way."
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@pass_session
def take_over_(
    session: Session,
    source: str,
    name: str | None,
    *,
    source_schema: str | None,
    queue: str | None,
    kind: str | None,
    kind_key: str | None,
    dry_run: bool,
    yes: bool,
) -> Exit:
    """Move the waiting jobs of SOURCE, in the same database, into this queue.

    NAME is the queue of PGMQ, or the table where it is not the usual one. What a worker of the
    source has stays with it.
    """
    choice = Choice(
        source=source, name=name, schema=source_schema, queue=queue, kind=kind, kind_key=kind_key,  # type: ignore[arg-type]
    )  # fmt: skip
    found = inspect_other(session.client(), choice)
    if dry_run:
        if session.json:
            output.json_line(found)
        else:
            _show(source, found)
        return Exit.OK if not found.problems else Exit.NEGATIVE
    if found.problems:
        problem, number = next(iter(found.problems.items()))
        raise click.UsageError(f"{quantity(number, 'job')} cannot be stored: {problem}")
    if found.waiting and not yes:
        _show(source, found)
        confirm(f"Move {quantity(found.waiting, 'job')} of {source} into pgqueue?")
    with progress(Count(found.waiting, more=False)) as tell:
        taken = take_over(session.client(), choice, on_progress=tell)
    text = f"{quantity(taken.enqueued, 'job')} enqueued"
    if taken.duplicates:
        text += f"; {taken.duplicates:,} not added, because their dedupe keys are held"
    output.answer(session.json, attrs.asdict(taken), text)
    return Exit.OK if taken.enqueued else Exit.NEGATIVE


def _show(source: str, found: Other) -> None:
    output.say(
        f"{quantity(found.waiting, 'waiting job')} in {source}; "
        f"{found.running:,} that run stay there"
    )
    rows = [(kind, f"{number:,}") for kind, number in found.kinds.items()]
    if rows:
        output.table((output.Column("KIND", cut=True), output.Column("JOBS", number=True)), rows)
    for what, number in found.dropped.items():
        output.say(f"lost in {quantity(number, 'job')}: {what}")
    for what, number in found.problems.items():
        output.say(f"in the way of {quantity(number, 'job')}: {what}")
