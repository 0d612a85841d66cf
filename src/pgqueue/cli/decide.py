"""`retry`, `redrive` and `cancel`: what to do with jobs that are there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import click

from pgqueue.cli import output, params
from pgqueue.cli.actor import whoami
from pgqueue.cli.bulk import Care, careful, on_all
from pgqueue.cli.command import Command
from pgqueue.cli.exits import Exit
from pgqueue.cli.filters import filtered
from pgqueue.cli.params import COUNT
from pgqueue.cli.session import Session, pass_session
from pgqueue.errors import JobNotFound
from pgqueue.models import JobState
from pgqueue.words import quantity

RETRY_MOST = 1000


@click.command(cls=Command)
@click.argument("ids", type=params.job_id, nargs=-1)
@filtered
@careful
@click.option("--reason", help="Kept in the audit log.")
@pass_session
def retry(
    session: Session,
    ids: Sequence[int],
    *,
    given: dict[str, Any],
    reason: str | None,
    care: Care,
) -> Exit:
    """Run jobs again now, with all their attempts: by id, or all that fit.

    Finished ones of any state come back; waiting ones need not wait any more. Without ids and
    --state, those that are dead.
    """
    if bool(ids) == bool(given) or (ids and care.dry_run):
        raise click.UsageError("give the ids of jobs, or options that choose them, not both")
    if given:
        return on_all(session, "retry", given, reason, care)
    client = session.client()
    with client.driver.transaction() as conn:
        found = client.retry(ids, conn=conn)
        _record(session, "retry", ids, len(found), reason, conn)
    done = dict.fromkeys(found, JobState.READY)
    return _tell(session, ids, done, _retried)


def _record(
    session: Session,
    action: str,
    ids: Sequence[int],
    affected: int,
    reason: str | None,
    conn: Any,  # noqa: ANN401
) -> None:
    detail = None if reason is None else {"reason": reason}
    session.client().operations.record(
        action, job_ids=list(ids), affected=affected, detail=detail, conn=conn, **whoami()
    )


def _retried(state: JobState, done: bool) -> str:  # noqa: FBT001 - a fact about the state
    if done:
        return "runs again"
    if state is JobState.CLAIMED:
        return "is running; it was left alone"
    if state is JobState.READY:
        return "is ready already"
    return f"stays {state}: another job holds its dedupe key"


@click.command(cls=Command)
@click.option("-q", "--queue", help="Only of this queue.")
@click.option("-k", "--kind", help="Only of this kind.")
@click.option(
    "-n",
    "--limit",
    metavar="NUMBER",
    type=COUNT,
    default=RETRY_MOST,
    show_default=True,
    help="The most to run again.",
)
@pass_session
def redrive(session: Session, *, queue: str | None, kind: str | None, limit: int) -> Exit:
    """Run dead jobs again, those dead the longest first."""
    client = session.client()
    with client.driver.transaction() as conn:
        count = client.redrive(queue, kind=kind, limit=limit, conn=conn)
        client.operations.record(
            "redrive", queue=queue, affected=count, detail=None if kind is None else {"kind": kind},
            conn=conn, **whoami(),
        )  # fmt: skip
    text = f"{quantity(count, 'dead job')} will run again" if count else "no dead jobs"
    if count == limit:
        text += "; there may be more: repeat the command"
    output.answer(session.json, {"retried": count}, text)
    return Exit.OK if count else Exit.NEGATIVE


@click.command(cls=Command)
@click.argument("ids", type=params.job_id, nargs=-1)
@filtered
@careful
@click.option("--reason", help="Kept in the jobs' histories, and in the audit log.")
@pass_session
def cancel(
    session: Session,
    ids: Sequence[int],
    *,
    given: dict[str, Any],
    reason: str | None,
    care: Care,
) -> Exit:
    """Cancel jobs, waiting or running: by id, or all that fit.

    Waiting ones end at once, running ones are asked to stop.
    """
    if bool(ids) == bool(given) or (ids and care.dry_run):
        raise click.UsageError("give the ids of jobs, or options that choose them, not both")
    if given:
        # What a reference is about is named exactly, as by ids.
        sure = care if set(given) != {"ref"} else attrs.evolve(care, yes=True)
        return on_all(session, "cancel", given, reason, sure)
    client = session.client()
    with client.driver.transaction() as conn:
        states = client.cancel(ids, reason, conn=conn)
        _record(session, "cancel", ids, len(states), reason, conn)
    return _tell(session, ids, states, _cancelled)


def _cancelled(state: JobState, done: bool) -> str:  # noqa: FBT001 - a fact about the state
    if not done:
        return f"is finished already: {state}"
    return "is running and was asked to stop" if state is JobState.CLAIMED else "is cancelled"


def _tell(
    session: Session,
    ids: Sequence[int],
    done: Mapping[int, JobState],
    words: Callable[[JobState, bool], str],
) -> Exit:
    """One line for each id, and the exit code: NOT_FOUND before NEGATIVE before OK."""
    code = Exit.OK
    for job_id in dict.fromkeys(ids):
        state = done.get(job_id) or _state(session, job_id)
        is_done = job_id in done
        text = f"job {job_id} {words(state, is_done)}" if state else f"there is no job {job_id}"
        output.answer(session.json, {"id": job_id, "done": is_done, "state": state}, text)
        if state is None:
            code = Exit.NOT_FOUND
        elif not is_done and code is Exit.OK:
            code = Exit.NEGATIVE
    return code


def _state(session: Session, job_id: int) -> JobState | None:
    client = session.client()
    try:
        return client.driver.run(client.statements.state(job_id))
    except JobNotFound:
        return None
