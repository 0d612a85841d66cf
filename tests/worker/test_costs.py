"""What a worker asks of the database, counted."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from pgqueue import Client, Handlers
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
