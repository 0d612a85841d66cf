"""`run`: one job, by hand."""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import click
import psycopg

from pgqueue.cli import output, params
from pgqueue.cli.actor import whoami
from pgqueue.cli.command import Command
from pgqueue.cli.exits import Exit
from pgqueue.cli.load import load_handlers
from pgqueue.cli.params import job_id
from pgqueue.cli.report import note
from pgqueue.cli.session import Session, pass_session
from pgqueue.client import Client
from pgqueue.errors import LeaseLost
from pgqueue.events import Outcome
from pgqueue.masking import masked
from pgqueue.models import Job, JobState
from pgqueue.words import span
from pgqueue.worker import report, runner
from pgqueue.worker.runner import Ending


@click.command(cls=Command)
@click.argument("id", type=job_id)
@click.argument("handlers", metavar="MODULE[:NAME]")
@click.option(
    "--lease", metavar="DURATION", type=params.positive_duration, default="30s", show_default=True,
    help="If this process dies, the job runs elsewhere after so long.",
)  # fmt: skip
@pass_session
def run(session: Session, id: int, handlers: str, *, lease: timedelta) -> Exit:  # noqa: A002
    """Run one waiting job here and now, with the handlers of a Python module.

    It runs even where its queue or everything is paused, and whatever its time. Its ending counts
    as that of any worker: a failure backs off. On Ctrl-C the job is given back.
    """
    found = load_handlers(handlers)
    client = session.client()
    kind = found[client.get(id).kind]
    who = whoami()
    job = client.operations.claim_one(id, lease=lease, worker=who["actor"], **who)
    try:
        with _kept(client, job, lease):
            if kind.is_async:
                (ending,) = asyncio.run(runner.arun(found, kind, [job]))
            else:
                (ending,) = runner.run(found, kind, [job])
    except BaseException:
        client.release(job)
        raise
    statement = report.statement(client.statements, ending.outcome, [ending], found.redacted)
    if client.driver.run(statement):
        raise LeaseLost([id])
    return _tell(session, ending, client.driver.run(client.statements.state(id)))


def _tell(session: Session, ending: Ending, state: JobState) -> Exit:
    good = ending.outcome is Outcome.SUCCEEDED
    took = span(timedelta(seconds=ending.duration))
    said: dict[str, Any] = {"id": ending.job.id, "outcome": ending.outcome, "state": state}
    if ending.error is not None and not session.json:
        lines = traceback.format_exception(ending.error)
        click.echo(masked("".join(lines)).rstrip(), err=True)
    output.answer(
        session.json,
        {**said, "outcome": ending.outcome.value, "duration_seconds": ending.duration},
        f"job {ending.job.id} {ending.outcome} after {took}" + ("" if good else f": it is {state}"),
    )
    return Exit.OK if good else Exit.NEGATIVE


@contextmanager
def _kept(client: Client, job: Job[Any], lease: timedelta) -> Iterator[None]:
    """Renews the lease meanwhile."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(lease.total_seconds() / 3):
            try:
                cancelled = client.extend(job, lease)[job.id]
            except LeaseLost:
                note(f"the lease of job {job.id} is lost; what it still does is not recorded")
                return
            except psycopg.Error as error:
                note(f"the lease of job {job.id} cannot be renewed: {error}")
                continue
            if cancelled:
                note(f"job {job.id} was asked to stop; Ctrl-C ends it")

    thread = threading.Thread(target=beat, name="pgqueue-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(5)
