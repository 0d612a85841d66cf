"""What the handlers of claimed jobs ask, and what they are told, while they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg

from pgqueue import jsontext
from pgqueue.drivers import AsyncDriver, Driver
from pgqueue.errors import LeaseLost
from pgqueue.events import Outcome
from pgqueue.worker.runner import Ending

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from pgqueue.jsontext import Json
    from pgqueue.models import Job
    from pgqueue.statements import Statements
    from pgqueue.worker.leases import Leases
    from pgqueue.worker.pool import Pool
    from pgqueue.worker.settle import Settler


class Control:
    """The `JobControl` of claimed jobs. The drivers make no connections: they use the handlers'."""

    def __init__(
        self, driver: Driver, async_driver: AsyncDriver, statements: Statements, leases: Leases
    ) -> None:
        self._driver = driver
        self._async_driver = async_driver
        self._statements = statements
        self._leases = leases

    def ack_in(self, job: Job[Any], conn: Any, result: Json) -> Awaitable[None] | None:  # noqa: ANN401
        """Acks `job` on a sync or async connection of its handler."""
        text = None if result is None else [jsontext.dumps(result, "result")]
        statement = self._statements.ack([job], text)
        if isinstance(conn, psycopg.AsyncConnection) or any(
            hasattr(conn, name) for name in ("sync_session", "sync_connection")
        ):
            return self._ack_in(job, self._async_driver.run(statement, conn))
        self._acked(job, self._driver.run(statement, conn))
        return None

    async def _ack_in(self, job: Job[Any], lost: Awaitable[Any]) -> None:
        self._acked(job, await lost)

    def _acked(self, job: Job[Any], lost: list[int]) -> None:
        if lost:
            raise LeaseLost(lost)
        self._leases.note_ack(job)

    def is_cancelled(self, job: Job[Any]) -> bool:
        """Whether the handler of `job` should stop."""
        return self._leases.unwanted(job) is not None


def tell(
    leases: Leases,
    pools: Sequence[Pool],
    settler: Settler,
    lost: Sequence[Job[Any]],
    cancelled: Sequence[Job[Any]],
) -> None:
    """Stops the handlers of jobs that are not ours any more, and of those to cancel."""
    told = [(job, Outcome.LOST) for job in lost]
    told += [(job, Outcome.CANCELLED) for job in cancelled]
    news = [(job, outcome) for job, outcome in told if leases.unwanted(job) is None]
    for job, outcome in news:
        leases.ask_to_stop(job, outcome)
    # Only now: a thread that takes a job from its pool's buffer looks whether it should stop.
    running = {job: pool for pool in pools for job in pool.running_jobs()}
    for job, outcome in news:
        pool = running.get(job)
        if pool is not None:
            pool.stop(job, outcome)
        else:
            settler.add([Ending(job, outcome)])
