"""Connections that lead to a standby, before the address leads to the primary.

An address that follows the primary, a proxy's or a name's, may be late. What was connected through
it meanwhile is discarded at its first write, and the write done on a new connection.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg_pool
from tests.faults.harness.database import rows, unfinished
from tests.faults.harness.ledger import Ledger, audit
from tests.faults.harness.pair import Pair, pair
from tests.faults.harness.report import Report
from tests.faults.harness.run import Run
from tests.faults.harness.waiting import until
from tests.faults.harness.workers import FaultMissed, Workers

from pgqueue import AsyncClient, Client
from pgqueue.embedded import Server
from pgqueue.statements import Statement

IN_RECOVERY = "select pg_is_in_recovery()"
POOL_SIZE = 3
KINDS = 4
"""A client, an async one, one with a pool of its caller's, and a worker."""


class Address:
    """A socket's path that leads to either server."""

    def __init__(self, folder: Path, servers: Pair) -> None:
        self._folder = folder / "address"
        self._folder.mkdir()
        self._servers = servers
        self.dsn = f"host={self._folder} port=5432 user=postgres dbname=postgres"

    def lead_to_standby(self) -> None:
        """As if the primary had just been there."""
        self._lead_to(self._servers.standby)

    def lead_to_primary(self) -> None:
        """As it should."""
        self._lead_to(self._servers.primary)

    def _lead_to(self, server: Server) -> None:
        new = self._folder / "new"
        new.symlink_to(server.socket_dir / ".s.PGSQL.5432")
        new.replace(self._folder / ".s.PGSQL.5432")


def run(run: Run) -> Report:
    """Misroutes each sort of client, and a worker, in turn; each enqueue must go well at once."""
    rounds = run.count(1, 5)
    ledger = Ledger(run.folder)
    with pair(commit=None) as servers, Client(servers.dsn) as client:
        address = Address(run.folder, servers)
        with Workers(run.folder, address.dsn, ledger, {"lease": 2.0}) as workers:
            for done in range(rounds):
                for enqueue in (_enqueue, _enqueue_async, _enqueue_pooled):
                    ledger.accepted([enqueue(address)])
                address.lead_to_standby()
                worker = workers.start()
                until(lambda: "read-only" in worker.told(), "a worker meets the standby")  # noqa: B023 - at once
                address.lead_to_primary()
                until(lambda: unfinished(client) == 0, "all jobs are done")
                worker.terminate()
                worker.wait()
                run.tell(done + 1, rounds)
        report = audit(servers.dsn, ledger)
    report.faults = rounds * KINDS
    return report


def _enqueue(address: Address) -> int:
    address.lead_to_standby()
    with Client(address.dsn) as client:
        _check(rows(client, IN_RECOVERY))
        address.lead_to_primary()
        return client.enqueue("work", {"ms": 0}).id


def _enqueue_async(address: Address) -> int:
    async def enqueue() -> int:
        async with AsyncClient(address.dsn) as client:
            _check(await client.driver.run(Statement(IN_RECOVERY, (), list)))
            address.lead_to_primary()
            return (await client.enqueue("work", {"ms": 0})).id

    address.lead_to_standby()
    return asyncio.run(enqueue())


def _enqueue_pooled(address: Address) -> int:
    address.lead_to_standby()
    with psycopg_pool.ConnectionPool(address.dsn, min_size=POOL_SIZE, open=True) as pool:
        pool.wait(10)
        with Client(pool) as client:
            _check(rows(client, IN_RECOVERY))
            address.lead_to_primary()
            return client.enqueue("work", {"ms": 0}).id


def _check(found: list[tuple[object, ...]]) -> None:
    if found != [(True,)]:
        raise FaultMissed("the connection does not lead to the standby")
