"""What the exit code of `pgqueue` says, and which error leads to which."""

from __future__ import annotations

from enum import IntEnum

import click
import psycopg

from pgqueue import errors


class Exit(IntEnum):
    """The exit codes. They are documented in docs/cli.md and never change their meaning."""

    OK = 0
    NEGATIVE = 1
    """The answer is no: not current, not running, nothing was there to be done."""
    USAGE = 2
    """A wrong option, argument, payload or handler module."""
    UNAVAILABLE = 3
    """The database cannot be reached, or the embedded one not be started."""
    SCHEMA = 4
    """pgqueue is not installed in the schema, or in another version."""
    PERMISSION = 5
    """The database role lacks a grant."""
    NOT_FOUND = 6
    """There is no such job or schedule."""
    DUPLICATE = 7
    """The dedupe key is held, and `--on-conflict raise` was asked for."""
    TIMEOUT = 8
    """What was waited for did not happen in time."""
    DATABASE = 9
    """The database refused for a reason of its own."""
    INTERNAL = 70
    """An error in pgqueue itself."""
    OUTPUT = 74
    """The output cannot be written: the disk is full, say."""
    INTERRUPTED = 130
    """Ended by Ctrl-C."""
    BROKEN_PIPE = 141
    """Whoever read the output has gone."""


class CannotWrite(click.ClickException):
    """The output cannot be written."""


_BY_TYPE: tuple[tuple[type[BaseException], Exit], ...] = (
    (CannotWrite, Exit.OUTPUT),
    (click.ClickException, Exit.USAGE),
    (errors.EmbeddedServerError, Exit.UNAVAILABLE),
    (errors.ConfigurationError, Exit.USAGE),
    (errors.InvalidJob, Exit.USAGE),
    (errors.PermissionDenied, Exit.PERMISSION),
    (errors.DatabaseUnavailable, Exit.UNAVAILABLE),
    (errors.SchemaError, Exit.SCHEMA),
    (errors.JobNotFound, Exit.NOT_FOUND),
    (errors.ScheduleNotFound, Exit.NOT_FOUND),
    (errors.DuplicateJob, Exit.DUPLICATE),
    (errors.WaitTimeout, Exit.TIMEOUT),
    (errors.FilterTooBroad, Exit.TIMEOUT),
    (errors.PgqueueError, Exit.NEGATIVE),
    (psycopg.Error, Exit.DATABASE),
)


def exit_code(error: BaseException) -> Exit:
    """The exit code for an error that ended the command."""
    return next((code for kind, code in _BY_TYPE if isinstance(error, kind)), Exit.INTERNAL)
