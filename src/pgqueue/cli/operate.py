"""`edit`, `audit` and `history`: single jobs, who did what, and what happened when."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import click

from pgqueue.cli import output, params
from pgqueue.cli.actor import whoami
from pgqueue.cli.command import Command
from pgqueue.cli.params import COUNT, job_id
from pgqueue.cli.session import Session, pass_session
from pgqueue.cli.times import Clock
from pgqueue.operations import AuditEntry, Histogram, Minute, total
from pgqueue.words import span

AUDIT = (
    output.Column("WHEN"),
    output.Column("WHO", cut=True),
    output.Column("VIA"),
    output.Column("DID"),
    output.Column("JOBS", number=True),
    output.Column("TO WHAT", cut=True),
)
HISTORY = (
    output.Column("DONE"),
    output.Column("ENQUEUED", number=True),
    output.Column("STARTED", number=True),
    output.Column("SUCCEEDED", number=True),
    output.Column("FAILED", number=True),
    output.Column("DEAD", number=True),
    output.Column("WAIT p50/p99"),
    output.Column("RUN p50/p99"),
    output.Column("READY", number=True),
    output.Column("OLDEST", number=True),
)
_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 30
"""Bars of a sparkline."""


@click.command(cls=Command)
@click.argument("id", type=job_id)
@click.option(
    "--run-at",
    metavar="TIME|DURATION",
    type=params.moment_or_duration,
    help="Its earliest start: a time, or in 2h; 0s is now.",
)
@click.option("--priority", metavar="0-9", type=click.IntRange(0, 9), help="0 runs first.")
@pass_session
def edit(
    session: Session,
    id: int,  # noqa: A002 - the argument's name in the help
    *,
    run_at: datetime | timedelta | None,
    priority: int | None,
) -> None:
    """Change when a waiting job runs, or its priority."""
    if run_at is None and priority is None:
        raise click.UsageError("pass --run-at, --priority, or both")
    if isinstance(run_at, timedelta):
        run_at = session.clock() + run_at
    state = session.client().operations.edit(id, run_at=run_at, priority=priority, **whoami())
    output.answer(session.json, {"id": id, "state": state}, f"job {id} is {state}")


@click.command(cls=Command)
@click.option("--actor", help="Only by this person.")
@click.option("--action", help="Only this: retry, cancel, pause and so on.")
@click.option("--before", type=job_id, metavar="ID", help="Only older entries: the next page.")
@click.option(
    "-n", "--limit", metavar="NUMBER", type=COUNT, default=50, show_default=True,
    help="The most to list.",
)  # fmt: skip
@pass_session
def audit(
    session: Session, *, actor: str | None, action: str | None, before: int | None, limit: int
) -> None:
    """List what operators did, the latest first."""
    found = session.client().operations.audit(
        actor=actor, action=action, before=before, limit=limit
    )
    if session.json:
        for entry in found:
            output.json_line(entry)
        return
    if not found:
        output.say("nothing was done")
        return
    clock = Clock(session.clock(), session.utc)
    output.table(AUDIT, [_audit_row(entry, clock) for entry in found])


def _audit_row(entry: AuditEntry, clock: Clock) -> tuple[output.Cell, ...]:
    what = []
    if entry.queue is not None:
        what.append(f"queue {entry.queue}")
    if entry.job_ids:
        what.append(" ".join(map(str, entry.job_ids[:5])) + " ..." * (len(entry.job_ids) > 5))  # noqa: PLR2004 - enough
    if entry.filter is not None:
        what.append(json.dumps(entry.filter, ensure_ascii=False))
    if entry.detail:
        what.append(", ".join(f"{name} {value}" for name, value in entry.detail.items()))
    return (
        clock.when(entry.at), entry.actor, entry.via, entry.action, f"{entry.affected:,}",
        "; ".join(what),
    )  # fmt: skip


@click.command(cls=Command)
@click.option("-q", "--queue", help="Only of this queue, with a line for each interval.")
@click.option(
    "--since", metavar="TIME|DURATION", type=params.moment_or_duration, default="1h",
    show_default=True, help="From when on: a time, or so long ago.",
)  # fmt: skip
@click.option(
    "--every", metavar="DURATION", type=params.positive_duration, default="1m", show_default=True,
    help="Put minutes together in intervals.",
)  # fmt: skip
@pass_session
def history(
    session: Session, *, queue: str | None, since: datetime | timedelta, every: timedelta
) -> None:
    """Show what happened, by queue: counts, waits, run times, and what was left waiting."""
    found = session.client().operations.history(queue, since=since, every=every)
    if session.json:
        for minute in found:
            output.json_line(_json(minute))
        return
    if not found:
        output.say("nothing happened, or no upkeep was there to count it")
        return
    if queue is not None:
        when = output.Column("FROM")
        clock = Clock(session.clock(), session.utc)
        rows = [(clock.when(each.start), *_row(each, _share(each, found))) for each in found]
        output.table((when, *HISTORY), rows)
        return
    by_queue: dict[str, list[Minute]] = {}
    for minute in found:
        by_queue.setdefault(minute.queue, []).append(minute)
    starts = sorted({minute.start for minute in found})
    table = []
    for name, minutes in sorted(by_queue.items()):
        whole = total(minutes)
        assert whole is not None  # noqa: S101 - there are some
        done = {minute.start: minute.finished for minute in minutes}
        table.append((name, *_row(whole, sparkline([done.get(start, 0) for start in starts]))))
    output.table((output.Column("QUEUE", cut=True), *HISTORY), table)


def _row(minute: Minute, bars: str) -> tuple[output.Cell, ...]:
    return (
        bars,
        f"{minute.enqueued:,}",
        f"{minute.started:,}",
        f"{minute.succeeded:,}",
        f"{minute.failed:,}",
        output.alarm(f"{minute.dead:,}") if minute.dead else "0",
        _quantiles(minute.wait),
        _quantiles(minute.run),
        "" if minute.ready is None else f"{minute.ready:,}",
        "" if minute.oldest_wait is None else span(minute.oldest_wait),
    )


def _quantiles(histogram: Histogram) -> str:
    p50, p99 = histogram.p50, histogram.p99
    return "" if p50 is None or p99 is None else f"{span(p50)}/{span(p99)}"


def _share(minute: Minute, among: list[Minute]) -> str:
    most = max(each.finished for each in among)
    if not most:
        return ""
    return _bars()[-1] * round(10 * minute.finished / most)


def _bars() -> str:
    encoding = (output.terminal().encoding or "").lower()
    return _BARS if encoding.startswith("utf") else " .:-=+*#"


def sparkline(counts: list[int]) -> str:
    """Bars, of as many counts together as make at most thirty; the highest is full."""
    bars = _bars()
    size = -(-len(counts) // _WIDTH)
    sums = [sum(counts[at : at + size]) for at in range(0, len(counts), size)]
    most = max(sums) or 1
    return "".join(bars[-(-count * (len(bars) - 1) // most)] for count in sums)


def _json(minute: Minute) -> dict[str, Any]:
    counted = (
        "queue", "start", "enqueued", "started", "succeeded", "failed", "dead", "cancelled",
        "skipped", "ready", "scheduled", "claimed",
    )  # fmt: skip
    found = {name: getattr(minute, name) for name in counted}
    found["oldest_wait_seconds"] = minute.oldest_wait
    for name, histogram in (("wait", minute.wait), ("run", minute.run)):
        found[f"{name}_p50_seconds"] = histogram.p50
        found[f"{name}_p99_seconds"] = histogram.p99
    return found
