"""What scenarios ask the database itself."""

from __future__ import annotations

from typing import Any

from pgqueue import Client
from pgqueue.statements import Statement


def rows(client: Client, query: str, *params: object) -> list[tuple[Any, ...]]:
    """The rows of a query; names in it are qualified, as in `pgqueue.job`."""
    return client.driver.run(Statement(query, params, list))


def unfinished(client: Client) -> int:
    """How many jobs are not over."""
    return int(rows(client, "select count(*) from pgqueue.job")[0][0])


def holders(client: Client, ms: int = 0) -> set[int]:
    """The processes that hold claims, made `ms` milliseconds ago or more."""
    # A worker's name has its process's number in it.
    found = rows(
        client,
        "select distinct split_part(worker, ':', 2)::int from pgqueue.job "
        "where lease_until is not null and worker like '%%:%%:%%' "
        "and claimed_at < clock_timestamp() - %s * interval '1 ms'",
        ms,
    )
    return {pid for (pid,) in found}
