"""A pool of the caller's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import psycopg_pool
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

import pgqueue
from pgqueue import Client, DatabaseUnavailable


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


def test_one_operation_after_the_other_needs_one_connection(
    make_client: Callable[..., Client], pgqueue_dsn: str
) -> None:
    """The first one waits for the pool's first connection, and does not ask for another."""
    client = make_client(make_conninfo(pgqueue_dsn, application_name="frugal"))
    for _ in range(5):
        client.enqueue("a")
    with psycopg.connect(pgqueue_dsn) as conn:
        sessions = "select count(*) from pg_stat_activity where application_name = 'frugal'"
        assert conn.execute(sessions).fetchone() == (1,)


def test_event_loop_may_end_while_the_pool_grows(
    pgqueue_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncio.run() waits for the tasks that it cancels, and so for one that will not end."""

    async def main() -> None:
        await client.enqueue("a")
        connecting = asyncio.Event()

        async def never_connects(*_: Any, **__: Any) -> Any:
            connecting.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(psycopg.AsyncConnection, "connect", never_connects)
        async with client.driver.pooled():
            tasks.append(asyncio.create_task(client.enqueue("a")))
            await connecting.wait()

    client = pgqueue.AsyncClient(pgqueue_dsn)
    tasks: list[Any] = []
    asyncio.run(main())
    client.driver.abandon()
