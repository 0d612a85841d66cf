"""Workers that come back after their leases: what they still say must change nothing.

Some are real: processes that are stopped (SIGSTOP) in the middle of jobs until others have done
those, and then go on. The many are clients that hold claims which ran out, and try every end of a
claim that there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, TypeAlias

import attrs
from tests.faults.harness.app import work
from tests.faults.harness.database import holders, rows, unfinished
from tests.faults.harness.ledger import Ledger, audit
from tests.faults.harness.report import Report
from tests.faults.harness.run import Run
from tests.faults.harness.waiting import until
from tests.faults.harness.workers import Workers

from pgqueue import AsyncClient, Client, Constant, Job, LeaseLost, NewJob

MOMENT = timedelta(milliseconds=1)
HOUR = timedelta(hours=1)

Jobs: TypeAlias = Sequence[Job[Any]]

ENDS: Mapping[str, Callable[[Any, Jobs], Any]] = {
    "ack": lambda client, jobs: client.ack(jobs),
    "fail": lambda client, jobs: client.fail(jobs, "late"),
    "extend": lambda client, jobs: client.extend(jobs, HOUR),
    "snooze": lambda client, jobs: client.snooze(jobs, HOUR),
    "release": lambda client, jobs: client.release(jobs),
    "skip": lambda client, jobs: client.skip(jobs),
    "cancel_claimed": lambda client, jobs: client.cancel_claimed(jobs),
}
"""What the holder of a claim can do with it, by a sync or an async client."""


@attrs.define
class Stale:
    """What stale claims tried."""

    tried: int = 0
    """Once for each job and call."""
    accepted: int = 0
    """Not named in a LeaseLost."""
    changed: int = 0
    """Rows that are not what they were before; must be none."""


def run(run: Run) -> Report:
    """Stops processes, then tries with stale clients; both must leave no trace."""
    dsn, ledger = run.dsn(), Ledger(run.folder)
    with Client(dsn) as client:
        stopped, refused = _stop_and_go_on(run, client, ledger)
        stale = _try_stale_claims(run, client, ledger)
    report = audit(dsn, ledger)
    report.faults = stopped + stale.tried
    report.notes.append(
        f"{stopped} processes were stopped past their leases, and {refused} claims that they "
        f"still held were refused; {stale.tried} stale calls by clients"
    )
    report.promise("stale calls accepted", stale.accepted, 0)
    report.promise("rows changed by them", stale.changed, 0)
    return report


# Processes

CREW, VICTIMS, CONCURRENCY = 4, 2, 2
LEASE = 1.0
LONG_MS = 400


def _stop_and_go_on(run: Run, client: Client, ledger: Ledger) -> tuple[int, int]:
    """How many processes were stopped, and how many attempts were refused when they went on."""
    rounds = run.count(1, 20)
    options = {"lease": LEASE, "concurrency": CONCURRENCY, "prefetch": 0}
    with Workers(run.folder, client.dsn, ledger, options) as workers:
        for _ in range(CREW):
            workers.start()
        for number in range(rounds):
            _one_round(run, client, workers)
            run.tell(number + 1, 2 * rounds)
        codes = workers.end()
        if any(codes):
            raise AssertionError(f"workers ended with {codes}")
    return rounds * VICTIMS, len(ledger.read().claims("refused"))


def _one_round(run: Run, client: Client, workers: Workers) -> None:
    ledger = workers.ledger
    jobs = [work(LONG_MS)] * (CREW * CONCURRENCY * 4)
    ledger.accepted(client.enqueue_many(jobs).ids)
    until(lambda: len(holders(client)) == CREW, "all workers hold jobs")
    victims = run.rng.sample(workers.living, VICTIMS)
    for victim in victims:
        victim.stop()
    pids = {victim.pid for victim in victims}
    begun = ledger.read().underway(pids)
    until(lambda: unfinished(client) == 0, "others have done what the stopped ones held")
    for victim in victims:
        victim.resume()
    until(lambda: not ledger.read().underway(pids), "those that went on have heard of it")
    if not begun & ledger.read().claims("refused"):
        raise AssertionError("the processes were stopped between their jobs")


# Clients


def _try_stale_claims(run: Run, client: Client, ledger: Ledger) -> Stale:
    """Everything that a stale claim can try, while its job waits, runs again, and is over."""
    total = Stale()
    rounds = run.count(1, 3)
    for number in range(rounds):
        stale = enqueue_and_let_expire(client, run.count(8, 80))
        ledger.accepted(job.id for job in stale)
        _try(run, client, stale, total)
        again = claim_again(client, len(stale))
        for job in again:
            ledger.started(job)
        _try(run, client, stale, total)
        for job in again:
            ledger.finished(job)
        client.ack(again)
        for job in again:
            ledger.acked(job.id, job.token)
        _try(run, client, stale, total)
        run.tell(rounds + number + 1, 2 * rounds)
    return total


def _try(run: Run, client: Client, stale: Jobs, total: Stale) -> None:
    sizes = run.rng.choices((1, 2, 20), k=len(stale))
    tried = try_every_end(client, stale, sizes)
    total.tried += tried.tried
    total.accepted += tried.accepted
    total.changed += tried.changed


def enqueue_and_let_expire(client: Client, count: int) -> list[Job[Any]]:
    """New jobs as they were claimed once; by now they wait for their next attempt."""
    client.enqueue_many([NewJob("stale", retry=Constant(MOMENT))] * count)
    jobs = client.claim(kinds=["stale"], limit=count, lease=MOMENT)

    def none_held() -> bool:
        rows(client, "select pgqueue.reap()")
        return not rows(client, "select from pgqueue.job where lease_until is not null")

    until(none_held, "all claims have expired")
    return jobs


def claim_again(client: Client, count: int) -> list[Job[Any]]:
    """Their next claims, with leases that hold."""
    found: list[Job[Any]] = []

    def claim() -> bool:
        rows(client, "select pgqueue.promote()")
        found.extend(client.claim(kinds=["stale"], limit=count, lease=HOUR))
        return len(found) == count

    until(claim, "all jobs that expired were claimed again")
    return found


def try_every_end(client: Client, stale: Jobs, sizes: Sequence[int]) -> Stale:
    """Tries each end by a sync and an async client, with so many jobs in each call."""
    before = _rows_of(client, stale)
    outcome = Stale()
    batches = _batches(stale, sizes)
    for end in ENDS.values():
        for batch in batches:
            outcome.accepted += _accepted(batch, partial(end, client, batch))
            outcome.tried += len(batch)
    asyncio.run(_try_async(client.dsn, batches, outcome))
    after = _rows_of(client, stale)
    outcome.changed = len(before.symmetric_difference(after))
    return outcome


async def _try_async(dsn: str, batches: Sequence[Jobs], outcome: Stale) -> None:
    async with AsyncClient(dsn) as client:
        for end in ENDS.values():
            for batch in batches:
                outcome.accepted += await _accepted_async(batch, end(client, batch))
                outcome.tried += len(batch)


def _accepted(jobs: Jobs, call: Callable[[], object]) -> int:
    try:
        call()
    except LeaseLost as lost:
        return len({job.id for job in jobs} - set(lost.job_ids))
    return len(jobs)


async def _accepted_async(jobs: Jobs, call: Awaitable[object]) -> int:
    try:
        await call
    except LeaseLost as lost:
        return len({job.id for job in jobs} - set(lost.job_ids))
    return len(jobs)


def _batches(jobs: Jobs, sizes: Sequence[int]) -> list[Jobs]:
    batches: list[Jobs] = []
    rest = list(jobs)
    for size in sizes:
        if rest:
            batches.append(rest[:size])
            rest = rest[size:]
    return batches


def _rows_of(client: Client, jobs: Jobs) -> set[tuple[Any, ...]]:
    """The jobs' rows, whole, wherever they are."""
    ids = [job.id for job in jobs]
    return {
        *rows(client, "select j::text from pgqueue.job j where j.id = any (%s)", ids),
        *rows(client, "select a::text from pgqueue.archive a where a.id = any (%s)", ids),
    }
