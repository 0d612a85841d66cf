"""`server`: the embedded Postgres."""

from __future__ import annotations

from pathlib import Path

import click

from pgqueue import embedded
from pgqueue.cli import output
from pgqueue.cli.command import Command, Group, help_instead
from pgqueue.cli.confirm import confirm
from pgqueue.cli.exits import Exit
from pgqueue.cli.session import Session, pass_session

_DATA = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="The server's folder. [default: see `server status`]",
)


@click.group(cls=Group, invoke_without_command=True)
@click.pass_context
def server(ctx: click.Context) -> Exit | None:
    """Start, stop and find the embedded Postgres."""
    return help_instead(ctx)


@server.command(cls=Command)
@_DATA
@click.option("--fresh", is_flag=True, help="Throw away all its data first.")
@click.option("-y", "--yes", is_flag=True, help="With --fresh: do not ask.")
@pass_session
def start(session: Session, *, data: Path | None, fresh: bool, yes: bool) -> None:
    """Start it, or find it running; it goes on until `server stop`."""
    if fresh and not yes:
        confirm("Throw away all data of the embedded server?")
    _show(session, embedded.start(data, fresh=fresh))


@server.command(cls=Command)
@_DATA
@pass_session
def stop(session: Session, *, data: Path | None) -> Exit:
    """Stop it; its data stay."""
    stopped = embedded.stop(data)
    output.answer(
        session.json, {"stopped": stopped}, "stopped" if stopped else "it was not running"
    )
    return Exit.OK if stopped else Exit.NEGATIVE


@server.command(cls=Command)
@_DATA
@pass_session
def status(session: Session, *, data: Path | None) -> Exit:
    """Say whether it runs, and where; exit 1 if it does not."""
    found = embedded.status(data)
    if found is not None:
        _show(session, found)
        return Exit.OK
    output.answer(
        session.json, {"running": False}, "it is not running; `pgqueue server start` starts it"
    )
    return Exit.NEGATIVE


@server.command(cls=Command)
@_DATA
@pass_session
def dsn(session: Session, *, data: Path | None) -> None:
    """Print the DSN to connect with, starting the server if need be."""
    found = embedded.start(data).dsn
    output.answer(session.json, {"dsn": found}, found)


def _show(session: Session, found: embedded.Server) -> None:
    if session.json:
        facts = {
            "pid": found.pid,
            "version": found.version,
            "data": str(found.data),
            "dsn": found.dsn,
        }
        output.json_line({"running": True, **facts})
        return
    output.say(f"Postgres {found.version} is running")
    output.fields({"pid": str(found.pid), "data": str(found.data), "dsn": found.dsn})
