"""The command `pgqueue`, put together."""

from __future__ import annotations

import io
import os
import platform
import sys
from pathlib import Path

import click
import psycopg

import pgqueue
from pgqueue.cli.bench import bench
from pgqueue.cli.command import App, help_instead
from pgqueue.cli.cron import cron
from pgqueue.cli.dashboard import dashboard, dashboard_user
from pgqueue.cli.decide import cancel, redrive, retry
from pgqueue.cli.demo import demo
from pgqueue.cli.doctor import doctor
from pgqueue.cli.enqueue import enqueue
from pgqueue.cli.exits import Exit
from pgqueue.cli.job import job
from pgqueue.cli.jobs import jobs
from pgqueue.cli.metrics import metrics
from pgqueue.cli.operate import audit, edit, history
from pgqueue.cli.queues import pause, purge, resume, stats
from pgqueue.cli.run import run as run_one
from pgqueue.cli.schedule import schedule
from pgqueue.cli.scheduler import scheduler
from pgqueue.cli.schedules import schedules
from pgqueue.cli.schema import grant, migrate
from pgqueue.cli.server import server
from pgqueue.cli.top import top
from pgqueue.cli.transfer import export, import_, take_over_
from pgqueue.cli.upkeep import maintain
from pgqueue.cli.watch import watch
from pgqueue.cli.why import why
from pgqueue.cli.worker import worker
from pgqueue.cli.workers import workers

THEMES: dict[str, tuple[click.Command, ...]] = {
    "The schema": (migrate, grant),
    "Jobs": (enqueue, jobs, job, why, edit, run_one, retry, redrive, cancel),
    "Queues": (stats, history, pause, resume, purge, audit),
    "Move": (export, import_, take_over_),
    "Schedules": (schedules, schedule),
    "Run": (worker, scheduler, maintain, cron),
    "Look": (dashboard, dashboard_user, doctor, top, workers, metrics, watch),
    "Try": (server, demo, bench),
}


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
    if value:
        click.echo(
            f"pgqueue {pgqueue.__version__} (Python {platform.python_version()}, "
            f"psycopg {psycopg.__version__} {psycopg.pq.__impl__})"
        )
        ctx.exit()


@click.group(
    cls=App,
    themes={theme: tuple(c.name or "" for c in commands) for theme, commands in THEMES.items()},
    commands=[command for commands in THEMES.values() for command in commands],
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False,
    callback=_print_version, help="Print the version.",
)  # fmt: skip
@click.pass_context
def app(ctx: click.Context) -> Exit | None:
    """A job queue on Postgres.

    Common options may stand before or after the command.
    """
    return help_instead(ctx)


def _open_streams() -> None:
    """Has something to read from and write to where the shell closed it, as `>&-` does.

    Else the connection to the database could become the file that output is sent to.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 - to the end
            setattr(sys, name, stream)


def run() -> int:
    """Runs the command line of this process and returns its exit code."""
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # data may have what the encoding lacks
    return app.run(sys.argv[1:])
