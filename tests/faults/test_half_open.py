"""A worker behind a connection that died without a word works on, in time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from tests.faults.harness.proxy import SILENT, Fault, Kind, Proxy, statement

from pgqueue import AsyncClient, Client, DatabaseUnavailable, Handlers, Worker

POINTS = (b"listen", *map(statement, ("sleep", "claim", "ack", "extend", "maintain")))


@pytest.fixture
def proxy(pgqueue_dsn: str) -> Iterator[Proxy]:
    """A proxy before the test's database."""
    with Proxy(pgqueue_dsn) as made:
        yield made


def until(condition: Callable[[], bool]) -> None:
    """Waits for what somebody else does."""
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("kind", SILENT)
def test_worker_gives_up_what_is_silent(proxy: Proxy, pgqueue_client: Client, kind: Kind) -> None:
    """Whatever it waits for: at the doorbell, too, where it says that it listens."""
    handlers = Handlers()
    handlers.register("a")(lambda _: time.sleep(0.3))
    worker = Worker(
        Client(proxy.dsn, reply_timeout=timedelta(seconds=0.5)),
        handlers,
        lease=timedelta(seconds=1),
        poll_interval=timedelta(seconds=0.1),
    )
    thread = threading.Thread(target=worker.run)
    faults = [proxy.add(Fault(kind, point)) for point in POINTS]
    pgqueue_client.enqueue("a")
    thread.start()
    try:
        for fault in faults:
            until(fault.hit.is_set)
        last = pgqueue_client.enqueue("a").id

        def succeeded() -> bool:
            return pgqueue_client.get(last).state == "succeeded"

        until(succeeded)
    finally:
        worker.stop()
        thread.join(15)
    assert not thread.is_alive()


def test_worker_that_starts_gives_up(proxy: Proxy) -> None:
    """It says so, since somebody looks on."""
    handlers = Handlers()
    handlers.register("a")(lambda _: None)
    fault = proxy.add(Fault(Kind.MUTE, b"select"))
    worker = Worker(Client(proxy.dsn, reply_timeout=timedelta(seconds=0.3)), handlers)
    with pytest.raises(DatabaseUnavailable, match="no answer"):
        worker.run()
    assert fault.hit.is_set()


@pytest.mark.parametrize("kind", SILENT)
def test_cancelled_task_ends(proxy: Proxy, kind: Kind) -> None:
    """Although psycopg asks the server to stop first, which hears nothing or is not heard."""

    async def main() -> None:
        async with AsyncClient(proxy.dsn, reply_timeout=timedelta(seconds=1)) as client:
            await client.enqueue("a")
            fault = proxy.add(Fault(kind, statement("enqueue")))
            task = asyncio.create_task(client.enqueue("a"))
            await asyncio.to_thread(fault.hit.wait, 10)
            task.cancel()
            await asyncio.wait([task], timeout=15)
            assert task.cancelled()
            await client.enqueue("a")

    asyncio.run(main())


def test_worker_ends_in_time_while_all_is_silent(proxy: Proxy, pgqueue_client: Client) -> None:
    """With the default patience, and no connection that works."""
    handlers = Handlers()
    running, release = threading.Event(), threading.Event()

    @handlers.register("a")
    def handler(_: object) -> None:
        running.set()
        release.wait(10)

    worker = Worker(proxy.dsn, handlers, shutdown_timeout=timedelta(seconds=1))
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(worker.run()))
    pgqueue_client.enqueue("a")
    thread.start()
    assert running.wait(10)
    for _ in range(20):
        proxy.add(Fault(Kind.BLACK_HOLE))
    assert proxy.strike(Kind.BLACK_HOLE) >= 2
    release.set()
    worker.stop()
    began = time.monotonic()
    thread.join(15)
    assert time.monotonic() - began < 5
    assert codes == [1]
