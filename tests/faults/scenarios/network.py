"""Workers and producers behind a proxy that does to their connections what bad networks do.

Every wait has an end, so that none of it stops the work for longer than a reply or a connection may
take, and nobody has to be restarted.
"""

from __future__ import annotations

from datetime import timedelta

from tests.faults.harness.database import unfinished
from tests.faults.harness.ledger import Ledger, audit
from tests.faults.harness.producers import Producers
from tests.faults.harness.proxy import Fault, Kind, Proxy, statement
from tests.faults.harness.report import Report
from tests.faults.harness.run import Run
from tests.faults.harness.waiting import until
from tests.faults.harness.workers import Workers

from pgqueue import Client

PER_SECOND = 100
CREW = 2
LEASE = 1.5
REPLY_TIMEOUT = 0.7
CONNECT_TIMEOUT = 2
"""Seconds; libpq knows no shorter one."""
POINTS = (
    *map(statement, ("enqueue", "claim", "ack", "extend", "maintain", "sleep", "wake")),
    b"listen",
)
KINDS = tuple(Kind)
STRIKES = (Kind.RESET, Kind.HALF_OPEN, Kind.BLACK_HOLE, Kind.MUTE)
PATIENCE = 0.5
"""Seconds for a fault to meet its statement, before another one is laid in wait as well."""
LONGEST_CALL = 2 * (REPLY_TIMEOUT + CONNECT_TIMEOUT)
"""A connection that is found dead, one that cannot be made; and as much again for those after."""


def run(run: Run) -> Report:
    """One fault after the other: at a statement, at a new connection, or at all that there are."""
    wanted = run.count(12, 300)
    dsn, ledger = run.dsn(), Ledger(run.folder)
    settings = {"lease": LEASE, "concurrency": 4, "reply_timeout": REPLY_TIMEOUT}
    with (
        Client(dsn) as direct,
        Proxy(dsn, run.folder if run.rng.random() < 0.5 else None) as proxy,
    ):
        path = f"{proxy.dsn} connect_timeout={CONNECT_TIMEOUT}"
        with (
            Client(path, reply_timeout=timedelta(seconds=REPLY_TIMEOUT)) as client,
            Workers(run.folder, path, ledger, settings) as workers,
        ):
            for _ in range(CREW):
                workers.start()
            with Producers(client, ledger, run.rng, PER_SECOND) as producers:
                until(lambda: ledger.read().jobs("acked"), "work has begun")
                while proxy.hits.total() < wanted:
                    _hurt(run, proxy)
                    run.tell(proxy.hits.total(), wanted)
                    producers.check()
            proxy.clear()
            until(lambda: unfinished(direct) == 0, "all jobs are done", 60)
            codes = workers.end()
    report = audit(dsn, ledger)
    report.faults = proxy.hits.total()
    report.promise("workers that did not end in order", sum(map(bool, codes)), 0)
    slack = run.count(8, 2)
    report.promise("longest enqueue, s", producers.longest, LONGEST_CALL + slack)
    kinds = ", ".join(f"{count} {kind.value}" for kind, count in sorted_hits(proxy))
    report.notes += [kinds, f"{producers.failed} enqueues failed"]
    return report


def sorted_hits(proxy: Proxy) -> list[tuple[Kind, int]]:
    """How many of each kind have hit, in the order of their names."""
    return sorted(proxy.hits.items(), key=lambda item: item[0].value)


def _hurt(run: Run, proxy: Proxy) -> None:
    """Does one thing, and waits for a while until it has hit."""
    where = run.rng.random()
    if where < 0.1:
        proxy.strike(run.rng.choice(STRIKES))
        return
    kind = run.rng.choice(KINDS)
    keep, seconds = run.rng.randrange(60), run.rng.uniform(0, 1.5 * REPLY_TIMEOUT)
    at_once = where < 0.25 and kind not in (Kind.CUT_REPLY, Kind.MUTE)
    fault = Fault(kind, None if at_once else run.rng.choice(POINTS), keep, seconds)
    proxy.add(fault)
    if at_once:
        proxy.add(Fault(Kind.RESET, statement("claim")))  # so that somebody has to connect
    fault.hit.wait(PATIENCE)
