"""A process forks while its clients are connected; parent and child go on with the same clients."""

from __future__ import annotations

import asyncio
import os
import traceback
import warnings
from typing import Any

import attrs
from tests.faults.harness.drain import drain
from tests.faults.harness.ledger import Ledger, audit
from tests.faults.harness.report import Report
from tests.faults.harness.run import Run
from tests.faults.harness.workers import FaultMissed

from pgqueue import AsyncClient, Client

EACH = 5
"""Jobs that either side enqueues."""
DEEPER = 0.3
"""The share of children that fork in turn."""


def run(run: Run) -> Report:
    """Forks again and again; a child that meets its parent's connection ends with another code."""
    forks = run.count(5, 100)
    dsn, ledger = run.dsn(), Ledger(run.folder)
    with Client(dsn) as client:
        family = _Family(client, AsyncClient(dsn), ledger)
        session = family.work()
        for number in range(forks):
            family.fork(deeper=run.rng.random() < DEEPER)
            run.tell(number + 1, forks)
        if family.work() != session:
            raise FaultMissed("the parent had to connect anew")
        asyncio.run(family.aclient.close())
        drain(client, ledger)
    report = audit(dsn, ledger)
    report.faults = forks
    report.promise("children in trouble", family.troubled, 0)
    return report


@attrs.define
class _Family:
    client: Client
    aclient: AsyncClient
    ledger: Ledger
    troubled: int = attrs.field(default=0, init=False)

    def work(self) -> int:
        """Enqueues with both clients, claims and acks; returns which session it was."""
        for _ in range(EACH):
            self.ledger.accepted([self.client.enqueue("a").id])
        asyncio.run(self._enqueue())
        for job in self.client.claim():
            self.ledger.started(job)
            self.ledger.finished(job)
            self.client.ack(job)
            self.ledger.acked(job.id, job.token)
        with self.client.driver.connection() as conn:
            return conn.info.backend_pid

    async def _enqueue(self) -> None:
        results: list[Any] = await asyncio.gather(*(self.aclient.enqueue("b") for _ in range(EACH)))
        self.ledger.accepted(result.id for result in results)

    def fork(self, *, deeper: bool) -> None:
        """Both sides work at the same time."""
        with self.client.driver.connection() as conn:
            session = conn.info.backend_pid
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # about threads of a test runner
            child = os.fork()
        if child == 0:
            self._live_and_end(session, deeper=deeper)
        self.work()
        _, status = os.waitpid(child, 0)
        self.troubled += status != 0

    def _live_and_end(self, session: int, *, deeper: bool) -> None:
        code = 1
        try:
            code = 3 if self.work() == session else 0
            if deeper and code == 0:
                self.fork(deeper=False)
                code = self.troubled
        except BaseException:  # noqa: BLE001 - the parent sees the code
            traceback.print_exc()
        finally:
            os._exit(code)
