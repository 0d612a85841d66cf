"""`worker`: runs jobs until it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import click

from pgqueue.cli import params
from pgqueue.cli.command import Command
from pgqueue.cli.load import load, load_handlers
from pgqueue.cli.metrics import serving
from pgqueue.cli.report import note
from pgqueue.cli.session import Session, pass_session
from pgqueue.events import Observer
from pgqueue.handlers import Handlers
from pgqueue.worker import Worker

_SOME = click.IntRange(min=1)


@click.command(cls=Command)
@click.argument("handlers", metavar="MODULE[:NAME]")
@click.option(
    "-q",
    "--queue",
    "queues",
    multiple=True,
    metavar="QUEUE[=WEIGHT]",
    type=params.weighted_queue,
    help="A queue to serve; may be repeated. mail=3 is looked at first three times as often as one "
    "of weight 1.  [default: those of the handlers]",
)
@click.option(
    "-c",
    "--concurrency",
    metavar="NUMBER",
    type=_SOME,
    default=20,
    show_default=True,
    help="Jobs at a time, in each process.",
)
@click.option(
    "--processes",
    metavar="NUMBER",
    type=_SOME,
    default=1,
    show_default=True,
    help="Processes; more than one for handlers that compute in Python.",
)
@click.option(
    "--lease",
    metavar="DURATION",
    type=params.positive_duration,
    default="30s",
    show_default=True,
    help="If this worker dies, its jobs run elsewhere after so long.",
)
@click.option(
    "--prefetch",
    metavar="NUMBER",
    type=click.IntRange(min=0),
    help="Jobs to hold ready beyond those that run.  [default: 0.1s of work]",
)
@click.option(
    "--poll-interval",
    metavar="DURATION",
    type=params.positive_duration,
    default="1s",
    show_default=True,
    help="Look for jobs at least so often.",
)
@click.option(
    "--shutdown-timeout",
    metavar="DURATION",
    type=params.duration,
    default="30s",
    show_default=True,
    help="On SIGTERM or Ctrl-C: end within so long.",
)
@click.option(
    "--watchdog",
    metavar="DURATION",
    type=params.positive_duration,
    help="End this process when claiming has not moved for so long, so that another can be "
    "started: 2m.  [default: never]",
)
@click.option("--name", help="The start of the worker's name.  [default: the host's]")
@click.option(
    "--uvloop",
    "on_uvloop",
    is_flag=True,
    help="Run on uvloop's event loop instead of asyncio's own (extra `uvloop`).",
)
@click.option(
    "--observer",
    "observers",
    multiple=True,
    metavar="MODULE:NAME",
    help="A pgqueue.Observer of a Python module, such as alerts; may be repeated.",
)
@click.option(
    "--metrics-port",
    metavar="PORT",
    type=click.IntRange(0, 65_535),
    help="Serve metrics of all processes for Prometheus there, at /metrics (extra `metrics`).",
)
@click.option(
    "--metrics-host",
    metavar="ADDRESS",
    default="0.0.0.0",  # noqa: S104 - a scraper is on another machine
    show_default=True,
    help="The address for them.",
)
@click.option("--drain", is_flag=True, help="End when no job is ready.")
@pass_session
def worker(
    session: Session,
    handlers: str,
    *,
    queues: tuple[tuple[str, float], ...],
    concurrency: int,
    processes: int,
    lease: timedelta,
    prefetch: int | None,
    poll_interval: timedelta,
    shutdown_timeout: timedelta,
    watchdog: timedelta | None,
    name: str | None,
    on_uvloop: bool,
    observers: tuple[str, ...],
    metrics_port: int | None,
    metrics_host: str,
    drain: bool,
) -> int:
    """Run jobs with the handlers of a Python module.

    MODULE[:NAME] is where the pgqueue.Handlers are, such as app.jobs:handlers. Only jobs of the
    kinds that they know are claimed. It goes on until SIGTERM or Ctrl-C; a second one hurries it.
    """
    loop_factory = _uvloop() if on_uvloop else None
    found = load_handlers(handlers)
    weights = dict(queues) or dict.fromkeys(sorted({k.queue for k in found.kinds}), 1.0)
    watching: list[Observer] = [load(reference, Observer, "observer") for reference in observers]
    # No client: the worker may fork, and a connection must not be made before.
    with serving(metrics_port, metrics_host, processes) as served:
        made = Worker(
            session.find(),
            found,
            schema=session.schema,
            queues=weights,
            concurrency=concurrency,
            prefetch=prefetch,
            lease=lease,
            processes=processes,
            poll_interval=poll_interval,
            shutdown_timeout=shutdown_timeout,
            watchdog=watchdog,
            name=name,
            observers=[*watching, *served],
        )
        note(_greeting(found, weights))
        return made.run(until_idle=drain, loop_factory=loop_factory)


def _uvloop() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop  # noqa: PLC0415 - the extra `uvloop`
    except ImportError as error:
        raise click.UsageError("--uvloop needs uvloop; install pgqueue's extra `uvloop`") from error
    return uvloop.new_event_loop


def _greeting(handlers: Handlers, weights: dict[str, float]) -> str:
    queues = ", ".join(
        name if weight == 1 else f"{name}={weight:g}" for name, weight in weights.items()
    )
    kinds = ", ".join(sorted(kind.name for kind in handlers.kinds))
    return f"serving {queues}; kinds {kinds}"
