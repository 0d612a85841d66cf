"""`top`: queues, workers and deaths, as they change."""

from __future__ import annotations

import contextlib
import select
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import attrs
import click
from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pgqueue.cli import output, params
from pgqueue.cli.command import Command
from pgqueue.cli.report import note, printable
from pgqueue.cli.session import Session, pass_session
from pgqueue.cli.times import Clock
from pgqueue.errors import DatabaseUnavailable
from pgqueue.models import JobState, JobSummary, QueueStats
from pgqueue.operations import JobFilter, Minute, Pause
from pgqueue.registry import WorkerState
from pgqueue.words import quantity, span

SHARE = 9
"""A look that took so long is repeated after so many times that: counting takes a tenth at most."""
WIDE = 110
"""Columns of a terminal that has room for times and bars, too."""
SPARKED = 30
"""Minutes whose finished jobs are drawn."""
_BARS = " ▁▂▃▄▅▆▇█"
_FOREVER = 9999


@attrs.frozen
class Sight:
    """What there is to see at one moment."""

    at: datetime
    database: str
    queues: Sequence[QueueStats]
    minutes: Sequence[Minute]
    """Of all queues, the last half hour."""
    workers: Sequence[WorkerState]
    dead: Sequence[JobSummary]
    """The latest."""
    paused: Pause | None


@click.command(cls=Command)
@click.option(
    "--every", metavar="DURATION", type=params.positive_duration, default="2s",
    help="Look so often, or less often where a look takes long. [default: 2s]",
)  # fmt: skip
@click.option("--once", is_flag=True, help="Print what there is now, and end.")
@pass_session
def top(session: Session, *, every: timedelta, once: bool) -> None:
    """Watch queues, workers and the latest deaths; q or Ctrl-C ends it.

    Where there is no terminal it prints once, with --json one object for each look.
    """
    session.client().schema_state().check()
    console = output.terminal()
    if session.json:
        for sight in _sights(session, every, once=once):
            output.json_line(_json(sight))
    elif once or not console.is_terminal:
        console.print(_shown(look(session), console, session.utc), soft_wrap=True)
    else:
        with _keys(), Live(console=console, screen=True, auto_refresh=False) as live:
            for sight in _sights(session, every, once=False):
                live.update(_shown(sight, console, session.utc), refresh=True)


def look(session: Session) -> Sight:
    """One look at everything, by one client."""
    client = session.client()
    now = session.clock()
    return Sight(
        now,
        session.value("select current_database()"),
        client.stats(),
        client.operations.history(since=timedelta(minutes=SPARKED)),
        client.workers(),
        client.operations.search(JobFilter(state=JobState.DEAD), limit=5).jobs,
        client.operations.paused(),
    )


def _sights(session: Session, every: timedelta, *, once: bool) -> Iterator[Sight]:
    while True:
        began = time.monotonic()
        try:
            yield look(session)
        except DatabaseUnavailable as error:
            if once:
                raise
            note(f"{error}; trying again")
        took = time.monotonic() - began
        if once or _quits(max(every.total_seconds() - took, SHARE * took)):
            return


def _quits(seconds: float) -> bool:
    """Waits; whether q was pressed meanwhile."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if not sys.stdin.isatty():
            time.sleep(left)
        elif select.select([sys.stdin], [], [], left)[0] and sys.stdin.read(1) in ("q", "Q", ""):
            return True
    return False


@contextlib.contextmanager
def _keys() -> Iterator[None]:
    """Keys are read one by one, without the return key, and Ctrl-C is the end and no error."""
    import termios  # noqa: PLC0415 - not on Windows
    import tty  # noqa: PLC0415

    descriptor = sys.stdin.fileno() if sys.stdin.isatty() else None
    before = None if descriptor is None else termios.tcgetattr(descriptor)
    try:
        if descriptor is not None:
            tty.setcbreak(descriptor)
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        if descriptor is not None and before is not None:
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


# What is shown


def _shown(sight: Sight, console: Console, utc: bool) -> Group:  # noqa: FBT001 - the session's flag
    clock = Clock(sight.at, utc)
    parts: list[Text | Table] = [_title(sight)]
    if sight.paused is not None:
        parts.append(_pause(sight.paused, clock))
    parts += [_queues(sight, clock, console.width), Text(), _workers(sight, clock)]
    if sight.dead:
        parts += [Text(), _dead(sight.dead, clock)]
    return Group(*parts)


def _title(sight: Sight) -> Text:
    ready = sum(queue.ready for queue in sight.queues)
    running = sum(queue.claimed for queue in sight.queues)
    dead = sum(queue.dead for queue in sight.queues)
    alive = sum(worker.alive for worker in sight.workers)
    title = Text.assemble(
        ("pgqueue ", "bold"),
        f"{sight.database}  {output.iso(sight.at)[11:19]} UTC   ",
        f"{ready:,} ready  {running:,} running  ",
        (f"{dead:,} dead", "bold red" if dead else ""),
        f"  {quantity(alive, 'worker')}",
    )
    return title.append("\n")


def _pause(pause: Pause, clock: Clock) -> Text:
    until = (
        "until it is resumed" if pause.until.year >= _FOREVER else f"ends {clock.when(pause.until)}"
    )
    reason = f": {printable(pause.reason)}" if pause.reason else ""
    return Text(f"ALL IS PAUSED since {clock.when(pause.since)}, {until}{reason}\n", "bold yellow")


def _queues(sight: Sight, clock: Clock, width: int) -> Table:
    wide = width >= WIDE
    table = _table("QUEUE", ">READY", ">SCHEDULED", ">RUNNING", ">DEAD", ">OLDEST", ">DONE/S")
    if wide:
        for name in (">WAIT P50", ">P99", f"LAST {SPARKED}M"):
            _column(table, name)
    by_queue: dict[str, list[Minute]] = {}
    for minute in sight.minutes:
        by_queue.setdefault(minute.queue, []).append(minute)
    for queue in sight.queues:
        minutes = by_queue.get(queue.queue, [])
        cells = [_name(queue, clock), *_counts(queue), _rate(minutes, sight.at)]
        table.add_row(*cells, *(_figures(minutes, sight.at) if wide else ()))
    return table


def _name(queue: QueueStats, clock: Clock) -> Text:
    name = Text(printable(queue.queue))
    if (until := queue.paused_until) is not None:
        ends = "" if until.year >= _FOREVER else f", ends {clock.when(until)}"
        name.append(f" paused{ends}", "yellow")
    return name


def _counts(queue: QueueStats) -> list[Text | str]:
    return [
        f"{queue.ready:,}",
        f"{queue.scheduled:,}",
        Text(f"{queue.claimed:,}", "green" if queue.claimed else ""),
        output.alarm(f"{queue.dead:,}") if queue.dead else "0",
        "" if queue.oldest_wait is None else span(queue.oldest_wait),
    ]


def _rate(minutes: Sequence[Minute], now: datetime) -> str:
    """Jobs that ended, a second, in the last whole minute that was counted."""
    last = [m for m in minutes if now - m.start < timedelta(minutes=3)]
    return f"{last[-1].finished / 60:,.1f}" if last else ""


def _figures(minutes: Sequence[Minute], now: datetime) -> tuple[str, str, str]:
    recent = [m for m in minutes if now - m.start < timedelta(minutes=6)]
    wait = sum((m.wait for m in recent[1:]), recent[0].wait) if recent else None
    shares = () if wait is None else (wait.p50, wait.p99)
    p50, p99 = (*("" if share is None else span(share) for share in shares), "", "")[:2]
    return p50, p99, _spark(minutes, now)


def _spark(minutes: Sequence[Minute], now: datetime) -> str:
    """A bar for each minute, of the jobs that ended in it; the latest stands last."""
    counts = [0] * SPARKED
    for minute in minutes:
        ago = int((now - minute.start).total_seconds() // 60)
        if 0 < ago <= SPARKED:
            counts[SPARKED - ago] = minute.finished
    most = max(counts) or 1
    return "".join(_BARS[-(-count * (len(_BARS) - 1) // most)] for count in counts)


def _workers(sight: Sight, clock: Clock) -> Table:
    table = _table("WORKER", "STARTED", "BEAT", ">RUNNING", "RUNS NOW")
    for worker in sight.workers:
        beat = f"{span(worker.silent)} ago"
        silent = Text(beat, "" if worker.alive else "bold red")
        running = "" if worker.scheduler else f"{worker.running}/{worker.concurrency}"
        held = ", ".join(f"{job.kind} {span(sight.at - job.claimed_at)}" for job in worker.jobs[:3])
        runs = "fires schedules" if worker.scheduler else printable(held)
        started = clock.when(worker.started_at)
        table.add_row(printable(worker.id), started, silent, running, runs)
    if not sight.workers:
        table.add_row(Text("no worker says that it lives", "dim"))
    return table


def _dead(dead: Sequence[JobSummary], clock: Clock) -> Table:
    table = _table("LATEST DEAD", "QUEUE", "KIND", "WHEN", "SEE")
    for job in dead:
        when = "" if job.finished_at is None else clock.when(job.finished_at)
        table.add_row(str(job.id), job.queue, job.kind, when, Text(f"pgqueue why {job.id}", "dim"))
    return table


def _table(*names: str) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0), expand=False
    )
    for name in names:
        _column(table, name)
    return table


def _column(table: Table, name: str) -> None:
    """One whose name begins with > holds numbers."""
    right = name.startswith(">")
    table.add_column(
        name.removeprefix(">"), justify="right" if right else "left", no_wrap=True,
        overflow="ellipsis", header_style="bold",
    )  # fmt: skip


def _json(sight: Sight) -> dict[str, object]:
    return {
        "at": sight.at,
        "database": sight.database,
        "paused": sight.paused,
        "queues": [attrs.asdict(queue, recurse=False) for queue in sight.queues],
        "workers": [
            {"id": w.id, "alive": w.alive, "running": w.running, "concurrency": w.concurrency}
            for w in sight.workers
        ],
        "dead": [{"id": job.id, "queue": job.queue, "kind": job.kind} for job in sight.dead],
    }
