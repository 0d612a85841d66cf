"""The workers that say that they live: what is known of each, and the operations on their table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import attrs

from pgqueue import jsontext, readers
from pgqueue.arguments import checked_schema
from pgqueue.statements import Statement

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgqueue.readers import Row

BEAT_SECONDS = 10.0
"""Between two beats of a worker."""
ALIVE = timedelta(seconds=30)
"""A worker that is silent for longer is taken for dead; two beats may be missed."""


@attrs.frozen(kw_only=True)
class WorkerJob:
    """A job that a worker has claimed: it runs, or waits in the worker for its turn."""

    id: int
    queue: str
    kind: str
    attempt: int
    claimed_at: datetime
    lease_until: datetime


@attrs.frozen(kw_only=True)
class WorkerState:
    """A process of a worker, or a scheduler, as it last said that it lives."""

    id: str
    """Another one at each start; jobs that it claims show it as their `worker`."""
    host: str
    pid: int
    version: str
    """Of pgqueue."""
    started_at: datetime
    beat_at: datetime
    """When it last said so, by the database's clock; it does every ten seconds."""
    silent: timedelta
    """For how long it has said nothing."""
    queues: Sequence[str]
    kinds: Sequence[str]
    """That it has handlers for; a scheduler has none, and no queues."""
    concurrency: int
    """Handlers that it can run at once."""
    running: int
    """Handlers that ran at its last beat."""
    full_kinds: Sequence[str]
    """Kinds for which it had no room then: sync and async handlers have rooms of their own."""
    stopping: bool
    """Whether it claims no more, and ends when its handlers have."""
    claimed: int
    """Jobs that it holds now."""
    jobs: Sequence[WorkerJob]
    """The first 20 of these, the longest held first."""

    @property
    def alive(self) -> bool:
        """Whether it beat within the last 30 seconds."""
        return self.silent <= ALIVE

    @property
    def scheduler(self) -> bool:
        """Whether it fires schedules, and runs nothing."""
        return not self.kinds


_COLUMNS = (
    "id, host, pid, version, started_at, beat_at, silent, queues, kinds, concurrency, running, "
    "coalesce(full_kinds, '{}'), stopping, claimed"
)


class RegistryStatements:
    """The operations on the workers' table of one schema."""

    def __init__(self, schema: str) -> None:
        self.quoted = f'"{checked_schema(schema)}"'

    def register(
        self,
        worker: str,
        *,
        queues: Sequence[str] = (),
        kinds: Sequence[str] = (),
        concurrency: int = 0,
        host: str = "",
        pid: int = 0,
        version: str = "",
    ) -> Statement[None]:
        """Says that a worker has begun."""
        given = "%s, %s::text[], %s::text[], %s, %s, %s::bigint, %s"
        sql = f"select {self.quoted}.register_worker({given})"
        params = (
            jsontext.storable_text(worker), list(queues), list(kinds), concurrency,
            jsontext.storable_text(host), pid, version,
        )  # fmt: skip
        return Statement(sql, params, readers.none)

    def beat(
        self, worker: str, running: int, full_kinds: Sequence[str], *, stopping: bool
    ) -> Statement[bool | None]:
        """Says that it lives; gives False if it has to register, None if it may not."""
        sql = f"select {self.quoted}.beat(%s, %s, %s::text[], %s)"
        params = (jsontext.storable_text(worker), running, list(full_kinds) or None, stopping)
        return Statement(sql, params, readers.one)

    def unregister(self, worker: str) -> Statement[bool]:
        """Says that it has ended."""
        sql = f"select {self.quoted}.unregister_worker(%s)"
        return Statement(sql, (jsontext.storable_text(worker),), readers.one)

    def workers(self) -> Statement[list[WorkerState]]:
        """All that are registered."""
        sql = f"select {_COLUMNS}, jobs::text from {self.quoted}.workers()"
        return Statement(sql, (), lambda rows: [_state(row) for row in rows])


def _state(row: Row) -> WorkerState:
    *plain, full, stopping, claimed, jobs = row
    names = _COLUMNS.partition(", coalesce")[0].split(", ")
    return WorkerState(
        **dict(zip(names, plain, strict=True)),
        full_kinds=full,
        stopping=stopping,
        claimed=claimed,
        jobs=tuple(_job(job) for job in jsontext.loads(jobs)),
    )


def _job(entry: Mapping[str, Any]) -> WorkerJob:
    times = {name: readers.moment(entry[name]) for name in ("claimed_at", "lease_until")}
    return WorkerJob(**{**entry, **times})
