"""`scheduler`: fires schedules, and does nothing else."""

from __future__ import annotations

import click

from pgqueue.cli import output
from pgqueue.cli.command import Command
from pgqueue.cli.report import note
from pgqueue.cli.session import Session, pass_session
from pgqueue.cli.upkeep import until_signal
from pgqueue.errors import DatabaseUnavailable
from pgqueue.words import quantity

LONGEST = 1.0
"""Seconds between two looks: a schedule may have been made meanwhile that is due sooner."""
SHORTEST = 0.02
"""The same where one is due: another scheduler has it in hand."""


@click.command(cls=Command)
@pass_session
def scheduler(session: Session) -> None:
    """Fire schedules, each slot on time, until SIGTERM or Ctrl-C.

    Workers do it, too, within a fifth of a second. Any number of either may run: each slot is fired
    once.
    """
    session.client().schema_state().check()
    with until_signal() as over:
        note("firing schedules")
        while not over.wait(_round(session)):
            pass


def _round(session: Session) -> float:
    """Fires what is due; gives the seconds until the next slot."""
    schedules = session.client().schedules
    try:
        fired = schedules.tick()
        due = schedules.due_in()
    except DatabaseUnavailable as error:
        note(f"{error}; trying again")
        return LONGEST
    if fired:
        output.answer(session.json, {"enqueued": fired}, f"enqueued {quantity(fired, 'job')}")
    return LONGEST if due is None else min(LONGEST, max(SHORTEST, due))
