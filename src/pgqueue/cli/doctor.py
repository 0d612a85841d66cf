"""`doctor`: what ails the queue, and what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import click
from rich.text import Text

from pgqueue.aclient import AsyncClient
from pgqueue.cli import output, params
from pgqueue.cli.command import Command
from pgqueue.cli.exits import Exit
from pgqueue.cli.session import Session, pass_session
from pgqueue.doctor import Finding, Level, aexamine
from pgqueue.words import quantity

_ORDER = (Level.CRITICAL, Level.WARNING, Level.NOTICE, Level.OK)
_STYLES = {
    Level.CRITICAL: "bold red",
    Level.WARNING: "yellow",
    Level.NOTICE: "cyan",
    Level.OK: "green",
}
_LEVEL_WIDTH = len("critical") + 2


@click.command(cls=Command)
@click.option("--all", "everything", is_flag=True, help="Show also what is well, with its figures.")
@click.option(
    "--interval",
    metavar="DURATION",
    type=params.positive_duration,
    help="Take two samples, so far apart, and tell what grew: 10s.",
)
@pass_session
def doctor(session: Session, *, everything: bool, interval: timedelta | None) -> Exit:
    """Say what ails the queue, and what to do about it.

    It looks at the schema, the server, the storage and the jobs, and writes nothing. The exit code
    is 1 if anything is a warning or critical.
    """
    client = AsyncClient(session.find(), schema=session.schema)
    found = asyncio.run(aexamine(client, interval=interval))
    if session.json:
        for finding in found:
            output.json_line(finding)
    else:
        _show(found, everything=everything)
    attention = any(finding.level.needs_attention for finding in found)
    return Exit.NEGATIVE if attention else Exit.OK


def _show(found: Sequence[Finding], *, everything: bool) -> None:
    shown = [f for f in found if everything or f.level is not Level.OK]
    width = max((len(f.check) for f in shown), default=0) + 2
    for finding in sorted(shown, key=lambda f: _ORDER.index(f.level)):
        style = _STYLES[finding.level]
        level = str(finding.level).ljust(_LEVEL_WIDTH)
        head = Text.assemble((level, style), finding.check.ljust(width))
        output.hang(head, Text(finding.seen))
        if finding.advice:
            output.hang(Text(" " * len(head)), Text(f"-> {finding.advice}", style="dim"))
    output.say(_sum(found))


def _sum(found: Sequence[Finding]) -> str:
    counts = {level: sum(f.level is level for f in found) for level in _ORDER}
    ill = {f.check for f in found if f.level is not Level.OK}
    well = len({f.check for f in found} - ill)
    parts = [
        f"{counts[Level.CRITICAL]} critical" if counts[Level.CRITICAL] else "",
        quantity(counts[Level.WARNING], "warning") if counts[Level.WARNING] else "",
        quantity(counts[Level.NOTICE], "notice") if counts[Level.NOTICE] else "",
    ]
    told = ", ".join(filter(None, parts))
    return f"{told}; {quantity(well, 'check')} well" if told else f"all {well} checks are well"
