"""Every test here runs twice: with `Client`, and with `AsyncClient` behind a blocking front."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Protocol, cast

import psycopg
import psycopg_pool
import pytest
from tests.faults.harness.pooler import Pooler

from pgqueue import AsyncClient, Client
from pgqueue.operations import AsyncOperations
from pgqueue.schedules import AsyncSchedules

TIMEOUT = 20.0


class Blocking:
    """An asynchronous object as a synchronous one: what its methods return is awaited on a loop."""

    def __init__(self, bare: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.bare = bare
        self.loop = loop

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.bare, name)
        if isinstance(value, (AsyncOperations, AsyncSchedules)):
            return Blocking(value, self.loop)
        return self._blocking(value) if callable(value) else value

    def __enter__(self) -> Any:
        return self._blocking(self.bare.__aenter__)()

    def __exit__(self, *details: object) -> Any:
        return self._blocking(self.bare.__aexit__)(*details)

    def _blocking(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            given = {name: _bare(value) for name, value in kwargs.items()}
            result = function(*map(_bare, args), **given)
            if inspect.isawaitable(result):
                result = asyncio.run_coroutine_threadsafe(_result(result), self.loop).result(
                    TIMEOUT
                )
            return Blocking(result, self.loop) if hasattr(result, "__aenter__") else result

        return call


async def _result(awaitable: Any) -> Any:
    return await awaitable


def _bare(value: Any) -> Any:
    return value.bare if isinstance(value, Blocking) else value


class MakeClient(Protocol):
    """Makes a client of the test's database, or of another, that is closed after the test."""

    def __call__(self, target: object = None, **options: Any) -> Client:
        """A client of the test's database, or of `target`."""


class Connect(Protocol):
    """Makes a psycopg connection for `conn=`, closed after the test."""

    def __call__(self, dsn: str | None = None, **options: Any) -> psycopg.Connection[Any]:
        """A connection to the test's database, or to another."""


class Sql(Protocol):
    """Runs SQL apart from any client; gives all its rows."""

    def __call__(self, query: str, *params: object) -> list[tuple[Any, ...]]:
        """All rows of `query`."""


@pytest.fixture(params=["sync", "async"])
def flavour(request: pytest.FixtureRequest) -> str:
    """Which client a test is run with."""
    return str(request.param)


@pytest.fixture(scope="session")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join(TIMEOUT)
    loop.close()


@pytest.fixture
def make_client(
    flavour: str, loop: asyncio.AbstractEventLoop, pgqueue_dsn: str
) -> Iterator[MakeClient]:
    """Makes clients; see `MakeClient`."""
    with ExitStack() as stack:

        def make(target: object = None, **options: Any) -> Client:
            kind: Any = Client if flavour == "sync" else AsyncClient
            client = kind(_bare(target) or pgqueue_dsn, **options)
            if flavour == "async":
                client = Blocking(client, loop)
            stack.callback(client.close)
            return cast("Client", client)

        yield make


@pytest.fixture
def client(make_client: MakeClient) -> Client:
    """A client of the test's own database."""
    return make_client()


@pytest.fixture
def session(pooled: Pooler | None) -> dict[str, Any]:
    """What callers' own connections need: behind a pooler, no prepared statements."""
    return {} if pooled is None else {"prepare_threshold": None}


@pytest.fixture
def connect(
    flavour: str, loop: asyncio.AbstractEventLoop, pgqueue_dsn: str, session: dict[str, Any]
) -> Iterator[Connect]:
    """Makes connections; see `Connect`."""
    with ExitStack() as stack:

        def make(dsn: str | None = None, **options: Any) -> psycopg.Connection[Any]:
            conn: Any
            options = {**session, **options}
            if flavour == "sync":
                conn = psycopg.connect(dsn or pgqueue_dsn, **options)
            else:
                coroutine = psycopg.AsyncConnection.connect(dsn or pgqueue_dsn, **options)
                conn = asyncio.run_coroutine_threadsafe(coroutine, loop).result(TIMEOUT)
                conn = Blocking(conn, loop)
            stack.callback(conn.close)
            return cast("psycopg.Connection[Any]", conn)

        yield make


@pytest.fixture
def sql(pgqueue_dsn: str, direct: Callable[[str], str]) -> Iterator[Sql]:
    """Runs SQL; see `Sql`."""
    with psycopg.connect(direct(pgqueue_dsn), autocommit=True) as conn:

        def run(query: str, *params: object) -> list[tuple[Any, ...]]:
            cursor = conn.execute(query.encode(), params or None)
            return cursor.fetchall() if cursor.description else []

        yield run


@pytest.fixture
def make_pool(
    flavour: str, loop: asyncio.AbstractEventLoop, session: dict[str, Any]
) -> Iterator[Callable[..., Any]]:
    """Makes pools that are closed after the test."""
    with ExitStack() as stack:

        def make(dsn: str, **options: Any) -> Any:
            options["kwargs"] = {**session, **options.get("kwargs", {})}
            if flavour == "sync":
                pool = psycopg_pool.ConnectionPool(dsn, open=True, **options)
                stack.callback(pool.close)
                return pool

            async def opened() -> psycopg_pool.AsyncConnectionPool[Any]:
                pool = psycopg_pool.AsyncConnectionPool(dsn, open=False, **options)
                await pool.open()
                return pool

            apool = asyncio.run_coroutine_threadsafe(opened(), loop).result(20)
            stack.callback(lambda: asyncio.run_coroutine_threadsafe(apool.close(), loop).result(20))
            return apool

        yield make
