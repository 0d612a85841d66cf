"""Asks before what cannot be undone."""

from __future__ import annotations

import sys

import click


def confirm(question: str) -> None:
    """Asks, and ends the command unless the answer is yes.

    Raises:
        click.Abort: the answer is no.
        click.UsageError: there is nobody to ask.
    """
    if not _has_terminal():
        raise click.UsageError("there is no terminal to ask on; pass --yes")
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)  # the cursor stands behind the question
        raise
    if not agreed:
        raise click.Abort


def _has_terminal() -> bool:
    return sys.stdin.isatty()
