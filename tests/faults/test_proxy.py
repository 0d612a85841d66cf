"""The proxy does what it says, and counts only what has hit."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from tests.faults.harness.proxy import Fault, Kind, Proxy, statement

from pgqueue import Client, DatabaseUnavailable

ENQUEUE = statement("enqueue")


@pytest.fixture(params=["socket", "loopback"])
def proxy(request: pytest.FixtureRequest, pgqueue_dsn: str) -> Iterator[Proxy]:
    """A proxy before the test's database, reached in either way."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        where = Path(folder) if request.param == "socket" else None
        with Proxy(pgqueue_dsn, where) as made:
            yield made


@pytest.fixture
def client(proxy: Proxy) -> Iterator[Client]:
    """A client behind the proxy, which is soon out of patience."""
    with Client(proxy.dsn, reply_timeout=timedelta(seconds=0.3)) as made:
        yield made


@pytest.fixture
def stored(pgqueue_client: Client) -> Callable[[], int]:
    """How many jobs there are, seen past the proxy."""
    return lambda: len(pgqueue_client.list())


def test_it_is_not_noticed_without_faults(client: Client) -> None:
    """Small and large statements, COPY, claims, acks, errors."""
    client.enqueue("a", {"text": "x" * 100_000})
    client.enqueue_many([("a", {"n": n}) for n in range(1_000)])
    client.ack(client.claim(limit=1_001))
    with client.driver.connection() as conn, pytest.raises(psycopg.errors.DivisionByZero):
        conn.execute("select 1 / 0")
    assert len(client.list(state="succeeded", limit=1_001)) == 1_001


@pytest.mark.parametrize("before", [1, 10])
@pytest.mark.parametrize("kind", [Kind.CUT_REPLY, Kind.MUTE, Kind.RESET, Kind.BLACK_HOLE,
                                  Kind.HALF_OPEN])  # fmt: skip
def test_statement_meets_its_fault(
    proxy: Proxy, client: Client, stored: Callable[[], int], kind: Kind, before: int
) -> None:
    """Prepared or not: the client is told that all is open; only some let it through before."""
    for _ in range(before):
        client.enqueue("a")
    fault = proxy.add(Fault(kind, ENQUEUE))
    client.claim()
    assert not fault.hit.is_set()
    with pytest.raises(DatabaseUnavailable):
        client.enqueue("a")
    assert fault.hit.is_set()
    assert proxy.hits == {kind: 1}
    assert stored() == before + (kind in (Kind.CUT_REPLY, Kind.MUTE))
    client.enqueue("a")


def test_reply_is_cut_in_the_middle(
    proxy: Proxy, client: Client, stored: Callable[[], int]
) -> None:
    """After any number of bytes, but never after the last one."""
    for keep in (1, 5, 30, 10_000):
        proxy.add(Fault(Kind.CUT_REPLY, ENQUEUE, keep=keep))
        with pytest.raises(DatabaseUnavailable):
            client.enqueue("a")
    assert stored() == proxy.hits[Kind.CUT_REPLY] == 4


def test_statement_that_failed_is_no_cut_commit(proxy: Proxy, client: Client) -> None:
    """The fault waits for one that the server has done."""
    with client.driver.connection() as conn:
        fault = proxy.add(Fault(Kind.CUT_REPLY, b"select"))
        with pytest.raises(psycopg.errors.DivisionByZero):
            conn.execute("select 1 / 0")
    assert not fault.hit.is_set()
    with pytest.raises(DatabaseUnavailable):
        client.enqueue("a")
    assert fault.hit.is_set()


@pytest.mark.parametrize("kind", [Kind.RESET, Kind.DELAY, Kind.BLACK_HOLE])
def test_new_connection_meets_its_fault(proxy: Proxy, pgqueue_dsn: str, kind: Kind) -> None:
    """Before it is one; the next gets through."""
    fault = proxy.add(Fault(kind, seconds=0.2))
    started = time.monotonic()
    with Client(f"{proxy.dsn} connect_timeout=2") as client:
        if kind is not Kind.DELAY:
            with pytest.raises(DatabaseUnavailable):
                client.enqueue("a")
        client.enqueue("a")
    took = time.monotonic() - started
    assert took >= {Kind.RESET: 0, Kind.DELAY: 0.2, Kind.BLACK_HOLE: 2}[kind]
    assert fault.hit.is_set()
    del pgqueue_dsn


def test_all_connections_are_struck(proxy: Proxy, client: Client) -> None:
    """Idle ones as well; the number is of those that were open."""
    assert proxy.strike(Kind.HALF_OPEN) == 0
    client.enqueue("a")
    assert proxy.strike(Kind.HALF_OPEN) == 1
    assert proxy.strike(Kind.HALF_OPEN) == 0
    with pytest.raises(DatabaseUnavailable, match=r"0\.3 s"):
        client.enqueue("a")
    client.enqueue("a")


def test_delayed_statement_gets_through(proxy: Proxy, client: Client) -> None:
    """Late."""
    proxy.add(Fault(Kind.DELAY, ENQUEUE, seconds=0.1))
    started = time.monotonic()
    client.enqueue("a")
    assert time.monotonic() - started >= 0.1
    assert proxy.hits[Kind.DELAY] == 1


def test_it_leaves_nothing_behind(pgqueue_dsn: str) -> None:
    """At its end the server's sides are closed, too."""
    with Proxy(pgqueue_dsn) as proxy:
        conn = psycopg.connect(proxy.dsn, application_name="behind")
    with pytest.raises(psycopg.OperationalError):
        conn.execute("select")
    conn.close()
    count = "select count(*) from pg_stat_activity where application_name = 'behind'"
    with psycopg.connect(pgqueue_dsn, autocommit=True) as other:
        deadline = time.monotonic() + 10
        while other.execute(count).fetchone() != (0,):
            assert time.monotonic() < deadline
            time.sleep(0.01)
