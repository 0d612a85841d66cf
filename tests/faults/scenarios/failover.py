"""The primary goes, and its standby is promoted, again and again, under load.

Synchronous: what was accepted is on the standby, so nothing may be lost. Asynchronous: what the
standby had not received is lost, as it would be in any table; it is counted.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs
from tests.faults.harness.database import rows, unfinished
from tests.faults.harness.ledger import Book, Ledger, audit
from tests.faults.harness.pair import Pair, pair
from tests.faults.harness.producers import Accepting, Producers
from tests.faults.harness.report import Report
from tests.faults.harness.run import Run
from tests.faults.harness.waiting import until
from tests.faults.harness.workers import Workers

from pgqueue import Client, DatabaseUnavailable, Job, LeaseLost

CREW = 2
OPTIONS = {"lease": 2.0, "concurrency": 4}
RATE = 300.0
"""Jobs a second."""
BETWEEN = 100
"""Jobs accepted before the primary goes."""
UNSENT = 30
"""Jobs accepted by an asynchronous primary whose standby receives nothing any more."""


def synchronous(run: Run) -> Report:
    """Promotes a synchronous standby; before each, something is done that does not wait for it."""
    promotions = run.count(2, 20)
    commit = run.rng.choice(("on", "remote_apply"))
    ledger = Ledger(run.folder)
    refused = 0
    with (
        pair(commit=commit) as servers,
        Client(servers.dsn) as client,
        Workers(run.folder, servers.dsn, ledger, OPTIONS) as workers,
    ):
        _start(client, workers)
        with _producers(run, client, ledger) as producers:
            for done in range(promotions):
                _wait_for_more(producers, BETWEEN)
                ledger.accepted([client.enqueue("aside", queue="aside").id])
                servers.disconnect()
                # Claims do not wait for the standby, so this one never reaches it.
                (claimed,) = client.claim("aside")
                _end_primary(run, servers)
                servers.promote()
                servers.rebuild()
                refused += _undone_claim_is_refused(client, claimed, ledger)
                run.tell(done + 1, promotions)
            _wait_for_more(producers, BETWEEN)
        _end(client, workers)
        report = audit(servers.dsn, ledger)
    report.faults = promotions
    report.promise("acks taken from claims that a failover undid", promotions - refused, 0)
    report.notes.append(
        f"synchronous_commit {commit}: {producers.failed} enqueues were refused or cut off"
    )
    _set_apart_undone(report, ledger.read())
    return report


def asynchronous(run: Run) -> Report:
    """Promotes a standby that lags: counts what is lost, and audits the rest."""
    promotions = run.count(1, 20)
    ledger = Ledger(run.folder)
    lost: list[int] = []
    with (
        pair(commit=None) as servers,
        Client(servers.dsn) as client,
        Workers(run.folder, servers.dsn, ledger, OPTIONS) as workers,
    ):
        _start(client, workers)
        for done in range(promotions):
            told = Told()
            with _producers(run, client, told) as producers:
                _wait_for_more(producers, BETWEEN)
                servers.disconnect()
                _wait_for_more(producers, UNSENT)
                _end_primary(run, servers)
            servers.promote()
            # Before new jobs get the numbers of lost ones.
            stored = _stored(client, told.ids)
            ledger.accepted(stored)
            lost.append(len(told.ids) - len(stored))
            servers.rebuild()
            run.tell(done + 1, promotions)
        _end(client, workers)
        report = audit(servers.dsn, ledger)
    report.faults = promotions
    report.promise("promotions of a lagging standby that lost nothing", lost.count(0), 0)
    acked_twice = len(ledger.read().double_acked())
    report.double_acked -= acked_twice
    report.notes.append(
        f"{sum(lost)} accepted jobs were lost with the old primaries, at most {max(lost)} at once, "
        f"and {acked_twice} jobs were acked twice, since the first ack was lost likewise: that is "
        "asynchronous replication. The others were audited"
    )
    _set_apart_undone(report, ledger.read())
    return report


def _start(client: Client, workers: Workers) -> None:
    """Starts the crew, and waits until all of it has been at work: it is for them to survive."""
    for _ in range(CREW):
        workers.start()
    asleep = "select count(distinct split_part(worker, ':', 2)) from pgqueue.sleeper"
    until(lambda: rows(client, asleep) == [(CREW,)], "all workers wait for jobs")


@attrs.define
class Told:
    """The jobs whose enqueue has returned."""

    ids: list[int] = attrs.field(factory=list)

    def accepted(self, ids: Iterable[int]) -> None:
        """See `Ledger.accepted`."""
        self.ids.extend(ids)


def _producers(run: Run, client: Client, told: Accepting) -> Producers:
    return Producers(client, told, run.rng, RATE, threads=2, longest_ms=20)


def _wait_for_more(producers: Producers, count: int) -> None:
    before = producers.accepted
    until(lambda: producers.accepted >= before + count, f"{count} more jobs are accepted")


def _end_primary(run: Run, servers: Pair) -> None:
    if run.rng.random() < 0.5:
        servers.crash()
    else:
        servers.shut_down()


def _end(client: Client, workers: Workers) -> None:
    """All workers live, and end in order once all is done."""
    until(lambda: unfinished(client) == 0, "all jobs are done", 60)
    codes = workers.end()
    assert codes == [0] * CREW, [worker.told() for worker in workers.all]


def _undone_claim_is_refused(client: Client, claimed: Job, ledger: Ledger) -> bool:
    """Whether the new primary knows nothing of a claim; the job is then done by another."""
    refused = False
    ledger.started(claimed)
    try:
        client.ack(claimed)
    except LeaseLost:
        refused = True
        (claimed,) = client.claim("aside")
        ledger.started(claimed)
        client.ack(claimed)
    ledger.finished(claimed)
    ledger.acked(claimed.id, claimed.token)
    return refused


def _stored(client: Client, ids: list[int]) -> list[int]:
    """Those that the new primary has."""

    def ask() -> list[int] | None:
        try:
            found = rows(client, "select id from pgqueue.all_jobs where id = any (%s)", ids)
        except DatabaseUnavailable:
            return None
        return [job for (job,) in found]

    return until(ask, "the new primary answers") or []


def _set_apart_undone(report: Report, book: Book) -> None:
    undone = len(book.undone())
    report.overlapping -= undone
    report.notes.append(f"{undone} claims were undone by a failover, and made again meanwhile")
