"""What a worker asks of the database, counted."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from pgqueue import Client, Handlers, NewJob, embedded
from pgqueue.drivers import AsyncDriver

from .helpers import drain

JOBS = 4_000


def test_many_jobs_are_few_statements(
    client: Client, handlers: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claims, acks and all else: fewer than one for fifty jobs."""
    counts: Counter[str] = Counter()
    execute = AsyncDriver.execute

    async def counted(statement: Any, connection: Any) -> Any:
        name = statement.sql.partition('"pgqueue".')[2].partition("(")[0]
        counts[name] += 1
        return await execute(statement, connection)

    @handlers.register("a")
    async def handler(_: Any) -> None:
        pass

    monkeypatch.setattr(AsyncDriver, "execute", staticmethod(counted))
    client.enqueue_many([("a", None)] * JOBS)
    drain(client, handlers, concurrency=100)
    assert counts["ack"] >= 1
    assert counts["claim"] >= 1
    assert counts.total() < JOBS / 50, counts


def test_no_savepoint_on_the_way_of_a_job(handlers: Handlers) -> None:
    """As the server's log of all statements shows."""
    handlers.register("a")(lambda _: None)
    handlers.register("b", max_attempts=1)(lambda _: 1 / 0)
    with (
        embedded.temporary(settings={"log_statement": "all"}) as server,
        Client(server.dsn) as client,
    ):
        client.migrate()
        client.enqueue("a", dedupe_key="x")
        client.enqueue_many([NewJob("a", dedupe_key=str(n)) for n in range(5)])
        client.enqueue_many([("b", n) for n in range(200)])
        drain(client, handlers)
        told = "".join(path.read_text() for path in (server.data / "log").glob("postgres-*.log"))
    for statement in (".enqueue(", ".enqueue_many(", "copy ", ".claim(", ".ack(", ".fail("):
        assert statement in told
    assert not re.search(r"(statement|execute [^:]*):\s*savepoint", told, re.IGNORECASE)
