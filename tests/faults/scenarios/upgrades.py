"""Upgrades of the schema under load, while workers of the version before go on.

The functions are applied again and again, and so are next migrations that only these tests know: a
column and an index on the tables that every statement uses. One comes upon a long transaction, one
is run by two at once. In the end a schema that workers cannot use stops them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import psycopg
from tests.faults.harness.database import rows, unfinished
from tests.faults.harness.ledger import Ledger, audit
from tests.faults.harness.report import Report
from tests.faults.harness.run import Run
from tests.faults.harness.waiting import until
from tests.faults.harness.workers import FaultMissed, Workers

from pgqueue import Client, migrate
from pgqueue.migrate import Migration

CREW = 3
BACKLOG = 300
"""Jobs that wait while one upgrade after the other is made."""
BLOCKED = 2.0
"""Seconds for which the long transaction goes on: some attempts of the migration."""
OLD = "update pgqueue.migration set checksum = 'old' where version = 0 returning 1"
WAITS = """
    select coalesce(max(extract(epoch from clock_timestamp() - l.waitstart)), 0)
    from pg_locks l join pg_stat_activity a using (pid)
    where not l.granted and a.datname = current_database() and l.locktype <> 'advisory'
        and a.application_name = 'pgqueue' and l.mode <> 'AccessExclusiveLock'
"""


def run(run: Run) -> Report:
    """All of it on one database, whose workers work all the time."""
    times, rounds = run.count(2, 20), run.count(2, 10)
    dsn, ledger = run.dsn(), Ledger(run.folder)
    total = times + rounds + 3
    with (
        Client(dsn) as client,
        Workers(run.folder, dsn, ledger, {"lease": 10.0}) as workers,
        Load(client, ledger).fed() as load,
        Watch(dsn).kept() as watch,
        Releases().made() as releases,
    ):
        for _ in range(CREW):
            workers.start()
        until(load.done, "the workers work")
        for done in range(times):
            rows(client, OLD)
            load.goes_on(client.migrate)
            run.tell(done + 1, total)
        for done in range(rounds):
            releases.make(client)
            load.goes_on(client.migrate)
            run.tell(times + done + 1, total)
        releases.make(client)
        during = _blocked(client, load)
        releases.make(client)
        load.goes_on(lambda: _twice(dsn))
        workers.start()  # of the version before: the schema is newer than it knows
        load.end()
        until(lambda: unfinished(client) == 0, "all jobs are done", 60)
        troubles = [line for worker in workers.all for line in _troubles(worker.log)]
        useless = _useless(client, workers)
    report = audit(dsn, ledger)
    report.faults = total
    report.promise("errors seen by workers", len(troubles), 0)
    report.promise("attempts beyond each job's first", report.re_executed, 0)
    report.promise("longest wait of a worker for a lock, s", watch.longest, run.count(3, 1))
    report.promise("workers that a useless schema did not stop", useless, 0)
    report.notes += [f"a worker saw: {line}" for line in troubles[:3]]
    report.notes.append(
        f"{load.upgrades + 1} upgrades under load; {during} jobs were done while a long "
        f"transaction kept one waiting; longest wait of a worker for a lock {watch.longest:.2f} s"
    )
    return report


@attrs.define
class Load:
    """Jobs without end, as fast as they are done."""

    client: Client
    ledger: Ledger
    upgrades: int = 0
    _over: threading.Event = attrs.field(factory=threading.Event)
    _thread: threading.Thread | None = None
    _error: Exception | None = None

    @contextmanager
    def fed(self) -> Iterator[Load]:
        """Feeds meanwhile."""
        self._thread = threading.Thread(target=self._feed)
        self._thread.start()
        try:
            yield self
        finally:
            self._over.set()
            self._thread.join()

    def _feed(self) -> None:
        try:
            while not self._over.is_set():
                if unfinished(self.client) < BACKLOG:
                    kinds = ("work", "work.async")
                    few = [self.client.enqueue(kinds[n % 2], {"ms": n}).id for n in range(10)]
                    many = self.client.enqueue_many([(kind, {"ms": 1}) for kind in kinds * 60])
                    self.ledger.accepted([*few, *many.ids])
                else:
                    time.sleep(0.01)
        except Exception as error:  # noqa: BLE001 - told by `end`
            self._error = error

    def done(self) -> int:
        """How many jobs are acked, as the workers have it."""
        return len(self.ledger.read().jobs("acked"))

    def goes_on(self, upgrade: Callable[[], None]) -> None:
        """Makes one upgrade; before and after it, work is done.

        Raises:
            TooLate: it was the end of the work.
        """
        upgrade()
        self.upgrades += 1
        before = self.done()
        until(lambda: self.done() > before + 20, "work goes on after an upgrade")

    def end(self) -> None:
        """Stops feeding; raises what an enqueue raised."""
        self._over.set()
        assert self._thread is not None
        self._thread.join()
        if self._error is not None:
            raise self._error


@attrs.define
class Watch:
    """Looks how long workers wait for locks, a hundred times a second."""

    dsn: str
    longest: float = 0.0
    _over: threading.Event = attrs.field(factory=threading.Event)

    @contextmanager
    def kept(self) -> Iterator[Watch]:
        """Looks meanwhile."""
        thread = threading.Thread(target=self._look)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()

    def _look(self) -> None:
        with psycopg.connect(self.dsn, autocommit=True, application_name="watch") as conn:
            while not self._over.wait(0.01):
                for (seconds,) in conn.execute(WAITS):
                    self.longest = max(self.longest, float(seconds))


@attrs.define
class Releases:
    """What this process takes for the latest version; the workers' processes know nothing of it."""

    known: list[Migration] = attrs.field(factory=lambda: list(migrate.migrations()))

    @contextmanager
    def made(self) -> Iterator[Releases]:
        """The migrations are ours meanwhile."""
        before = migrate.migrations
        migrate.migrations = lambda: tuple(self.known)  # type: ignore[assignment]
        try:
            yield self
        finally:
            migrate.migrations = before

    def make(self, client: Client) -> None:
        """Another one: a column and an index on what every statement uses, and all functions."""
        version = self.known[-1].version + 1
        sql = (
            f"alter table @extschema@.job add column next_{version} text;"
            f"create index job_next_{version} on @extschema@.job (next_{version}) "
            f"where next_{version} is not null;"
            f"alter table @extschema@.archive add column next_{version} text;"
        )
        self.known.append(Migration(version, "next", sql))
        rows(client, OLD)


def _blocked(client: Client, load: Load) -> int:
    """A migration comes upon a long transaction; how many jobs were done meanwhile."""
    with Client(client.dsn) as other, psycopg.connect(client.dsn) as conn:
        conn.execute("select from pgqueue.job")
        upgrade = threading.Thread(target=other.migrate)
        upgrade.start()
        before, until_then = load.done(), time.monotonic() + BLOCKED
        while time.monotonic() < until_then:
            if not upgrade.is_alive():
                raise FaultMissed("the transaction was not in the migration's way")
            time.sleep(0.05)
        during = load.done() - before
        conn.rollback()
        upgrade.join()
    if not client.schema_state().current:
        raise AssertionError("the migration gave up for good, or failed")
    return during


def _twice(dsn: str) -> None:
    """Two at once: one does it, and the other finds it done."""
    errors: list[Exception] = []

    def upgrade() -> None:
        try:
            with Client(dsn) as client:
                client.migrate()
                client.schema_state().check()
        except Exception as error:  # noqa: BLE001 - raised below
            errors.append(error)

    threads = [threading.Thread(target=upgrade) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _useless(client: Client, workers: Workers) -> int:
    """The schema is one that no worker can use; how many did not stop for that reason.

    Those that run notice when they claim, one that starts notices then. The job is kept.
    """
    job = client.enqueue("work").id
    with client.driver.connection() as conn:
        conn.execute("drop function pgqueue.claim")
        conn.execute(OLD)
    running = workers.living
    codes = [worker.wait() for worker in running]
    late = workers.start()
    codes.append(late.wait())
    right = [
        code != 0 and "pgqueue.errors.SchemaOutdated" in worker.told()
        for code, worker in zip(codes, [*running, late], strict=True)
    ]
    client.migrate()
    workers.ledger.accepted([job])
    workers.start()
    until(lambda: unfinished(client) == 0, "the job is done after all")
    workers.end()
    return right.count(False)


def _troubles(log: Path) -> list[str]:
    """What a worker complained of; jobs that fail would be among it."""
    return [line for line in log.read_text(errors="replace").splitlines() if "attempt" in line]
