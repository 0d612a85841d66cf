"""`maintain`: upkeep where no worker runs, once or all the time."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import click

from pgqueue.cli import output, params
from pgqueue.cli.command import Command
from pgqueue.cli.report import note
from pgqueue.cli.session import Session, pass_session
from pgqueue.cli.times import Clock
from pgqueue.errors import DatabaseUnavailable
from pgqueue.models import Maintenance
from pgqueue.words import quantity, span


@click.command(cls=Command)
@click.option(
    "--every",
    metavar="DURATION",
    type=params.positive_duration,
    help="Go on until SIGTERM or Ctrl-C, with a round every so long: 1s.",
)
@pass_session
def maintain(session: Session, *, every: timedelta | None) -> None:
    """Do the upkeep where no worker runs.

    It fires schedules, makes due jobs ready, ends expired claims and drops what is past its
    retention. Workers do it all the time.
    """
    if every is None:
        _tell(session, session.client().maintain())
        return
    session.client().schema_state().check()
    with until_signal() as over:
        note(f"upkeep every {span(every)}")
        _round(session)
        while not over.wait(every.total_seconds()):
            _round(session)


def _round(session: Session) -> None:
    try:
        done = session.client().maintain()
    except DatabaseUnavailable as error:
        note(f"{error}; trying again")
        return
    if done.promoted or done.reaped:
        _tell(session, done)


def _tell(session: Session, done: Maintenance) -> None:
    if session.json:
        output.json_line(done)
        return
    claims = quantity(done.reaped, "expired claim")
    text = f"promoted {quantity(done.promoted, 'job')}, ended {claims}"
    if done.next_run_at is not None:
        text += f"; the next is due {Clock(session.clock(), session.utc).when(done.next_run_at)}"
    output.say(text)


@contextmanager
def until_signal() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set."""
    over = threading.Event()
    before = {
        name: signal.signal(name, lambda *_: over.set()) for name in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield over
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
