"""`bench`."""

from __future__ import annotations

import os
from pathlib import Path

import click
from rich.console import Console

from pgqueue.cli.command import Command
from pgqueue.cli.session import Session, pass_session


@click.command(cls=Command)
@click.option(
    "--scale",
    metavar="NUMBER",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Multiply the number of jobs.",
)
@click.option(
    "--rounds",
    metavar="NUMBER",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Report the medians of so many rounds.",
)
@click.option(
    "--clients",
    metavar="NUMBER",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="The most clients that claim and ack.",
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Draw a picture into this file, .svg or .png (extra `bench`).",
)
@pass_session
def bench(session: Session, *, scale: float, rounds: int, clients: int, plot: Path | None) -> None:
    """Measure pgqueue here, each figure beside its floor.

    It takes some minutes. Without --dsn it runs on a Postgres of its own, whatever the environment
    says: nobody's database is put under load by accident.
    """
    from pgqueue.bench import Plan, command, report  # noqa: PLC0415 - only where it is wanted

    if session.dsn is not None:
        session.find()  # says what is wrong with it
    console = Console(stderr=session.json)
    plan = Plan(scale=scale, rounds=rounds, clients=clients)
    found = command.bench(session.dsn, plan, plot_path=_drawable(plot), console=console)
    if session.json:
        click.echo(report.as_json(found), nl=False)


def _drawable(plot: Path | None) -> Path | None:
    """`plot`, if it can be drawn: rather an error now than after minutes."""
    if plot is None:
        return None
    if plot.suffix not in (".svg", ".png"):
        raise click.BadParameter("the file must end in .svg or .png", param_hint="'--plot'")
    if not os.access(plot.parent, os.W_OK):
        raise click.BadParameter(f"cannot write into {plot.parent}", param_hint="'--plot'")
    try:
        import matplotlib  # noqa: F401, ICN001, PLC0415 - the extra `bench`
    except ModuleNotFoundError as error:
        raise click.UsageError(
            "--plot needs matplotlib; install pgqueue's extra `bench`"
        ) from error
    return plot
