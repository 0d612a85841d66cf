"""Clients across forks, threads and event loops."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

import pgqueue
from pgqueue import AsyncClient, Client

SYNC = """
import os, sys
from pgqueue import Client

client = Client(sys.argv[1])
client.enqueue("before")
child = os.fork()
if child == 0:
    client.enqueue("child")
    client.close()
    client.enqueue("child")
    os._exit(0)
_, status = os.waitpid(child, 0)
client.enqueue("parent")
client.close()
sys.exit(status)
"""
ASYNC = """
import asyncio, os, sys
from pgqueue import AsyncClient

client = AsyncClient(sys.argv[1])

async def both(kind):
    await asyncio.gather(*(client.enqueue(kind) for _ in range(2)))

async def child_main():
    await both("child")
    await client.close()

async def main():
    await client.enqueue("before")
    child = os.fork()
    if child == 0:
        # A forked process cannot go on with its parent's loop: it shares the parent's epoll.
        asyncio._set_running_loop(None)
        asyncio.run(child_main())
        os._exit(0)
    _, status = os.waitpid(child, 0)
    await client.enqueue("parent")
    await client.close()
    sys.exit(status)

asyncio.run(main())
"""

POOL = """
import os, sys
from psycopg_pool import ConnectionPool
from pgqueue import Client, ConfigurationError

with ConnectionPool(sys.argv[1], min_size=1, open=%s) as pool:
    client = Client(pool)
    %s
    child = os.fork()
    if child == 0:
        try:
            client.enqueue("child")
        except ConfigurationError as error:
            os._exit("forked" in str(error))
        os._exit(2)
    _, status = os.waitpid(child, 0)
    client.enqueue("parent")
sys.exit(os.waitstatus_to_exitcode(status))
"""
ASYNC_POOL = """
import asyncio, os, sys
from psycopg_pool import AsyncConnectionPool
from pgqueue import AsyncClient, ConfigurationError

async def child_main(client):
    try:
        await client.enqueue("child")
    except ConfigurationError as error:
        os._exit("forked" in str(error))
    os._exit(2)

async def main():
    async with AsyncConnectionPool(sys.argv[1], min_size=1, open=False) as pool:
        client = AsyncClient(pool)
        await client.enqueue("before")
        child = os.fork()
        if child == 0:
            asyncio._set_running_loop(None)
            asyncio.run(child_main(client))
        _, status = os.waitpid(child, 0)
        await client.enqueue("parent")
        sys.exit(os.waitstatus_to_exitcode(status))

asyncio.run(main())
"""


@pytest.mark.parametrize(
    "script",
    [POOL % (True, ""), POOL % (False, "client.enqueue('before')"), ASYNC_POOL],
    ids=["opened before", "used before", "async"],
)
def test_pool_of_a_parent_is_refused(pgqueue_client: Client, script: str) -> None:
    """Two processes would talk at once on its connections; the parent goes on."""
    command = [sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning", "-c"]
    command += [script, pgqueue_client.dsn]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert pgqueue_client.list()[0].kind == "parent"


@pytest.mark.parametrize("script", [SYNC, ASYNC], ids=["sync", "async"])
def test_forked_process_has_connections_of_its_own(pgqueue_client: Client, script: str) -> None:
    """The child reconnects, and the parent's connections are as they were."""
    command = [sys.executable, "-W", "error", "-c", script, pgqueue_client.dsn]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    kinds = [job.kind for job in pgqueue_client.list()]
    assert kinds == ["parent", "child", "child", "before"]


def test_threads_may_open_one_client_together(pgqueue_dsn: str) -> None:
    """They get one pool."""
    with Client(pgqueue_dsn, pool_size=2) as client:
        barrier = threading.Barrier(8)

        def work() -> None:
            barrier.wait()
            client.enqueue("a")

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.stats()[0].ready == 8
        rows = "select count(*) from pg_stat_activity where application_name = 'pgqueue'"
        with client.driver.connection() as conn:
            ((count,),) = conn.execute(rows + " and datname = current_database()").fetchall()
        assert count <= 2


def test_tasks_may_open_one_client_together(pgqueue_async_client: AsyncClient) -> None:
    """They get one pool."""

    async def main() -> None:
        await asyncio.gather(*(pgqueue_async_client.enqueue("a") for _ in range(20)))
        assert (await pgqueue_async_client.stats())[0].ready == 20
        await pgqueue_async_client.close()

    asyncio.run(main())


def test_async_client_may_be_used_in_one_loop_after_another(
    pgqueue_async_client: AsyncClient,
) -> None:
    """Each gets a pool of its own, whether the one before was closed or not."""

    async def use() -> int:
        await pgqueue_async_client.enqueue("a")
        return (await pgqueue_async_client.stats())[0].ready

    async def use_and_close() -> int:
        async with pgqueue_async_client:
            return await use()

    assert asyncio.run(use()) == 1
    assert asyncio.run(use()) == 2
    assert asyncio.run(use_and_close()) == 3
    assert asyncio.run(use()) == 4


def test_async_client_is_not_taken_from_a_running_loop(pgqueue_async_client: AsyncClient) -> None:
    """Two loops at once need two clients."""

    async def main() -> None:
        await pgqueue_async_client.enqueue("a")

        def other() -> None:
            with pytest.raises(pgqueue.ConfigurationError, match="make one for each"):
                asyncio.run(pgqueue_async_client.stats())

        await asyncio.to_thread(other)
        assert (await pgqueue_async_client.stats())[0].ready == 1
        await pgqueue_async_client.close()

    asyncio.run(main())
