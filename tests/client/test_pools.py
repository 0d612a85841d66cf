"""A pool of the caller's, and the connections that a client keeps itself."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import psycopg
import psycopg_pool
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

import pgqueue
from pgqueue import Client, DatabaseUnavailable, spares

from .conftest import Blocking

FORGOTTEN = """
import sys, pgqueue
client = pgqueue.Client(sys.argv[1])
client.enqueue("a")
"""
FORGOTTEN_ASYNC = """
import asyncio, sys, pgqueue
client = pgqueue.AsyncClient(sys.argv[1])
async def main():
    await asyncio.gather(*(client.enqueue("a") for _ in range(4)))
asyncio.run(main())
"""


def held(client: Client) -> AbstractContextManager[Any]:
    """One of the client's connections, for as long as it is entered."""
    connection: Any = client.driver.connection()
    loop = getattr(client, "loop", None)
    return connection if loop is None else Blocking(connection, loop)


def until(condition: Callable[[], bool]) -> None:
    """Waits for what the server does in its own time."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_sync_client_refuses_an_async_pool_and_the_other_way_round(
    flavour: str, make_client: Callable[..., Client], pgqueue_dsn: str
) -> None:
    """Each needs its own kind."""

    async def make() -> psycopg_pool.AsyncConnectionPool[Any]:
        return psycopg_pool.AsyncConnectionPool(pgqueue_dsn, open=False)

    wrong: Any
    if flavour == "sync":
        wrong = asyncio.run(make())
    else:
        wrong = psycopg_pool.ConnectionPool(pgqueue_dsn, open=False)
    with pytest.raises(pgqueue.ConfigurationError, match="ConnectionPool"):
        make_client(wrong)


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"autocommit": True},
        {"row_factory": dict_row, "prepare_threshold": None},
        {"cursor_factory": psycopg.RawCursor},
    ],
)
def test_given_pool_is_used_and_left_open(
    flavour: str,
    make_client: Callable[..., Client],
    make_pool: Callable[..., Any],
    pgqueue_dsn: str,
    kwargs: dict[str, Any],
) -> None:
    """However its connections are set up."""
    if flavour == "async" and "cursor_factory" in kwargs:
        kwargs = {"cursor_factory": psycopg.AsyncRawCursor}
    pool = make_pool(pgqueue_dsn, min_size=1, max_size=1, kwargs=kwargs)
    client = make_client(pool)
    client.enqueue("a")
    client.enqueue_many([("a", {})] * 300)
    client.ack(client.claim(limit=301))
    client.close()
    assert not pool.closed
    assert client.claim() == []


def test_given_pool_tells_where_the_queue_is(
    make_client: Callable[..., Client], make_pool: Callable[..., Any], pgqueue_dsn: str
) -> None:
    """Also where a part of it is among the arguments of its connections."""
    parts = conninfo_to_dict(pgqueue_dsn)
    name = parts.pop("dbname")
    rest = make_conninfo(**{key: str(value) for key, value in parts.items()})
    pool = make_pool(rest, min_size=0, max_size=1, kwargs={"dbname": name, "autocommit": True})
    client = make_client(pool)
    assert conninfo_to_dict(client.dsn).items() >= conninfo_to_dict(pgqueue_dsn).items()


def test_given_pool_needs_no_more_than_a_dsn(
    make_client: Callable[..., Client], make_pool: Callable[..., Any], pgqueue_dsn: str
) -> None:
    """As pools are made most often, without arguments for their connections."""
    client = make_client(make_pool(pgqueue_dsn, min_size=0, max_size=1))
    assert conninfo_to_dict(client.dsn).items() >= conninfo_to_dict(pgqueue_dsn).items()


def test_pool_without_a_fixed_dsn_is_told(flavour: str, make_client: Callable[..., Client]) -> None:
    """Only what needs one, such as a worker, has to do without."""

    async def make() -> Any:
        return psycopg_pool.AsyncConnectionPool(lambda: "host=h", open=False)

    pool: Any
    if flavour == "sync":
        pool = psycopg_pool.ConnectionPool(lambda: "host=h", open=False)
    else:
        pool = asyncio.run(make())
    with pytest.raises(pgqueue.ConfigurationError, match="no fixed DSN"):
        _ = make_client(pool).dsn


def test_closed_pool_is_told(
    make_client: Callable[..., Client], make_pool: Callable[..., Any], pgqueue_dsn: str
) -> None:
    """It was given, so it is the giver's to open it again."""
    pool = make_pool(pgqueue_dsn)
    client = make_client(pool)
    closed = pool.close()
    if asyncio.iscoroutine(closed):
        asyncio.run_coroutine_threadsafe(closed, client.loop).result(20)  # type: ignore[attr-defined]
    with pytest.raises(DatabaseUnavailable, match="closed"):
        client.enqueue("a")


def test_exhausted_pool_is_told(
    make_client: Callable[..., Client], make_pool: Callable[..., Any], pgqueue_dsn: str
) -> None:
    """Nobody waits for ever."""
    pool = make_pool(pgqueue_dsn, min_size=1, max_size=1, timeout=0.05)
    client = make_client(pool)
    holder = pool.getconn()
    if asyncio.iscoroutine(holder):
        loop = client.loop  # type: ignore[attr-defined] # of Blocking
        holder = asyncio.run_coroutine_threadsafe(holder, loop).result(20)
    with pytest.raises(DatabaseUnavailable, match="couldn't get a connection"):
        client.enqueue("a")
    back = pool.putconn(holder)
    if asyncio.iscoroutine(back):
        asyncio.run_coroutine_threadsafe(back, client.loop).result(20)  # type: ignore[attr-defined]
    client.enqueue("a")


# Its own

SESSIONS = "select pid from pg_stat_activity where application_name = %s"


@pytest.mark.parametrize("size", [0, -1])
def test_pool_size_that_is_none(make_client: Callable[..., Client], size: int) -> None:
    """It is refused at once."""
    with pytest.raises(pgqueue.ConfigurationError, match="pool_size"):
        make_client(pool_size=size)


def test_one_operation_after_the_other_needs_one_connection(
    make_client: Callable[..., Client], pgqueue_dsn: str, sql: Callable[..., Any]
) -> None:
    """The second one uses what the first one left."""
    client = make_client(make_conninfo(pgqueue_dsn, application_name="frugal"))
    client.enqueue("a")
    first = sql(SESSIONS, "frugal")
    for _ in range(5):
        client.enqueue("a")
    assert len(first) == 1
    assert sql(SESSIONS, "frugal") == first


@pytest.mark.direct("the sessions are the pooler's")
def test_connection_that_was_silent_for_long_is_replaced(
    make_client: Callable[..., Client],
    pgqueue_dsn: str,
    sql: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody in between may have forgotten it."""
    client = make_client(make_conninfo(pgqueue_dsn, application_name="silent"))
    client.enqueue("a")
    first = sql(SESSIONS, "silent")
    monkeypatch.setattr(spares, "MOST_IDLE", -1.0)
    client.enqueue("a")
    until(lambda: len(sql(SESSIONS, "silent")) == 1)
    assert sql(SESSIONS, "silent") != first


def test_who_finds_all_connections_in_use_is_told(
    make_client: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while; and once one is given back, it serves again."""
    monkeypatch.setattr(spares, "GET_TIMEOUT", 0.05)
    client = make_client(pool_size=1)
    with held(client), pytest.raises(DatabaseUnavailable, match="greater pool_size"):
        client.enqueue("a")
    client.enqueue("a")


def test_connection_in_use_is_closed_when_it_is_given_back(
    make_client: Callable[..., Client], pgqueue_dsn: str, sql: Callable[..., Any]
) -> None:
    """If the client was closed meanwhile."""
    client = make_client(make_conninfo(pgqueue_dsn, application_name="late"))
    with held(client):
        client.close()
        assert len(sql(SESSIONS, "late")) == 1
    until(lambda: sql(SESSIONS, "late") == [])


def test_open_transaction_is_rolled_back(make_client: Callable[..., Client]) -> None:
    """Whoever has the connection next finds it clean."""
    client = make_client(pool_size=1)
    with pytest.raises(ZeroDivisionError), held(client) as conn:
        conn.execute("begin")
        client.enqueue("undone", conn=conn)
        raise ZeroDivisionError
    with held(client) as conn:
        conn.execute("begin")
        client.enqueue("kept", conn=conn)
    assert [job.kind for job in client.list()] == ["kept"]


@pytest.mark.parametrize("script", [FORGOTTEN, FORGOTTEN_ASYNC], ids=["sync", "async"])
def test_client_that_nobody_closes_is_no_trouble(script: str, pgqueue_dsn: str) -> None:
    """At the end of the program its connections are closed, without a word."""
    command = [sys.executable, "-W", "error", "-c", script, pgqueue_dsn]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_event_loop_may_end_while_connections_are_made(pgqueue_dsn: str) -> None:
    """asyncio.run() waits for all that it cancels; so nothing may pass over a cancellation."""
    client = pgqueue.AsyncClient(pgqueue_dsn, pool_size=2)

    async def main() -> None:
        tasks.extend(asyncio.create_task(client.enqueue("a")) for _ in range(4))
        await asyncio.sleep(0)

    for _ in range(5):
        tasks: list[Any] = []
        asyncio.run(main())
        assert all(task.cancelled() for task in tasks)

    async def use() -> None:
        await asyncio.gather(*(client.enqueue("b") for _ in range(4)))
        await client.close()

    asyncio.run(use())


@pytest.mark.direct("PgBouncer 1.18 dies of so many cancellations")
def test_cancelled_tasks_lose_no_place(pgqueue_dsn: str) -> None:
    """Whenever it comes: while they wait for a connection, make it, use it, or give it back."""
    chance = random.Random(7)  # noqa: S311 - no secret

    async def main() -> None:
        async with pgqueue.AsyncClient(pgqueue_dsn, pool_size=3) as client:
            for _ in range(60):
                tasks = [asyncio.create_task(client.enqueue("a")) for _ in range(8)]
                for task in tasks:
                    await asyncio.sleep(chance.choice((0, 0, 0.0005, 0.002)))
                    chance.choice(tasks).cancel()
                    del task
                await asyncio.wait(tasks)
            kept: Any = client.driver._spares
            assert (kept._free, list(kept._waiting)) == (3, [])
            await asyncio.gather(*(client.enqueue("b") for _ in range(6)))

    asyncio.run(main())
