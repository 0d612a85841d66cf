"""`schedules`: all of them, and how one is shown."""

from __future__ import annotations

from typing import Any

import attrs
import click

from pgqueue.cli import output, params
from pgqueue.cli.command import Command
from pgqueue.cli.session import Session, pass_session
from pgqueue.cli.times import Clock
from pgqueue.schedules import Schedule, ScheduleState
from pgqueue.words import span

COLUMNS = (
    output.Column("NAME", cut=True),
    output.Column("WHEN", cut=True),
    output.Column("KIND", cut=True),
    output.Column("NEXT"),
    output.Column("LAST"),
    output.Column("DECLARED BY", cut=True),
)
_SPANS = ("every", "jitter", "grace")


@click.command(cls=Command)
@click.option("--declared-by", help="Only those that this application's code declares.")
@click.option("-k", "--kind", help="Only those of this kind.")
@click.option("--ref", help="Only those about this.")
@click.option("-n", "--limit", type=params.COUNT, default=100, show_default=True, help="At most.")
@click.option("--after", metavar="NAME", help="Only names after this one: the next page.")
@pass_session
def schedules(
    session: Session,
    *,
    declared_by: str | None,
    kind: str | None,
    ref: str | None,
    limit: int,
    after: str | None,
) -> None:
    """List schedules, by name."""
    found = session.client().schedules.list(
        declared_by=declared_by, kind=kind, ref=ref, after=after, limit=limit
    )
    if session.json:
        for state in found:
            output.json_line(as_json(state))
        return
    if not found:
        output.say("no schedules")
        return
    clock = Clock(session.clock(), session.utc)
    output.table(COLUMNS, [_row(state, clock) for state in found])


def _row(state: ScheduleState, clock: Clock) -> tuple[output.Cell, ...]:
    return (
        state.name,
        when(state.schedule),
        state.schedule.kind,
        next_slot(state, clock),
        "" if state.last_run_at is None else clock.when(state.last_run_at),
        state.declared_by or "",
    )


def when(schedule: Schedule) -> str:
    """When it runs, briefly."""
    text = f"every {span(schedule.every)}" if schedule.every else schedule.cron or ""
    if schedule.window is not None:
        opens, closes = schedule.window
        text += f" {opens:%H:%M}-{closes:%H:%M}"
    return text if schedule.timezone == "UTC" else f"{text} {schedule.timezone}"


def next_slot(state: ScheduleState, clock: Clock) -> str:
    """When it runs next, or why it does not."""
    if not state.enabled:
        return "disabled"
    return "over" if state.next_run_at is None else clock.when(state.next_run_at)


def as_json(state: ScheduleState) -> dict[str, Any]:
    """All that is known of it, on one level."""
    schedule = attrs.asdict(state.schedule, recurse=False)
    spans = {f"{name}_seconds": schedule.pop(name) for name in _SPANS}
    window, retry = schedule.pop("window"), schedule.pop("retry")
    own = {
        field.name: getattr(state, field.name)
        for field in attrs.fields(ScheduleState)
        if field.name != "schedule"
    }
    return {
        **schedule,
        **spans,
        "window": None if window is None else [each.isoformat() for each in window],
        "retry": None if retry is None else retry.policy(),
        **own,
    }
