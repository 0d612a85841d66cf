"""`schedule`: one of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, time, timedelta
from typing import Any

import click

from pgqueue import models
from pgqueue.cli import output, params
from pgqueue.cli.command import Command, Group, help_instead
from pgqueue.cli.exits import Exit
from pgqueue.cli.schedules import as_json, next_slot
from pgqueue.cli.session import Session, pass_session
from pgqueue.cli.times import Clock
from pgqueue.retry import RetryPolicy
from pgqueue.schedules import Overlap, Schedule, ScheduleRun, ScheduleState
from pgqueue.words import span

RUNS = 10
"""Of the history, shown by `show`."""
_NO_TIME = timedelta(0)
RUN_COLUMNS = (
    output.Column("SLOT"),
    output.Column("OUTCOME"),
    output.Column("LATE", number=True),
    output.Column("JOB", number=True),
    output.Column("ERROR", cut=True),
)


def _times(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say when."""
    for option in reversed(
        (
            click.option("--cron", metavar="EXPRESSION", help="Minute hour day month weekday."),
            click.option(
                "--every",
                metavar="DURATION",
                type=params.positive_duration,
                help="From now on, every 30s, 15m, 1d.",
            ),
            click.option(
                "--timezone",
                metavar="NAME",
                default="UTC",
                show_default=True,
                help="Of --cron and --window: Europe/Berlin, say.",
            ),
            click.option(
                "--window",
                metavar="FROM-TO",
                type=params.window,
                help="Only then, each day: 09:00-17:00. It may span midnight.",
            ),
            click.option(
                "--starts-at", metavar="TIME", type=params.moment, help="No slot before then."
            ),
            click.option(
                "--ends-at", metavar="TIME", type=params.moment, help="No slot from then on."
            ),
        )
    ):
        command = option(command)
    return command


@click.group(cls=Group, invoke_without_command=True)
@click.pass_context
def schedule(ctx: click.Context) -> Exit | None:
    """Add, show, run, switch, remove or preview a schedule."""
    return help_instead(ctx)


@schedule.command(cls=Command)
@click.argument("name")
@click.argument("kind")
@click.argument("payload", required=False)
@_times
@click.option(
    "--jitter", metavar="DURATION", type=params.duration, default="0s", show_default=True,
    help="Jobs start up to so much later.",
)  # fmt: skip
@click.option(
    "--catch-up", metavar="NUMBER", type=int, default=1, show_default=True,
    help="Missed slots to make up for, the latest; 0: none that is later than --grace.",
)  # fmt: skip
@click.option(
    "--grace", metavar="DURATION", type=params.duration, default="10m", show_default=True,
    help="With --catch-up 0: how late a slot may be.",
)  # fmt: skip
@click.option(
    "--overlap", type=click.Choice(["queue", "skip", "replace"]), default="queue",
    show_default=True, help="While an earlier job is unfinished.",
)  # fmt: skip
@click.option("-q", "--queue", default=models.DEFAULT_QUEUE, show_default=True, help="The queue.")
@click.option(
    "-p", "--priority", metavar="NUMBER", type=int, default=models.DEFAULT_PRIORITY,
    show_default=True, help="0 (runs first) to 9.",
)  # fmt: skip
@click.option("--max-attempts", metavar="NUMBER", type=int, help="After so many a job is dead.")
@click.option(
    "--retry", type=params.backoff, help="Wait between attempts: 30s, or 5s,1m,10m, or 2s..1h."
)
@click.option("--tag", "tags", multiple=True, help="A word to filter by; may be repeated.")
@click.option("--metadata", metavar="JSON", type=params.json_object, help="A JSON object.")
@click.option("--ref", help="What the jobs are about.")
@click.option("--disabled", is_flag=True, help="Add it, but let it rest.")
@pass_session
def add(
    session: Session,
    name: str,
    kind: str,
    payload: str | None,
    *,
    cron: str | None,
    every: timedelta | None,
    timezone: str,
    window: tuple[time, time] | None,
    starts_at: datetime | None,
    ends_at: datetime | None,
    jitter: timedelta,
    catch_up: int,
    grace: timedelta,
    overlap: Overlap,
    queue: str,
    priority: int,
    max_attempts: int | None,
    retry: RetryPolicy | None,
    tags: tuple[str, ...],
    metadata: dict[str, Any] | None,
    ref: str | None,
    disabled: bool,
) -> None:
    """Make the schedule NAME, or change it to this.

    Its jobs are of KIND. PAYLOAD is JSON, @FILE, or - for standard input.
    """
    value = {} if payload is None else params.json_value(payload)
    made = Schedule(
        name, kind, value, cron=cron, every=every, timezone=timezone, window=window,
        starts_at=starts_at, ends_at=ends_at, jitter=jitter, catch_up=catch_up, grace=grace,
        overlap=overlap, enabled=False if disabled else None, queue=queue, priority=priority,
        retry=retry, max_attempts=max_attempts, tags=tags or None, metadata=metadata, ref=ref,
    )  # fmt: skip
    outcome = session.client().schedules.put(made).outcome
    state = session.client().schedules.get(name)
    clock = Clock(session.clock(), session.utc)
    output.answer(
        session.json,
        {"name": name, "outcome": outcome, "next_run_at": state.next_run_at},
        f"schedule {name!r} {outcome}: {made.describe()}; next: {next_slot(state, clock)}",
    )


@schedule.command(cls=Command)
@click.argument("name")
@pass_session
def show(session: Session, name: str) -> None:
    """Show a schedule, and what became of its latest slots."""
    state = session.client().schedules.get(name)
    runs = session.client().schedules.runs(name, limit=RUNS)
    if session.json:
        output.json_line({**as_json(state), "runs": runs})
        return
    clock = Clock(session.clock(), session.utc)
    output.say(f"Schedule {name}: {state.schedule.kind}")
    output.fields(_facts(state, clock))
    output.block("Payload", output.pretty(state.schedule.payload))
    if runs:
        output.table(RUN_COLUMNS, [_row(run, clock) for run in runs])


def _facts(state: ScheduleState, clock: Clock) -> dict[str, str | None]:
    given = state.schedule
    late = f"at most {span(given.grace)} late" if given.catch_up == 0 else f"{given.catch_up}"
    return {
        "when": given.describe(),
        "cron": given.cron,
        "next": next_slot(state, clock),
        "last": None if state.last_run_at is None else clock.when(state.last_run_at),
        "ends": None if given.ends_at is None else clock.when(given.ends_at),
        "jitter": span(given.jitter) if given.jitter else None,
        "catch up": late,
        "overlap": given.overlap,
        "queue": f"{given.queue}, priority {given.priority}",
        "tags": ", ".join(given.tags) if given.tags else None,
        "ref": given.ref,
        "declared by": state.declared_by,
        "tenant": state.tenant,
    }


def _row(run: ScheduleRun, clock: Clock) -> tuple[output.Cell, ...]:
    late = max(run.fired_at - run.slot, _NO_TIME)
    job_id = "" if run.job_id is None else str(run.job_id)
    return (clock.when(run.slot), run.outcome, span(late), job_id, run.error or "")


@schedule.command(cls=Command)
@click.argument("name")
@pass_session
def run(session: Session, name: str) -> None:
    """Enqueue a schedule's job now, enabled or not."""
    job_id = session.client().schedules.run_now(name)
    output.answer(session.json, {"name": name, "job_id": job_id}, f"job {job_id}")


@schedule.command(cls=Command)
@click.argument("name")
@pass_session
def enable(session: Session, name: str) -> None:
    """Let a schedule run again, from now on."""
    session.client().schedules.enable(name)
    _tell(session, name)


@schedule.command(cls=Command)
@click.argument("name")
@pass_session
def disable(session: Session, name: str) -> None:
    """Let a schedule rest."""
    session.client().schedules.disable(name)
    _tell(session, name)


def _tell(session: Session, name: str) -> None:
    state = session.client().schedules.get(name)
    clock = Clock(session.clock(), session.utc)
    output.answer(
        session.json,
        {"name": name, "enabled": state.enabled, "next_run_at": state.next_run_at},
        f"schedule {name!r} is {'enabled' if state.enabled else 'disabled'}"
        + (f"; next: {next_slot(state, clock)}" if state.enabled else ""),
    )


@schedule.command(cls=Command)
@click.argument("name")
@pass_session
def remove(session: Session, name: str) -> Exit:
    """Remove a schedule; jobs that it enqueued stay."""
    removed = session.client().schedules.remove(name)
    text = f"schedule {name!r} removed" if removed else f"there was no schedule {name!r}"
    output.answer(session.json, {"name": name, "removed": removed}, text)
    return Exit.OK if removed else Exit.NEGATIVE


@schedule.command(cls=Command)
@click.argument("name", required=False)
@_times
@click.option(
    "-n", "--count", type=click.IntRange(1, 10_000), default=5, show_default=True, help="How many."
)
@pass_session
def preview(session: Session, /, name: str | None, *, count: int, **times: Any) -> None:  # noqa: ANN401 - options of `_times`
    """Show the next slots of the schedule NAME, or of --cron or --every."""
    said = times["cron"] is not None or times["every"] is not None
    if (name is None) is not said:
        raise click.UsageError("give either the name of a schedule, or --cron or --every")
    what = Schedule("preview", "preview", **times) if name is None else name
    slots = session.client().schedules.preview(what, count)
    if session.json:
        output.json_line({"slots": [output.iso(slot) for slot in slots]})
        return
    clock = Clock(session.clock(), session.utc)
    for slot in slots:
        output.say(f"{slot.isoformat(sep=' ', timespec='seconds')}  {clock.when(slot)}")
