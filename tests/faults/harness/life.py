"""The whole life of a queue in one process: every operation of a client, and a worker at the end.

    PGQUEUE_DSN=... python -m tests.faults.harness.life FOLDER COUNT

Whatever depends on the time is held against the database's clock.
"""

from __future__ import annotations

import logging
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from pgqueue import Client, Constant, DuplicateJob, Job, LeaseLost, NewJob, Worker

from .app import add_work, audited
from .database import rows, unfinished
from .ledger import Ledger
from .waiting import until

if TYPE_CHECKING:
    from pgqueue.jsontext import Json

TEXT = "naïve 雪 'quoted' \\back\\slash\n"
DAY, MINUTE, SECOND = timedelta(days=1), timedelta(minutes=1), timedelta(seconds=1)
SOON = timedelta(milliseconds=50)
SLACK = timedelta(seconds=5)
"""By which a time may be off on a busy machine; a wrong clock is off by an hour."""

# Jobs fail here on purpose: nobody need read of it.
logging.getLogger("pgqueue").addHandler(logging.NullHandler())


@attrs.define
class Life:
    """One life; its jobs and their ends stand in the ledger."""

    client: Client
    ledger: Ledger
    count: int
    """Of jobs in each bulk."""
    work_dsn: str | None = None
    """For what only workers may do; None: the client's."""

    def live(self) -> None:
        """Everything, with a worker that runs until it is idle.

        Raises:
            AssertionError: something came out otherwise than it has to.
        """
        with Client(self.work_dsn or self.client.dsn) as worker:
            self._enqueue(worker)
            self._claim_and_end(worker)
            self._expire(worker)
            self._operate(worker)
            self._drain(worker)

    def _accept(self, *ids: int) -> None:
        self.ledger.accepted(ids)

    def _enqueue(self, worker: Client) -> None:
        client = self.client
        with_key = client.enqueue("work", {"text": TEXT}, dedupe_key=TEXT)
        assert client.enqueue("work", dedupe_key=TEXT).id == with_key.id
        assert client.enqueue("work", {}, dedupe_key=TEXT, on_conflict="replace").duplicate
        try:
            client.enqueue("work", dedupe_key=TEXT, on_conflict="raise")
        except DuplicateJob:
            self._accept(with_key.id)
        else:
            raise AssertionError("a duplicate was stored")
        later = client.enqueue("work", delay=DAY).id
        due = worker.get(later).run_at - now(worker)
        assert abs(due - DAY) < SLACK, f"a delay of a day is one of {due}"
        assert worker.cancel(later)
        keyed = [NewJob("work", dedupe_key=str(n % 7)) for n in range(20)]
        payloads: list[Json] = [{"text": TEXT, "n": n} for n in range(self.count)]
        bulk = [("work.async", payload) for payload in payloads]
        self._accept(*client.enqueue_many(keyed).ids, *client.enqueue_many(bulk).ids)

    def _claim_and_end(self, worker: Client) -> None:
        """By hand, on a queue of its own; all that is put back is claimed and acked afterwards."""
        ids = [self.client.enqueue("hand", queue="hand", retry=Constant(SOON)).id for _ in range(9)]
        jobs = worker.claim("hand", limit=9, lease=MINUTE)
        assert len(jobs) == 9
        left = min(job.lease_until for job in jobs) - now(worker)
        assert abs(left - MINUTE) < SLACK, f"a lease of a minute is one of {left}"
        worker.extend(jobs, lease=DAY)
        assert abs(worker.get(ids[0]).lease_until - now(worker) - DAY) < SLACK  # type: ignore[operator]
        worker.fail(jobs[0], TEXT)
        worker.fail(jobs[1], retry_in=DAY)
        wait = worker.get(jobs[1].id).run_at - now(worker)
        assert abs(wait - DAY) < SLACK, f"a retry in a day is one in {wait}"
        worker.retry([jobs[1].id])
        worker.snooze(jobs[2], SOON)
        worker.release(jobs[3:5])
        worker.skip(jobs[5], TEXT)
        worker.ack(jobs[6:], result={"text": TEXT})
        worker.ack(jobs[6])  # as after an answer that was lost
        assert worker.get(jobs[6].id).result == {"text": TEXT}
        worker.retry([jobs[6].id])
        for _ in range(6):
            worker.ack(self._next(worker, "hand"))

    def _expire(self, worker: Client) -> None:
        """A claim whose holder is gone runs again, and its late ack is refused."""
        self.client.enqueue("late", queue="late", retry=Constant(SOON))
        (late,) = worker.claim("late", lease=SOON)
        again = self._next(worker, "late")
        assert (again.id, again.attempt) == (late.id, 2)
        try:
            worker.ack(late)
        except LeaseLost:
            worker.ack(again)
        else:
            raise AssertionError("the ack of a lost claim was accepted")

    def _next(self, worker: Client, queue: str) -> Job[Any]:
        def found() -> list[Job[Any]]:
            worker.maintain()
            return worker.claim(queue, limit=1, lease=MINUTE)

        return until(found, f"a job of queue {queue} is ready")[0]

    def _operate(self, worker: Client) -> None:
        worker.pause("default", until=now(worker) + DAY)
        assert worker.claim() == []
        assert worker.resume("default")
        self.client.enqueue_many([("gone", {})] * 150, queue="purged")
        assert worker.purge("purged") == 150
        assert worker.stats()
        assert worker.list(limit=5)

    def _drain(self, worker: Client) -> None:
        """Two attempts fail and the third does not; each takes longer than the short timeouts."""
        retry = Constant(SOON)
        flaky = [NewJob("flaky", n, retry=retry) for n in range(self.count // 5)]
        slow = [(kind, {"ms": 250}) for kind in ("work", "work.async") for _ in range(3)]
        ids = list(self.client.enqueue_many(flaky).ids)
        self._accept(*ids, *self.client.enqueue_many(slow).ids)
        handlers = audited(self.ledger)
        add_work(handlers)

        @handlers.register("flaky", retry=retry)
        async def fail_twice(job: Job[int]) -> str:
            if job.attempt < 3:
                raise RuntimeError(TEXT)
            return TEXT

        def drained() -> bool:
            made = Worker(worker.dsn, handlers, lease=2 * SECOND, poll_interval=2 * SOON)
            assert made.run(until_idle=True) == 0
            return not unfinished(worker)

        until(drained, "all is done, in spite of backoffs", 60)
        assert worker.get(ids[0]).attempt == 3


def now(client: Client) -> datetime:
    """The database's time."""
    moment: datetime = rows(client, "select pgqueue.clock()")[0][0]
    return moment


def main() -> None:
    """Lives once, and says by how many seconds this process's clock is off."""
    folder, count = sys.argv[1:]
    with Client() as client:
        sys.stdout.write(f"{time.time() - now(client).timestamp():.0f}\n")
        Life(client, Ledger(Path(folder)), int(count)).live()


if __name__ == "__main__":
    main()
