"""`why`: what holds a job, a queue, a dedupe key or a schedule, and what to do."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import attrs
import click
from rich.text import Text

from pgqueue.cli import output
from pgqueue.cli.command import Command
from pgqueue.cli.exits import Exit
from pgqueue.cli.params import job_id
from pgqueue.cli.session import Session, pass_session
from pgqueue.cli.times import Clock
from pgqueue.client import Client
from pgqueue.why import Explanation, Gate, GateCode, GateLevel

COLUMNS = (output.Column("GATE"), output.Column("STATE"), output.Column("OPENS"))
_STYLES = {GateLevel.FINE: "green", GateLevel.WAITS: "yellow", GateLevel.BLOCKED: "bold red"}


@click.command(cls=Command)
@click.argument("job", type=job_id, required=False)
@click.option("-q", "--queue", help="Ask about a queue; with --dedupe-key: only of this queue.")
@click.option("--dedupe-key", help="Ask which job holds this key.")
@click.option("-k", "--kind", help="With --dedupe-key: the kind whose key it is.")
@click.option("--schedule", help="Ask about a schedule.")
@pass_session
def why(
    session: Session,
    *,
    job: int | None,
    queue: str | None,
    dedupe_key: str | None,
    kind: str | None,
    schedule: str | None,
) -> Exit:
    """Say why a job does not run: what holds it now, what comes next, and what to do.

    The exit code is 1 if somebody has to act before it runs, and 6 if there is no such job.
    """
    found = _ask(session.client(), job, queue, dedupe_key, kind, schedule)
    if session.json:
        output.json_line(_json(found))
    else:
        _show(found, Clock(found.at, session.utc))
    if found.gate.code is GateCode.NO_RIGHTS:
        return Exit.PERMISSION
    if not found.found:
        return Exit.NOT_FOUND
    return Exit.NEGATIVE if found.level is GateLevel.BLOCKED else Exit.OK


def _ask(
    client: Client,
    job: int | None,
    queue: str | None,
    dedupe_key: str | None,
    kind: str | None,
    schedule: str | None,
) -> Explanation:
    asked = [job, dedupe_key, schedule, None if dedupe_key is not None else queue]
    if sum(what is not None for what in asked) != 1:
        raise click.UsageError("ask about one: JOB, --queue, --dedupe-key or --schedule")
    if kind is not None and dedupe_key is None:
        raise click.UsageError("--kind goes with --dedupe-key")
    if job is not None:
        return client.why(job)
    if dedupe_key is not None:
        return client.why_key(dedupe_key, kind=kind, queue=queue)
    if schedule is not None:
        return client.why_schedule(schedule)
    return client.why_queue(queue or "")


def _json(found: Explanation) -> dict[str, Any]:
    told = attrs.asdict(found, recurse=False)
    gates = told.pop("gates")
    return {**told, "level": found.level, "sentence": found.sentence, "gates": list(gates)}


def _show(found: Explanation, clock: Clock) -> None:
    style = _STYLES[found.gate.level]
    output.hang(Text(""), Text(f"{_subject(found)}: {found.sentence}", style=style))
    click.echo()
    output.table(COLUMNS, [_row(gate, clock) for gate in found.gates])
    for gate in found.gates[1:]:
        click.echo()
        output.hang(Text(f"{gate.code}: ", style="bold"), Text(gate.sentence))
    if any(gate.action for gate in found.gates):
        click.echo()
        output.hang(Text(""), Text("What to do", style="bold"))
    for gate in found.gates:
        if gate.action:
            output.hang(Text("  -> ", style="dim"), Text(gate.action))


def _subject(found: Explanation) -> str:
    if found.subject != "job":
        return f"{found.subject.capitalize()} {found.name}"
    about = [str(found.state)] if found.state is not None else []
    about += [found.kind] if found.kind is not None else []
    return f"Job {found.name}" + (f" ({', '.join(about)})" if about else "")


def _row(gate: Gate, clock: Clock) -> tuple[output.Cell, ...]:
    return (
        str(gate.code),
        Text(str(gate.level), style=_STYLES[gate.level]),
        "" if gate.opens_at is None else _opens(gate.opens_at, clock, estimated=gate.estimated),
    )


def _opens(moment: datetime, clock: Clock, *, estimated: bool) -> str:
    about = "about " if estimated else ""
    in_full = moment.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
    if clock.utc:
        return about + in_full
    return f"{about}{clock.when(moment)}, {in_full}"
