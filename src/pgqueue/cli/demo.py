"""`demo`."""

from __future__ import annotations

from pathlib import Path

import attrs
import click

from pgqueue.cli import output
from pgqueue.cli.command import Command
from pgqueue.cli.exits import Exit
from pgqueue.cli.session import Session, pass_session
from pgqueue.statements import DEFAULT_SCHEMA


@click.command(cls=Command)
@click.option(
    "--path",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Read the Python files below this folder.  [default: the standard library]",
)
@pass_session
def demo(session: Session, *, path: Path | None) -> Exit:
    """Parse Python's standard library with two workers; kill one.

    Each file is a job. One worker process is killed with SIGKILL in the middle of its work, and an
    audit of the database shows that nothing was lost (exit 1 if something was). It plays in the
    schema pgqueue_demo, which it drops and makes anew, unless --schema names another.
    """
    from pgqueue.demo import files, report, screen, story  # noqa: PLC0415 - only where it is wanted

    schema = story.SCHEMA if session.schema == DEFAULT_SCHEMA else session.schema
    console = output.terminal()
    shown: screen.Screen = screen.Plain(console)
    if session.json:
        shown = screen.Silent()
    elif console.is_terminal:
        shown = screen.Terminal(console)
    root = (path or files.standard_library()).resolve()
    audit = story.Demo(session.find, shown, root, schema).run()
    if session.json:
        output.json_line({**attrs.asdict(audit), "passed": audit.passed})
    else:
        for line in report.report(audit):
            shown.say(line)
    return Exit.OK if audit.passed else Exit.NEGATIVE
