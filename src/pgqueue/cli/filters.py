"""The options that choose jobs, and the filter that they make."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import wraps
from typing import Any

import click

from pgqueue.cli import params
from pgqueue.cli.session import Session
from pgqueue.models import JobState
from pgqueue.operations import JobFilter

_TIMES = {
    "enqueued_after": "Only enqueued since: a time, or 2h for two hours ago.",
    "enqueued_before": "Only enqueued before.",
    "finished_after": "Only finished since.",
    "finished_before": "Only finished before.",
}


def _time(name: str, text: str) -> click.Option:
    return click.Option(
        ["--" + name.replace("_", "-")],
        metavar="TIME|DURATION",
        type=params.moment_or_duration,
        help=text,
    )


OPTIONS = (
    click.Option(["-q", "--queue"], help="Only of this queue."),
    click.Option(["-k", "--kind"], help="Only of this kind."),
    click.Option(
        ["-s", "--state"],
        multiple=True,
        type=click.Choice([state.value for state in JobState]),
        help="Only in this state; may be repeated.",
    ),
    click.Option(["--tag"], help="Only with this tag."),
    click.Option(["--ref"], help="Only about this."),
    click.Option(["--worker"], help="Only last claimed by this worker."),
    click.Option(["--tenant"], help="Only of this tenant."),
    click.Option(["--error-class"], metavar="NAME", help="Only after such an error: ValueError."),
    click.Option(["--error"], metavar="TEXT", help="Only after an error whose message has this."),
    click.Option(
        ["--payload"],
        metavar="JSON",
        type=params.json_value,
        help="Only whose payload contains this.",
    ),
    *(_time(name, text) for name, text in _TIMES.items()),
)
_NAMES = tuple(str(option.name) for option in OPTIONS)


def filtered(function: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the options; it gets what they said as `given`."""

    @wraps(function)
    def called(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - click's
        given = {name: options.pop(name) for name in _NAMES}
        given = {name: value for name, value in given.items() if value not in (None, ())}
        return function(*args, given=given, **options)

    known = getattr(called, "__click_params__", [])
    called.__click_params__ = [*known, *reversed(OPTIONS)]  # type: ignore[attr-defined]
    return called


def as_filter(session: Session, given: dict[str, Any]) -> JobFilter:
    """The filter; spans of time are counted back from the database's time."""
    times = {name: given[name] for name in _TIMES if name in given}
    if any(isinstance(value, timedelta) for value in times.values()):
        now = session.clock()
        times = {name: _ago(now, value) for name, value in times.items()}
    return JobFilter(**{**given, **times})


def _ago(now: datetime, when: datetime | timedelta) -> datetime:
    try:
        return now - when if isinstance(when, timedelta) else when
    except OverflowError:
        raise click.UsageError("this is before the year 1") from None
