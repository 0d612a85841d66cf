"""What goes to stderr: one line for each error, notes, and the log."""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback

import click
import psycopg

from pgqueue import errors
from pgqueue.cli.exits import Exit, exit_code
from pgqueue.cli.session import Session
from pgqueue.masking import masked

DEBUG = "PGQUEUE_DEBUG"
_TRACEBACKS = 2
"""From so many -v on."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """`text` without what would steer a terminal: escape sequences become visible."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def note(text: str) -> None:
    """One line on stderr."""
    click.echo(f"pgqueue: {printable(' '.join(text.split()))}", err=True)


def report(error: BaseException, session: Session) -> int:
    """Says in one line what went wrong and returns the exit code."""
    # click hides what it makes an Abort of: Ctrl-C, or Ctrl-D at a question.
    if isinstance(error, click.Abort) and isinstance(error.__context__, KeyboardInterrupt):
        return Exit.INTERRUPTED
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else Exit.NEGATIVE
    if isinstance(error, click.Abort):
        note("nothing was done")
        return Exit.NEGATIVE
    secrets = (session.dsn, session.resolved_dsn, os.environ.get("PGQUEUE_DSN"))
    if session.verbose >= _TRACEBACKS or os.environ.get(DEBUG):
        click.echo(masked("".join(traceback.format_exception(error)), *secrets), err=True)
    if isinstance(error, errors.SchemaError):
        error = _exact(error, session)
    code = exit_code(error)
    note(masked(_message(error, session, code), *secrets))
    return code


def _exact(error: errors.SchemaError, session: Session) -> errors.SchemaError:
    """What is wrong with the schema: a missing table alone does not tell."""
    try:
        session.client().schema_state().check()
    except errors.SchemaError as exact:
        return exact
    except psycopg.Error:
        pass
    return error


def _message(error: BaseException, session: Session, code: Exit) -> str:
    if isinstance(error, click.UsageError):
        return f"{_lowered(error.format_message())}{_see(error.ctx)}"
    if code is Exit.INTERNAL:
        return f"an error in pgqueue: {type(error).__name__}: {error}; -vv shows the traceback"
    if code is Exit.DATABASE:
        assert isinstance(error, psycopg.Error)  # noqa: S101 - for the type checker
        text = error.diag.message_primary or str(error) or type(error).__name__
        return f"the database refuses: {text} (SQLSTATE {error.sqlstate})"
    if isinstance(error, errors.SchemaError | errors.DatabaseError):
        return f"{error}{_place(session)}"
    return str(error)


def _lowered(text: str) -> str:
    return f"{text[:1].lower()}{text[1:].rstrip('.')}"


def _see(ctx: click.Context | None) -> str:
    return f"; see `{ctx.command_path} --help`" if ctx else ""


def _place(session: Session) -> str:
    """Where the database is: the DSN may have come from anywhere."""
    if session.resolved_dsn is None:
        return ""
    found = psycopg.conninfo.conninfo_to_dict(session.resolved_dsn)
    host = found.get("host") or os.environ.get("PGHOST") or "the default host"
    name = found.get("dbname") or os.environ.get("PGDATABASE") or "the user's own"
    return f" (database {name} at {host})"


class _Stderr(logging.Handler):
    """Writes to stderr as it is when something is logged."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(masked(printable(self.format(record))), err=True)


def set_up_logging(verbose: int) -> None:
    """Sends the log to stderr: warnings, and with each -v more."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logger = logging.getLogger("pgqueue")
    logger.setLevel(level)
    if not any(isinstance(handler, _Stderr) for handler in logger.handlers):
        handler = _Stderr()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)


def silence() -> None:
    """Lets Python end without a word about a closed stdout."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
