"""`metrics`: serves what waits in the database for Prometheus; and a worker's own metrics."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from pgqueue.cli import params
from pgqueue.cli.command import Command
from pgqueue.cli.report import note
from pgqueue.cli.session import Session, pass_session
from pgqueue.cli.upkeep import until_signal

if TYPE_CHECKING:
    from pgqueue.metrics import MetricsServer

_MISSING = "needs prometheus-client; install pgqueue's extra `metrics`"


@click.command(cls=Command)
@click.option(
    "--port",
    metavar="PORT",
    type=click.IntRange(0, 65_535),
    default=9187,
    show_default=True,
    help="Where; 0 takes a free one.",
)
@click.option(
    "--host",
    metavar="ADDRESS",
    default="0.0.0.0",  # noqa: S104 - a scraper is on another machine
    show_default=True,
    help="The address.",
)
@click.option(
    "--every",
    metavar="DURATION",
    type=params.positive_duration,
    default="15s",
    show_default=True,
    help="Look at the database at most so often.",
)
@click.option(
    "--deadline",
    metavar="DURATION",
    type=params.positive_duration,
    default="5s",
    show_default=True,
    help="Give a look up after so long.",
)
@click.option("--print", "once", is_flag=True, help="Print them once instead, to stdout.")
@pass_session
def metrics(
    session: Session, *, port: int, host: str, every: timedelta, deadline: timedelta, once: bool
) -> None:
    """Serve what waits in the database for Prometheus.

    One of these for a database is enough. It looks when it is scraped, at /metrics, and goes on
    until SIGTERM or Ctrl-C. What workers do they serve themselves: `pgqueue worker --metrics-port`.
    """
    try:
        from pgqueue.metrics import QueueMetrics, serve  # noqa: PLC0415 - the extra `metrics`
        from pgqueue.metrics.server import registry  # noqa: PLC0415
    except ImportError as error:
        raise click.UsageError(f"metrics {_MISSING}") from error
    session.client().schema_state().check()
    looked = QueueMetrics(session.find(), schema=session.schema, every=every, deadline=deadline)
    with contextlib.closing(looked):
        if once:
            from prometheus_client import generate_latest  # noqa: PLC0415

            click.echo(generate_latest(registry([looked])).decode(), nl=False)
            return
        with until_signal() as over:
            served = serve(looked, port=port, host=host)
            note(f"serving metrics at http://{host}:{served.port}/metrics")
            over.wait()
            served.close()


@contextlib.contextmanager
def serving(port: int | None, host: str, processes: int) -> Iterator[list[MetricsServer]]:
    """The server of a worker's metrics, if a port is given; listening before the worker forks."""
    if port is None:
        yield []
        return
    try:
        from pgqueue.metrics import MetricsServer  # noqa: PLC0415 - the extra `metrics`
    except ImportError as error:
        raise click.UsageError(f"--metrics-port {_MISSING}") from error
    server = MetricsServer(port, host=host, processes=processes)
    try:
        note(f"serving metrics at http://{host}:{server.port}/metrics")
        yield [server]
    finally:
        server.close()
