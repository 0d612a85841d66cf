"""Tasks are cancelled at any moment of an operation of `AsyncClient`.

What holds: an operation that returned has happened, one that was cancelled happened wholly or not
at all, and nobody knows which, as with an answer that was lost. No connection is lost, or left in
a transaction.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any

import attrs
from tests.faults.harness.database import rows
from tests.faults.harness.drain import drain
from tests.faults.harness.ledger import Ledger, audit
from tests.faults.harness.report import Report
from tests.faults.harness.run import Run
from tests.faults.harness.waiting import until
from tests.faults.harness.workers import FaultMissed

from pgqueue import AsyncClient, Client, NewJob

TASKS = 20
POOL = 5
LEASE = timedelta(seconds=1)
BULK = 120
"""Enough for a COPY."""
NUDGE = 1.02
"""By so much are tasks given more time after one was cancelled, and less after one was not: half of
them are cancelled, at all stages."""
SESSIONS = """
    select count(*), count(*) filter (where xact_start is not null) from pg_stat_activity
    where datname = current_database() and application_name = 'pgqueue'
        and pid <> pg_backend_pid()"""


def run(run: Run) -> Report:
    """Cancels until enough were cancelled in the middle; then looks what is left."""
    wanted = run.count(200, 10_000)
    dsn, ledger = run.dsn(), Ledger(run.folder)
    storm = _Storm(run, AsyncClient(dsn, pool_size=POOL), ledger, wanted)
    with Client(dsn) as client:
        asyncio.run(storm.run(client))
        until(lambda: rows(client, SESSIONS) == [(0, 0)], "all sessions have ended")
        stored = Counter(ref for (ref,) in rows(client, "select ref from pgqueue.all_jobs"))
        drain(client, ledger)
    report = audit(dsn, ledger)
    report.faults = storm.cancelled.total()
    wrong = sum(storm.whole.get(ref) != found for ref, found in stored.items())
    absent = sum(ref not in stored for ref in storm.told)
    report.promise("operations done in part, or twice", wrong, 0)
    report.promise("operations told, and not done", absent, 0)
    report.promises += storm.report.promises
    report.notes.append(", ".join(f"{name} {n}" for name, n in sorted(storm.cancelled.items())))
    done = sum(ref not in storm.told for ref in stored)
    report.notes.append(f"{done} enqueues were cancelled, and done all the same")
    return report


@attrs.define
class _Storm:
    _run: Run
    client: AsyncClient
    ledger: Ledger
    wanted: int
    report: Report = attrs.field(factory=Report, init=False)
    cancelled: Counter[str] = attrs.field(factory=Counter, init=False)
    whole: dict[str, int] = attrs.field(factory=dict, init=False)
    """By ref, how many jobs an enqueue is to store."""
    told: set[str] = attrs.field(factory=set, init=False)
    patience: float = attrs.field(default=0.005, init=False)
    """Seconds until a task is cancelled, at most."""
    _names: count[int] = attrs.field(factory=count, init=False)

    async def run(self, client: Client) -> None:
        """The storm, and the calm after it."""
        seeds = [self._run.rng.random() for _ in range(TASKS)]
        await asyncio.gather(*map(self._torment, seeds))
        spares: Any = self.client.driver._spares
        idle = len(spares._kept._idle)
        self.report.promise("places lost", POOL - spares._free, 0)
        until(lambda: rows(client, SESSIONS)[0][0] == idle, "sessions are those that are kept")
        self.report.promise("sessions kept", idle, POOL)
        self.report.promise("sessions in a transaction", rows(client, SESSIONS)[0][1], 0)
        await asyncio.gather(*(self._one() for _ in range(2 * POOL)))  # it is as good as new
        await self.client.close()

    async def _torment(self, seed: float) -> None:
        rng = random.Random(seed)  # noqa: S311 - replayable
        names = ("one", "pair", "bulk", "work", "look")
        operations: dict[str, Callable[[], Awaitable[None]]] = {
            name: getattr(self, f"_{name}") for name in names
        }
        while self.cancelled.total() < self.wanted:
            (name,) = rng.choices(names, (8, 3, 1, 8, 1))
            task = asyncio.ensure_future(operations[name]())
            await asyncio.sleep(rng.uniform(0, self.patience))
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=30)
            if not done:
                raise FaultMissed(f"{name} does not end, although it is cancelled")
            if task.cancelled():
                self.cancelled[name] += 1
                self.patience *= NUDGE
                self._run.tell(self.cancelled.total(), self.wanted)
            else:
                task.result()
                self.patience /= NUDGE

    def _ref(self, jobs: int) -> str:
        ref = str(next(self._names))
        self.whole[ref] = jobs
        return ref

    async def _one(self) -> None:
        ref = self._ref(1)
        result = await self.client.enqueue("a", ref=ref)
        self._accept(ref, [result.id])

    async def _pair(self) -> None:
        ref = self._ref(2)
        async with self.client.driver.transaction() as conn:
            enqueue = partial(self.client.enqueue, "a", ref=ref, conn=conn)
            ids = [(await enqueue()).id]
            await asyncio.sleep(0.001)
            ids.append((await enqueue()).id)
        self._accept(ref, ids)

    async def _bulk(self) -> None:
        ref = self._ref(BULK)
        result = await self.client.enqueue_many([NewJob("a", ref=ref)] * BULK)
        self._accept(ref, list(result.ids))

    def _accept(self, ref: str, ids: list[int]) -> None:
        self.told.add(ref)
        self.ledger.accepted(ids)

    async def _work(self) -> None:
        for job in await self.client.claim(limit=2, lease=LEASE):
            self.ledger.started(job)
            self.ledger.finished(job)
            await self.client.ack(job)
            self.ledger.acked(job.id, job.token)

    async def _look(self) -> None:
        await self.client.maintain()
        await self.client.stats()
        await self.client.list(limit=5)
