"""Commands that take the common options wherever they stand, and the group that reports errors."""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from typing import Any

import click
from click.core import ParameterSource

from pgqueue.cli import report
from pgqueue.cli.exits import CannotWrite, Exit
from pgqueue.cli.session import Session


def _store(ctx: click.Context, param: click.Parameter, value: Any) -> None:  # noqa: ANN401
    """Notes a common option; it may be given before the command or after it."""
    session = ctx.ensure_object(Session)
    if param.name == "verbose":
        session.verbose += value
        report.set_up_logging(session.verbose)
    elif param.name and ctx.get_parameter_source(param.name) is not ParameterSource.DEFAULT:
        setattr(session, param.name, value)


def _common(*names: str, **settings: Any) -> click.Option:  # noqa: ANN401
    return click.Option(names, callback=_store, expose_value=False, is_eager=True, **settings)


COMMON = (
    _common(
        "--dsn",
        help="Where the queue is. [env: PGQUEUE_DSN, then PGHOST and the like, then embedded]",
    ),
    _common("--schema", help="The schema that pgqueue is in. [default: pgqueue]"),
    _common("--json", is_flag=True, help="Print JSON: one object, or one a line for a list."),
    _common("--utc", is_flag=True, help="Print times in full, in UTC, instead of '3s ago'."),
    _common("-v", "--verbose", count=True, help="Say more; -vv adds tracebacks."),
)


class Command(click.Command):
    """A command with the common options added to its own."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """See `click.Command`."""
        return [*super().get_params(ctx), *COMMON]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See `click.Command`."""
        own = [p for p in super().get_params(ctx) if not isinstance(p, click.Argument)]
        write_options(ctx, formatter, "Options", own)
        write_options(ctx, formatter, "Common options", COMMON)


def write_options(
    ctx: click.Context,
    formatter: click.HelpFormatter,
    title: str,
    params: Sequence[click.Parameter],
) -> None:
    """Writes one section of options."""
    records = [record for param in params if (record := param.get_help_record(ctx))]
    with formatter.section(title):
        formatter.write_dl(records)


def help_instead(ctx: click.Context) -> Exit | None:
    """Shows a group's help where its command is missing."""
    if ctx.invoked_subcommand is not None:
        return None
    click.echo(ctx.get_help())
    return Exit.USAGE


class Group(click.Group):
    """A group of such commands."""

    command_class = Command


class App(Group):
    """The whole command line: whatever goes wrong is one line on stderr and an exit code."""

    def __init__(self, *args: Any, themes: dict[str, tuple[str, ...]], **settings: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **settings)
        self.themes = themes

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """See `click.Command`."""
        return [*COMMON, *super().get_params(ctx)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands by theme."""
        width = formatter.width - 16
        for theme, names in self.themes.items():
            found = [(name, command) for name in names if (command := self.get_command(ctx, name))]
            with formatter.section(theme):
                formatter.write_dl([(n, c.get_short_help_str(width)) for n, c in found], col_max=12)

    def invoke(self, ctx: click.Context) -> object:
        """Runs the command; where nobody reads its output any more, it ends without a word.

        Raises:
            CannotWrite: the output cannot be written.
        """
        try:
            code: object = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            report.silence()
            raise click.exceptions.Exit(Exit.BROKEN_PIPE) from None
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
                raise
            report.silence()
            raise CannotWrite(f"cannot write: {error.strerror}") from error
        return code

    def main(self, args: Sequence[str] | None = None, **extra: Any) -> Any:  # type: ignore[override] # noqa: ANN401
        """Runs the command line and exits, as `click.Command.main` does."""
        sys.exit(self.run(sys.argv[1:] if args is None else args, **extra))

    def run(self, args: Sequence[str], **extra: Any) -> int:  # noqa: ANN401
        """Runs a command line and returns its exit code."""
        session = Session()
        report.set_up_logging(0)
        extra.update(prog_name="pgqueue", standalone_mode=False, obj=session)
        try:
            code = super().main(list(args), **extra)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is reported
            return report.report(error, session)
        finally:
            session.close()
        return int(code or 0)
