"""Connections that are lost, and servers that are gone and come back."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from pgqueue import Client, DatabaseUnavailable, LeaseLost, embedded
from pgqueue.connections import has_news
from pgqueue.statements import Statement

OTHERS = "from pg_stat_activity where datname = current_database() and application_name = 'pgqueue'"
COUNT_OTHERS = f"select count(*) {OTHERS}"
KILL_OTHERS = f"select count(pg_terminate_backend(pid, 5000)) {OTHERS}"


def until(condition: Callable[[], bool]) -> None:
    """Waits for what the server does in its own time."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def sql_of(conn: psycopg.Connection[Any], query: str) -> Any:
    """The one value of a query."""
    rows = conn.execute(query.encode()).fetchall()
    return rows[0][0]


def crash(server: embedded.Server) -> None:
    """Ends the server as it is, without writing anything any more."""
    with psycopg.connect(server.dsn) as conn:
        backend = Path(f"/proc/{conn.info.backend_pid}/stat").read_text("utf-8")
    os.kill(int(backend.rpartition(")")[2].split()[1]), signal.SIGQUIT)
    until(lambda: embedded.status(server.data) is None)


def test_client_survives_a_restart_of_the_server(make_client: Callable[..., Client]) -> None:
    """While it is gone that is told; once it is back, the next operation goes well."""
    with embedded.temporary() as server:
        client = make_client(server.dsn)
        client.migrate()
        client.enqueue("a")
        embedded.stop(server.data)
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable):
                client.enqueue("a")
        embedded.start(server.data)
        client.enqueue("a")
        assert client.stats()[0].ready == 2
        client.close()


def test_full_queue_of_notifications_fails_no_enqueue(
    make_client: Callable[..., Client], sql: Callable[..., Any]
) -> None:
    """Somebody listens and never ends a transaction, and workers sleep: they poll, then."""
    if int(sql("show server_version_num")[0][0]) < 170_000:
        pytest.skip("before Postgres 17 the queue's size, 8 GB, cannot be set")
    with embedded.temporary(settings={"max_notify_queue_pages": "64"}) as server:
        client = make_client(server.dsn)
        client.migrate()
        with psycopg.connect(server.dsn) as wedged:
            wedged.execute("listen pgqueue")
            wedged.commit()
            wedged.execute("select")
            # A page of the queue for each ring.
            sleep = client.statements.sleep(["default"], "w" * 6900, timedelta(hours=1), ["a"])
            client._run(sleep)
            for _ in range(100):
                client.enqueue("a")
            assert 0.4 < sql_of(wedged, "select pg_notification_queue_usage()") < 0.6
        assert len(client.claim(limit=200)) == 100
        client.close()


def test_claim_that_a_crash_undoes_is_harmless(make_client: Callable[..., Client]) -> None:
    """Claims do not wait for the disk: the job is ready again, and its former holder is refused."""
    with embedded.temporary(settings={"wal_writer_delay": "10s"}) as server:
        client = make_client(server.dsn)
        client.migrate()
        client.enqueue("a")
        (before,) = client.claim(lease=timedelta(seconds=2))
        crash(server)
        embedded.start(server.data)
        again: list[Any] = []

        def claimed() -> bool:
            client.maintain()
            again.extend(client.claim())
            return bool(again)

        until(claimed)
        with pytest.raises(LeaseLost):
            client.ack(before)
        client.ack(again)
        client.close()


def test_ended_sessions_are_replaced(client: Client, sql: Callable[..., Any]) -> None:
    """After a restart of the server the next operation goes well: broken ones are noticed."""
    barrier = threading.Barrier(4)

    def enqueue() -> None:
        barrier.wait()
        client.enqueue("a")

    client.enqueue("a")
    for _ in range(3):
        threads = [threading.Thread(target=enqueue) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sql(KILL_OTHERS)[0][0] >= 1
        client.enqueue("a")
    assert client.stats()[0].ready == 1 + 3 * 5


def test_who_waits_for_a_lost_connection_gets_another(
    make_client: Callable[..., Client], flavour: str, sql: Callable[..., Any]
) -> None:
    """Only the operation that was under way on it fails."""
    client = make_client(pool_size=1)
    client.enqueue("a")
    failures: list[BaseException] = []

    def hold() -> None:
        try:
            client._run(Statement("select pg_sleep(30)", (), list))
        except DatabaseUnavailable as error:
            failures.append(error)

    threads = [threading.Thread(target=hold), threading.Thread(target=client.enqueue, args="b")]
    threads[0].start()
    until(lambda: sql(COUNT_OTHERS + " and wait_event = 'PgSleep'") == [(1,)])
    threads[1].start()
    spares: Any = client.driver._spares
    waiting = spares._free._cond._waiters if flavour == "sync" else spares._waiting
    until(lambda: len(waiting) == 1)
    sql(KILL_OTHERS)
    for thread in threads:
        thread.join()
    assert len(failures) == 1
    assert [job.kind for job in client.list()] == ["b", "a"]


@pytest.mark.direct("LISTEN belongs to a session")
def test_connection_with_news_that_works_is_kept(
    make_client: Callable[..., Client], sql: Callable[..., Any]
) -> None:
    """Something to read is not always the end."""
    client = make_client(pool_size=1)
    sql("create function public.hear() returns trigger language plpgsql as "
        "$$ begin execute 'listen news'; return null; end $$")  # fmt: skip
    sql("create trigger hear after insert on pgqueue.job execute function public.hear()")
    client.enqueue("a")
    spares: Any = client.driver._spares
    ((idle, _),) = spares._kept._idle
    sql("notify news")
    until(lambda: has_news(idle.fileno()))
    client.enqueue("a")
    ((kept, _),) = spares._kept._idle
    assert kept is idle


def test_session_that_ends_in_the_middle_is_told(client: Client, sql: Callable[..., Any]) -> None:
    """Nobody knows whether the statement went through, so it is not repeated; the next is well."""
    client.enqueue("a")
    sql(
        "create function die() returns trigger language plpgsql as "
        "'begin perform pg_terminate_backend(pg_backend_pid()); perform pg_sleep(5); end'"
    )
    sql("create trigger die before insert on pgqueue.job for each row execute function die()")
    with pytest.raises(DatabaseUnavailable):
        client.enqueue("a")
    with pytest.raises(DatabaseUnavailable):
        client.enqueue_many([("a", {})] * 200)
    sql("drop trigger die on pgqueue.job")
    client.enqueue("a")
    assert client.stats()[0].ready == 2


def test_callers_broken_connection_is_told(
    client: Client, connect: Callable[..., psycopg.Connection[Any]]
) -> None:
    """It is the caller's to make a new one."""
    conn = connect()
    conn.close()
    with pytest.raises(DatabaseUnavailable):
        client.enqueue("a", conn=conn)


@pytest.fixture
def read_only(sql: Callable[..., Any], pgqueue_dsn: str) -> Callable[[str], None]:
    """Makes the server refuse writes on new connections, as a standby does: on, or off."""
    name = conninfo_to_dict(pgqueue_dsn)["dbname"]

    def set_to(value: str) -> None:
        sql("set default_transaction_read_only to off")
        sql(f"alter database {name} set default_transaction_read_only to {value}")

    return set_to


@pytest.mark.direct("the sessions, and their settings, are the pooler's")
@pytest.mark.parametrize("source", ["own", "pool"])
def test_read_only_server_is_left_for_the_new_primary(
    make_client: Callable[..., Client],
    make_pool: Callable[..., Any],
    pgqueue_dsn: str,
    read_only: Callable[[str], None],
    source: str,
) -> None:
    """All connections to a former primary are discarded, and the operation is tried on new ones."""
    read_only("on")
    target = None
    if source == "pool":
        target = make_pool(pgqueue_dsn, min_size=4, max_size=4)
        until(lambda: target.get_stats().get("pool_available") == 4)
    client = make_client(target)
    barrier = threading.Barrier(4)

    def look() -> None:
        barrier.wait()
        client.stats()

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    read_only("off")
    client.enqueue("a")
    assert client.enqueue_many([("a", {})] * 300).duplicates == 0
    assert len(client.claim(limit=301)) == 301


@pytest.mark.direct("the sessions, and their settings, are the pooler's")
@pytest.mark.parametrize("source", ["own", "pool"])
def test_read_only_server_is_told_where_there_is_no_other(
    make_client: Callable[..., Client],
    make_pool: Callable[..., Any],
    pgqueue_dsn: str,
    read_only: Callable[[str], None],
    source: str,
) -> None:
    """After a few tries; nothing was written, and the client is well once there is a primary."""
    read_only("on")
    client = make_client(
        make_pool(pgqueue_dsn, min_size=1, max_size=2) if source == "pool" else None
    )
    with pytest.raises(DatabaseUnavailable, match="target_session_attrs=read-write"):
        client.enqueue("a")
    with pytest.raises(DatabaseUnavailable, match="target_session_attrs=read-write"):
        client.enqueue_many([("a", {})] * 300)
    read_only("off")
    client.enqueue("a")
    assert [job.kind for job in client.list()] == ["a"]


def test_other_errors_of_the_driver_pass_through(
    client: Client, connect: Callable[..., psycopg.Connection[Any]]
) -> None:
    """What pgqueue has no better word for stays as it is."""
    conn = connect()
    with pytest.raises(psycopg.errors.UndefinedColumn):
        conn.execute("select nothing")
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        client.enqueue("a", conn=conn)


def test_connection_that_cannot_be_set_up_is_closed(
    client: Client, sql: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not left to the garbage collector, which would warn of it."""

    def fail(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(client.driver, "_configure", fail)
    with pytest.raises(ZeroDivisionError):
        client.enqueue("a")
    until(lambda: sql(COUNT_OTHERS) == [(0,)])
