"""`cron`: pg_cron does the upkeep, or pokes an endpoint."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import click

from pgqueue.cli import output, params
from pgqueue.cli.command import Command, Group, help_instead
from pgqueue.cli.confirm import confirm
from pgqueue.cli.exits import Exit
from pgqueue.cli.session import Session, pass_session
from pgqueue.cli.times import Clock
from pgqueue.models import DEFAULT_QUEUE
from pgqueue.pg_cron import CronJob, PgCron, Poke, install_script, remove_script, verify_script
from pgqueue.pg_cron.models import SECRET
from pgqueue.words import quantity

F = TypeVar("F", bound=Callable[..., Any])
MINUTE = timedelta(minutes=1)
JOBS = (
    output.Column("JOB"),
    output.Column("SCHEDULE"),
    output.Column("DATABASE"),
    output.Column("USER"),
    output.Column("ACTIVE"),
    output.Column("COMMAND", cut=True),
)
RUNS = (
    output.Column("JOB"),
    output.Column("STARTED", number=True),
    output.Column("STATUS"),
    output.Column("MESSAGE", cut=True),
)
FINDINGS = (
    output.Column(""),
    output.Column("CHECK"),
    output.Column("SEEN", cut=True),
)
_PLACE = click.option(
    "--cron-database",
    metavar="NAME",
    help="The database of pg_cron. [default: that of the queue, or what the server says]",
)
_NAMES = click.argument("names", nargs=-1, metavar="[JOB]...")


def _settings(command: F) -> F:
    """What `install` and `sql` have in common."""
    options = (
        click.option(
            "--every", metavar="DURATION", type=params.positive_duration, default="1m",
            help="How often: 10s, 1m, 1h. [default: 1m]",
        ),
        click.option("--url", help="Poke this endpoint while jobs of its queue are ready."),
        click.option("--name", help="The endpoint's name. [default: that of its queue]"),
        click.option("--queue", default=DEFAULT_QUEUE, help="Its queue. [default: default]"),
        click.option("--secret", help=f"The name of its secret. [default: {SECRET}]"),
        click.option("--no-secret", is_flag=True, help="Call it without one."),
        click.option("--header", help="Which header has it. [default: Authorization: Bearer]"),
        click.option("--body", metavar="JSON", type=params.json_object, help="What to post."),
        click.option(
            "--timeout", metavar="DURATION", type=params.positive_duration, default="30s",
            help="How long to wait for its answer. [default: 30s]",
        ),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def _endpoint(given: dict[str, Any]) -> Poke | None:
    """The endpoint that options name, if they do."""
    if given["url"] is None:
        named = [name for name in ("name", "secret", "header", "body") if given[name] is not None]
        if named or given["no_secret"]:
            raise click.UsageError("an endpoint needs its --url")
        return None
    if given["secret"] and given["no_secret"]:
        raise click.UsageError("--secret and --no-secret exclude each other")
    more = {name: given[name] for name in ("header", "body") if given[name] is not None}
    return Poke(
        name=given["name"] or given["queue"], url=given["url"], queue=given["queue"],
        secret=None if given["no_secret"] else given["secret"] or SECRET,
        timeout=given["timeout"], **more,
    )  # fmt: skip


@contextmanager
def _adapter(session: Session, cron_database: str | None) -> Iterator[PgCron]:
    cron = PgCron(session.client(), database=cron_database)
    try:
        yield cron
    finally:
        cron.close()


@click.group(cls=Group, invoke_without_command=True)
@click.pass_context
def cron(ctx: click.Context) -> Exit | None:
    """Have pg_cron do the upkeep, or poke an endpoint."""
    return help_instead(ctx)


@cron.command(cls=Command)
@_settings
@_PLACE
@pass_session
def install(
    session: Session,
    /,
    *,
    every: timedelta,
    cron_database: str | None,
    **given: Any,  # noqa: ANN401
) -> None:
    """Make the job, or change it; with --url one that pokes an endpoint.

    Run it after each deployment, as often as you like. What is paused stays so.
    """
    with _adapter(session, cron_database) as adapter:
        _show(session, adapter.install(_endpoint(given), every=every))


@cron.command(cls=Command)
@_settings
@click.option("--remove", is_flag=True, help="What removes it all instead.")
@click.option(
    "--verify", "verifies", is_flag=True, help="What says whether all is in place instead."
)
@click.option("--queue-database", metavar="NAME", help="Where pg_cron is in another: the queue's.")
@pass_session
def sql(
    session: Session, /, *, every: timedelta, remove: bool, verifies: bool,
    queue_database: str | None, **given: Any,  # noqa: ANN401
) -> None:  # fmt: skip
    """Print the SQL of `install`, for a hosted SQL editor.

    It may be run again and again. Nothing is connected to.
    """
    endpoint = _endpoint(given)
    if remove and verifies:
        raise click.UsageError("--remove and --verify exclude each other")
    if verifies:
        script = verify_script(session.schema, database=queue_database)
    elif remove:
        script = remove_script(session.schema, database=queue_database)
    else:
        script = install_script(session.schema, endpoint, every=every, database=queue_database)
    if session.json:
        output.json_line({"schema": session.schema, "script": script})
    else:
        click.echo(script, nl=False)


@cron.command(cls=Command)
@_PLACE
@pass_session
def verify(session: Session, *, cron_database: str | None) -> Exit:
    """Say whether all is in place and works; exit 1 if not."""
    with _adapter(session, cron_database) as adapter:
        found = adapter.verify()
    if session.json:
        for finding in found:
            output.json_line(finding)
    else:
        for finding in found:
            mark = "ok" if finding.ok else "BAD"
            output.say(f"{mark:<4}{finding.check}: {finding.seen}")
            if finding.advice:
                output.say(f"    -> {finding.advice}")
    return Exit.OK if all(finding.ok for finding in found) else Exit.NEGATIVE


@cron.command(cls=Command)
@_NAMES
@_PLACE
@pass_session
def pause(session: Session, names: tuple[str, ...], *, cron_database: str | None) -> Exit:
    """Let jobs start no more, and keep them; without names all.

    What is done by hand still works.
    """
    with _adapter(session, cron_database) as adapter:
        return _changed(session, adapter.pause(*names), "paused")


@cron.command(cls=Command)
@_NAMES
@_PLACE
@pass_session
def resume(session: Session, names: tuple[str, ...], *, cron_database: str | None) -> Exit:
    """Let paused jobs go on; without names all."""
    with _adapter(session, cron_database) as adapter:
        return _changed(session, adapter.resume(*names), "resumed")


@cron.command(cls=Command)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@_PLACE
@pass_session
def remove(session: Session, *, yes: bool, cron_database: str | None) -> Exit:
    """Remove all jobs, the endpoints and their secrets."""
    if not yes:
        confirm("Remove all jobs of pg_cron for this queue, its endpoints and their secrets?")
    with _adapter(session, cron_database) as adapter:
        return _changed(session, adapter.remove(), "removed")


@cron.command(cls=Command)
@click.argument("endpoint", required=False)
@click.option("--force", is_flag=True, help="Poke it though nothing is ready.")
@_PLACE
@pass_session
def run(session: Session, endpoint: str | None, *, force: bool, cron_database: str | None) -> Exit:
    """Do now what pg_cron would: the upkeep, or poke ENDPOINT.

    Exit 1 if nothing was ready.
    """
    if endpoint is None and force:
        raise click.UsageError("--force needs an ENDPOINT")
    done = PgCron(session.client(), database=cron_database).run(endpoint, force=force)
    if endpoint is None:
        output.answer(session.json, {"endpoint": None, "request_id": None}, "the upkeep is done")
        return Exit.OK
    text = "no job is ready" if done is None else f"request {done} of pg_net"
    output.answer(session.json, {"endpoint": endpoint, "request_id": done}, text)
    return Exit.NEGATIVE if done is None else Exit.OK


@cron.command(cls=Command)
@click.option("-n", "--limit", type=params.COUNT, default=20, help="At most so many. [default: 20]")
@_PLACE
@pass_session
def history(session: Session, *, limit: int, cron_database: str | None) -> None:
    """List the last runs."""
    with _adapter(session, cron_database) as adapter:
        found = adapter.history(limit)
    if session.json:
        for each in found:
            output.json_line(each)
        return
    if not found:
        output.say("no runs")
        return
    clock = Clock(session.clock(), session.utc)
    rows = [
        (r.job, "" if r.started_at is None else clock.when(r.started_at), r.status, r.message)
        for r in found
    ]
    output.table(RUNS, rows)


@cron.command(cls=Command)
@click.option(
    "-n", "--limit", type=params.COUNT, default=100, help="Of the last so many. [default: 100]"
)
@_PLACE
@pass_session
def failures(session: Session, *, limit: int, cron_database: str | None) -> Exit:
    """List the runs and requests that failed, and what to do; exit 1 if there are any."""
    with _adapter(session, cron_database) as adapter:
        found = adapter.failures(limit)
    clock = Clock(session.clock(), session.utc)
    for each in found:
        if session.json:
            output.json_line(each)
            continue
        status = "" if each.status is None else f" HTTP {each.status}"
        when = "" if each.at is None else f" {clock.when(each.at)}:"
        output.say(f"{each.job}:{when}{status} {each.error}".rstrip())
        if each.advice:
            output.say(f"    -> {each.advice}")
    if not found and not session.json:
        output.say("no failures")
    return Exit.NEGATIVE if found else Exit.OK


@cron.command("sync-secret", cls=Command)
@click.argument("name", default=SECRET)
@click.option("--from-env", metavar="VARIABLE", help="Take the value from there, not from stdin.")
@click.option(
    "--store", type=click.Choice(("vault", "table")),
    help="Where to put it. [default: where it is, else Vault if there is one]",
)  # fmt: skip
@pass_session
def sync_secret(session: Session, name: str, *, from_env: str | None, store: str | None) -> None:
    """Put the secret that an endpoint is called with: from a variable, or standard input.

    It holds from the next call on, and nothing has to be scheduled anew.
    """
    place = PgCron(session.client()).sync_secret(_value(from_env), name, store=store)
    text = f"secret {name!r} is in {'Vault' if place == 'vault' else 'the table'}"
    output.answer(session.json, {"name": name, "store": place}, text)


def _value(variable: str | None) -> str:
    """The secret, never from the command line, which others can see."""
    if variable is None:
        return sys.stdin.read().strip()
    value = os.environ.get(variable)
    if not value:
        raise click.UsageError(f"the variable {variable} is not set")
    return value.strip()


def _show(session: Session, jobs: list[CronJob]) -> None:
    if session.json:
        for job in jobs:
            output.json_line(job)
        return
    rows = [
        (j.name, j.schedule, j.database, j.user, "yes" if j.active else "paused", j.command)
        for j in jobs
    ]
    output.table(JOBS, rows)


def _changed(session: Session, jobs: list[CronJob], done: str) -> Exit:
    names = [job.name for job in jobs]
    text = f"{done} {quantity(len(names), 'job')}: {', '.join(names)}" if names else f"none {done}"
    output.answer(session.json, {done: names}, text)
    return Exit.OK if names else Exit.NEGATIVE
