"""How an idle worker is woken, and what happens where nobody rings."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
import pytest

from pgqueue import Client, DatabaseUnavailable, Handlers, Job
from pgqueue.drivers import AsyncDriver
from pgqueue.statements import Statements
from pgqueue.worker import claims
from pgqueue.worker import doorbell as module
from pgqueue.worker.doorbell import Doorbell
from pgqueue.worker.link import Link

from .helpers import DEADLINE, SECOND, Database, until, working

LONG = timedelta(seconds=30)


@pytest.fixture
def ran(handlers: Handlers) -> threading.Event:
    """Set when a job of the kind a runs."""
    event = threading.Event()
    handlers.register("a")(lambda _: event.set())
    return event


def asleep(database: Database) -> bool:
    """Whether a worker says that it sleeps."""
    return bool(database.query("select 1 from sleeper where until > clock()"))


def elapsed_until(event: threading.Event) -> float:
    """Seconds until `event` is set."""
    started = time.monotonic()
    assert event.wait(10)
    return time.monotonic() - started


@pytest.mark.direct("no ring arrives")
@pytest.mark.parametrize("where", ["one", "many", "transaction"])
def test_sleeping_worker_is_woken_by_an_enqueue(
    client: Client, handlers: Handlers, database: Database, ran: threading.Event, where: str
) -> None:
    """A job starts within a second although the worker looks only every half minute."""
    with working(client, handlers, poll_interval=LONG):
        until(lambda: asleep(database))
        time.sleep(0.05)  # it looks once more, and then waits
        if where == "one":
            client.enqueue("a")
        elif where == "many":
            client.enqueue_many([("a", None)] * 2_000)
        else:
            with psycopg.connect(client.dsn) as conn:
                client.enqueue("a", conn=conn)
                assert not ran.wait(0.1)
        assert elapsed_until(ran) < 1


@pytest.mark.direct("no ring arrives")
def test_worker_is_woken_again_and_again(
    client: Client, handlers: Handlers, database: Database
) -> None:
    """Each time that it has gone to sleep, on the same connection and on a new one."""
    seen: list[Any] = []
    handlers.register("a")(lambda job: seen.append(job.payload))
    client.enqueue("a", -1)
    with working(client, handlers, poll_interval=LONG):
        for n in range(4):
            until(lambda: asleep(database))
            if n == 2:
                database.cut_connections()
                database.query("delete from sleeper")
                until(lambda: asleep(database))
            client.enqueue("a", n)
            until(partial(seen.__contains__, n), 5)


@pytest.mark.direct("no ring arrives")
def test_schema_whose_name_needs_quotes(pgqueue_dsn: str) -> None:
    """The channel is the schema's name, as it is."""
    ran = threading.Event()
    handlers = Handlers()
    handlers.register("a")(lambda _: ran.set())
    with Client(pgqueue_dsn, schema="Odd-name.ä") as client:
        client.migrate()
        database = Database(pgqueue_dsn, "Odd-name.ä")
        with working(client, handlers, poll_interval=LONG):
            until(lambda: asleep(database))
            time.sleep(0.05)
            client.enqueue("a")
            assert elapsed_until(ran) < 1
        database.conn.execute('drop schema "Odd-name.ä" cascade')
        database.conn.close()


def test_worker_that_nobody_rings_looks_when_it_asks_again(
    client: Client,
    handlers: Handlers,
    database: Database,
    ran: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sleeper's row is gone, so no producer notifies."""
    monkeypatch.setattr(module, "PATIENCE", 2.0)
    with working(client, handlers):
        until(lambda: asleep(database))
        database.query("delete from sleeper")
        client.enqueue("a")
        assert elapsed_until(ran) < 3


def test_jobs_are_found_when_notifications_do_not_arrive(
    client: Client,
    handlers: Handlers,
    database: Database,
    ran: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The worker listens where it will hear nothing, and does not know."""
    monkeypatch.setattr(module, "PATIENCE", 2.0)

    async def say(_: Doorbell, conn: psycopg.AsyncConnection[Any], command: str) -> None:
        await conn.execute(f"{command} elsewhere".encode())

    monkeypatch.setattr(Doorbell, "_say", say)
    with working(client, handlers):
        until(lambda: asleep(database))
        client.enqueue("a")
        assert elapsed_until(ran) < 3


def test_ring_that_nobody_answered_is_repeated(
    client: Client, handlers: Handlers, database: Database, ran: threading.Event
) -> None:
    """By maintenance: both that an enqueue named may have died. Nobody looks before that."""
    client.enqueue("a")
    with working(client, handlers, poll_interval=LONG):
        assert ran.wait(DEADLINE)
        ran.clear()
        until(lambda: asleep(database))
        # As one whose ring went to the dead: stored, and nobody rung.
        database.query(
            "insert into job (queue, kind, payload, max_attempts) values ('default', 'a', '{}', 1)"
        )
        assert elapsed_until(ran) < 5


def test_worker_that_ends_leaves_no_row_behind(
    client: Client, handlers: Handlers, database: Database, ran: threading.Event
) -> None:
    """Producers need not ring for the dead."""
    del ran
    with working(client, handlers) as background:
        until(lambda: asleep(database))
        background.stop()
    assert database.query("select * from sleeper") == []


def test_busy_worker_asks_not_to_be_rung(
    client: Client, handlers: Handlers, database: Database
) -> None:
    """Commits of its producers are then free of the notification."""

    @handlers.register("a")
    async def handler(_: Job[Any]) -> None:
        await asyncio.sleep(0.02)

    with working(client, handlers, concurrency=2):
        until(lambda: asleep(database))
        client.enqueue_many([("a", None)] * 100)
        until(lambda: not database.query("select 1 from sleeper"), 5)
        assert database.query("select 1 from job limit 1")


@pytest.mark.direct("no ring arrives")
def test_worker_that_is_rung_all_the_time_looks_by_itself_instead(
    client: Client, handlers: Handlers, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sleeps between any two jobs, but rings would cost producers their group commit."""
    monkeypatch.setattr(claims, "BUSY_SECONDS", 1e9)
    monkeypatch.setattr(module, "OFTEN", 20.0)
    handlers.register("a")(lambda _: None)
    done = threading.Event()

    def produce() -> None:
        while not done.wait(0.005):
            client.enqueue("a")

    producer = threading.Thread(target=produce)
    with working(client, handlers, poll_interval=LONG):
        until(lambda: asleep(database))
        producer.start()
        try:
            until(lambda: not asleep(database))
        finally:
            done.set()
            producer.join()
        until(lambda: asleep(database))  # it falls asleep again when there is less to do


@pytest.mark.direct("no ring arrives")
def test_worker_that_is_full_asks_not_to_be_rung(
    client: Client, handlers: Handlers, database: Database
) -> None:
    """The one job might be meant for it alone, and wait although others are idle."""
    over = threading.Event()
    handlers.register("a")(lambda _: over.wait(10))
    with working(client, handlers, concurrency=1, prefetch=0, poll_interval=LONG):
        until(lambda: asleep(database))
        client.enqueue("a")
        until(lambda: not asleep(database))
        over.set()
        until(lambda: asleep(database))


def test_sleeper_asks_again_however_seldom_it_polls(
    client: Client,
    handlers: Handlers,
    database: Database,
    ran: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or nobody would ring once its patience is over."""
    monkeypatch.setattr(module, "PATIENCE", 0.4)
    with working(client, handlers, poll_interval=timedelta(hours=1)):
        until(lambda: asleep(database))
        ((before,),) = database.query("select until from sleeper")
        until(lambda: database.query("select 1 from sleeper where until > %s", before + SECOND))
        client.enqueue("a")
        assert elapsed_until(ran) < 3


# The doorbell alone


class Bell:
    """A doorbell on a connection of its own, with the event that wakes its worker."""

    def __init__(self, dsn: str) -> None:
        self.statements = Statements("pgqueue")
        self.link = Link(AsyncDriver(dsn, "pgqueue", 1), "test")
        self.bell = Doorbell(self.link, self.statements, ["mail", "other"], ["a"], "me")
        self.changed = asyncio.Event()

    async def waits(self, seconds: float = 5.0) -> float:
        """Waits; returns for how long."""
        started = time.monotonic()
        self.changed.clear()
        await self.bell.wait(seconds, self.changed)
        return time.monotonic() - started


@pytest.fixture
def ring(client: Client) -> Iterator[Any]:
    """Rings for a queue, from another session."""
    with psycopg.connect(client.dsn, autocommit=True) as conn:
        yield lambda queue: conn.execute("select pg_notify('pgqueue', %s)", [queue])


@pytest.mark.direct("no ring arrives")
def test_ring_between_the_last_look_and_the_wait_is_heard(client: Client, ring: Any) -> None:
    """It comes with the answer to a statement, or lies in the socket: the wait is over at once."""

    async def main() -> None:
        bell = Bell(client.dsn)
        await bell.bell.ask()
        for look_after in (True, False):
            bell.bell.forget()
            ring("mail")
            if look_after:
                await bell.link.try_run(bell.statements.stats())
            assert await bell.waits() < 2
        bell.bell.forget()
        assert await bell.waits(0.1) >= 0.09
        await bell.link.close()

    asyncio.run(main())


@pytest.mark.direct("no ring arrives")
def test_ring_during_the_wait_ends_it_if_it_is_for_ones_own_queue(
    client: Client, ring: Any
) -> None:
    """Rings for other queues wake nobody here."""

    async def main() -> None:
        bell = Bell(client.dsn)
        await bell.bell.ask()
        loop = asyncio.get_running_loop()
        loop.call_later(0.05, ring, "foreign")
        assert await bell.waits(0.3) >= 0.29
        loop.call_later(0.05, ring, "other")
        assert await bell.waits() < 2
        await bell.link.close()

    asyncio.run(main())


@pytest.mark.direct("no ring arrives")
def test_nothing_piles_up_in_the_connection(client: Client, ring: Any) -> None:
    """Psycopg would keep each notification that comes with an answer, for ever."""

    async def main() -> None:
        bell = Bell(client.dsn)
        await bell.bell.ask()
        for _ in range(10):
            ring("mail")
            await bell.link.try_run(bell.statements.stats())
        conn = await bell.link.connection()
        assert not conn._notifies_backlog
        await bell.link.close()

    asyncio.run(main())


def test_other_event_ends_the_wait(client: Client) -> None:
    """Room in the pool, or the order to stop."""

    async def main() -> None:
        bell = Bell(client.dsn)
        await bell.bell.ask()
        asyncio.get_running_loop().call_later(0.05, bell.changed.set)
        assert await bell.waits() < 2
        await bell.link.close()

    asyncio.run(main())


def test_asks_anew_on_a_new_connection(client: Client) -> None:
    """It would not hear on the new one what it asked for on the old one."""

    async def main() -> None:
        bell = Bell(client.dsn)
        assert not bell.bell.asked
        await bell.bell.ask()
        assert bell.bell.asked
        await bell.link.close()
        assert not bell.bell.asked
        await bell.bell.say_goodbye()  # nothing to say it on, so nothing happens
        await bell.bell.ask()
        await bell.bell.ask()
        assert bell.bell.asked
        await bell.bell.say_goodbye()
        assert not bell.bell.asked
        await bell.bell.unask()
        await bell.link.close()

    asyncio.run(main())


def test_asks_anew_before_its_patience_is_over(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While half of it is left, so that no moment is without."""
    monkeypatch.setattr(module, "PATIENCE", 0.1)

    async def main() -> None:
        bell = Bell(client.dsn)
        await bell.bell.ask()
        assert bell.bell.asked
        await asyncio.sleep(0.06)
        assert not bell.bell.asked
        await bell.link.close()

    asyncio.run(main())


@pytest.mark.direct("the session that ends is the pooler's")
@pytest.mark.parametrize("when", ["before", "during"])
def test_connection_that_is_lost_ends_the_wait_with_an_error(
    client: Client, database: Database, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """The claim loop then makes a new one."""
    kill = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'bell'"

    async def main() -> None:
        bell = Bell(psycopg.conninfo.make_conninfo(client.dsn, application_name="bell"))
        await bell.bell.ask()
        if when == "before":
            conn = await bell.link.connection()
            conn.pgconn.finish()
            monkeypatch.setattr(bell.link, "connection", lambda: _same(conn))
        else:
            asyncio.get_running_loop().call_later(0.05, database.query, kill)
        with pytest.raises(DatabaseUnavailable):
            await bell.waits()

    asyncio.run(main())


async def _same(conn: Any) -> Any:
    return conn


def test_listening_in_vain_is_an_error_of_the_connection(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is closed, and the claim loop told."""

    async def main() -> None:
        bell = Bell(client.dsn)
        conn = await bell.link.connection()
        cut = conn.execute("select pg_terminate_backend(pg_backend_pid())")
        with pytest.raises(psycopg.OperationalError):
            await cut
        monkeypatch.setattr(bell.link, "connection", lambda: _same(conn))
        with pytest.raises(DatabaseUnavailable):
            await bell.bell.ask()

    asyncio.run(main())


@pytest.mark.direct("no ring arrives")
def test_other_default_isolation_still_listens(client: Client, database: Database) -> None:
    """Where statements need transactions of their own, LISTEN does too."""
    ((name,),) = database.query("select current_database()")
    database.query(f'alter database "{name}" set default_transaction_isolation = serializable')
    ran = threading.Event()
    handlers = Handlers()
    handlers.register("a")(lambda _: ran.set())
    try:
        with working(client.dsn, handlers, poll_interval=LONG, lease=SECOND):
            until(lambda: asleep(database))
            time.sleep(0.05)
            with psycopg.connect(client.dsn) as conn:
                client.enqueue("a", conn=conn)
            assert elapsed_until(ran) < 2
    finally:
        database.query(f'alter database "{name}" reset default_transaction_isolation')
