"""`scheduler`: fires schedules, and does nothing else."""

from __future__ import annotations

import contextlib
import os
import socket
import time
import uuid

import attrs
import click
import psycopg

from pgqueue.cli import output
from pgqueue.cli.command import Command
from pgqueue.cli.report import note
from pgqueue.cli.session import Session, pass_session
from pgqueue.cli.upkeep import until_signal
from pgqueue.client import Client
from pgqueue.errors import DatabaseUnavailable, PgqueueError
from pgqueue.registry import BEAT_SECONDS, RegistryStatements
from pgqueue.version import __version__
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
    presence = _Presence(session.client())
    with until_signal() as over:
        note("firing schedules")
        presence.beat()
        while not over.wait(_round(session)):
            presence.beat()
    presence.leave()


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


@attrs.define
class _Presence:
    """The scheduler's row among the workers. Whatever goes wrong with it, schedules are fired."""

    _client: Client
    _name: str = attrs.Factory(
        lambda: f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    )
    _due_at: float = 0.0
    _known: bool | None = False

    def beat(self) -> None:
        if time.monotonic() < self._due_at:
            return
        self._due_at = time.monotonic() + BEAT_SECONDS
        statements = RegistryStatements(self._client.schema)
        with contextlib.suppress(psycopg.Error, PgqueueError):
            if self._known:
                self._known = self._client.driver.run(
                    statements.beat(self._name, 0, (), stopping=False)
                )
            if self._known is False:
                register = statements.register(
                    self._name, host=socket.gethostname(), pid=os.getpid(), version=__version__
                )
                self._client.driver.run(register)
                self._known = True

    def leave(self) -> None:
        if self._known:
            with contextlib.suppress(psycopg.Error, PgqueueError):
                statements = RegistryStatements(self._client.schema)
                self._client.driver.run(statements.unregister(self._name))
