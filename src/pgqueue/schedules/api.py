"""`client.schedules`: every operation is one SQL call, as in the clients themselves."""

from __future__ import annotations

import builtins
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from pgqueue.schedules.statements import ScheduleStatements

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgqueue.drivers import AsyncDriver, Driver
    from pgqueue.schedules.models import Schedule, ScheduleChange, ScheduleRun, ScheduleState
    from pgqueue.statements import Statement

T = TypeVar("T")


class Schedules:
    """The schedules of a queue: `client.schedules`.

    Workers fire what is due. Where there are tenants, a name is that of the session's tenant.
    Every operation takes `conn=`, and raises, as those of `Client` do; besides these,
    `ScheduleNotFound` where a name is unknown and `InvalidSchedule` for what cannot be stored.
    """

    def __init__(self, driver: Driver, schema: str) -> None:
        self.statements = ScheduleStatements(schema)
        self._driver = driver

    def _run(self, statement: Statement[T], conn: Any) -> T:  # noqa: ANN401
        return self._driver.run(statement, conn)

    def put(self, schedule: Schedule, *, conn: Any = None) -> ScheduleChange:  # noqa: ANN401
        """Makes a schedule, or changes the one of its name to this.

        Nothing is written if nothing changes. If the times do not change, the next slot stays; if
        they do, they count from now on, and a slot that is due already is still fired.
        """
        return self._run(self.statements.put(schedule), conn)

    def remove(self, name: str, *, conn: Any = None) -> bool:  # noqa: ANN401
        """Removes a schedule; returns whether there was one. Jobs that it enqueued stay."""
        return self._run(self.statements.remove(name), conn)

    def get(self, name: str, *, conn: Any = None) -> ScheduleState:  # noqa: ANN401
        """A schedule as it is stored, and its next slot."""
        return self._run(self.statements.get(name), conn)

    def list(
        self,
        *,
        declared_by: str | None = None,
        kind: str | None = None,
        ref: str | None = None,
        after: str | None = None,
        limit: int = 1000,
        conn: Any = None,  # noqa: ANN401
    ) -> builtins.list[ScheduleState]:
        """Schedules that fit all the filters, by name. For the next page pass the last as `after`.

        Whoever sees several tenants sees the schedules of all of them.
        """
        return self._run(self.statements.list(declared_by, kind, ref, after, limit), conn)

    def enable(self, name: str, *, conn: Any = None) -> datetime | None:  # noqa: ANN401
        """Lets a schedule run again, from now on; returns its next slot."""
        return self._run(self.statements.enable(name, enabled=True), conn)

    def disable(self, name: str, *, conn: Any = None) -> None:  # noqa: ANN401
        """Lets a schedule rest; what comes due meanwhile is not made up for."""
        self._run(self.statements.enable(name, enabled=False), conn)

    def run_now(self, name: str, *, conn: Any = None) -> int:  # noqa: ANN401
        """Enqueues a schedule's job by hand, enabled or not; returns the job's id.

        The slots stay as they are. It is in the history, as `manual`.
        """
        return self._run(self.statements.run_now(name), conn)

    def runs(
        self,
        name: str,
        *,
        before: datetime | None = None,
        limit: int = 50,
        conn: Any = None,  # noqa: ANN401
    ) -> builtins.list[ScheduleRun]:
        """What became of a schedule's slots, the latest first; kept as long as finished jobs are.

        For the next page pass the last slot as `before`.
        """
        return self._run(self.statements.runs(name, before, limit), conn)

    def preview(
        self,
        schedule: Schedule | str,
        count: int = 5,
        *,
        conn: Any = None,  # noqa: ANN401
    ) -> builtins.list[datetime]:
        """The next slots of a schedule: of a stored one by its name, or of one that is not yet."""
        return self._run(self.statements.preview(schedule, count), conn)

    def sync(
        self,
        schedules: Iterable[Schedule],
        declared_by: str,
        *,
        conn: Any = None,  # noqa: ANN401
    ) -> builtins.list[ScheduleChange]:
        """Makes the schedules that an application declares these: adds, changes, and removes.

        Those of others stay: rows without `declared_by`, which are data, and those that another
        application declares. A name of the latter raises `InvalidSchedule`, one of the former is
        taken over.

        Args:
            schedules: all that the application has.
            declared_by: its name.
            conn: as in `Client.enqueue`.
        """
        return self._run(self.statements.sync(schedules, declared_by), conn)

    def tick(self, limit: int = 1000, *, conn: Any = None) -> int:  # noqa: ANN401
        """Fires up to `limit` schedules that are due; returns how many jobs it enqueued.

        Workers do it all the time. Any number may do so at once: each slot is fired once.
        """
        return self._run(self.statements.tick(limit), conn)

    def due_in(self, *, conn: Any = None) -> float | None:  # noqa: ANN401
        """Seconds until the next slot of any schedule, by the database's clock; None: none comes.

        Negative if it is due.
        """
        return self._run(self.statements.due_in(), conn)


class AsyncSchedules:
    """The schedules of a queue, for asyncio: the operations of `Schedules`, awaited."""

    def __init__(self, driver: AsyncDriver, schema: str) -> None:
        self.statements = ScheduleStatements(schema)
        self._driver = driver

    async def _run(self, statement: Statement[T], conn: Any) -> T:  # noqa: ANN401
        return await self._driver.run(statement, conn)

    async def put(self, schedule: Schedule, *, conn: Any = None) -> ScheduleChange:  # noqa: ANN401
        """See `Schedules.put`."""
        return await self._run(self.statements.put(schedule), conn)

    async def remove(self, name: str, *, conn: Any = None) -> bool:  # noqa: ANN401
        """See `Schedules.remove`."""
        return await self._run(self.statements.remove(name), conn)

    async def get(self, name: str, *, conn: Any = None) -> ScheduleState:  # noqa: ANN401
        """See `Schedules.get`."""
        return await self._run(self.statements.get(name), conn)

    async def list(
        self,
        *,
        declared_by: str | None = None,
        kind: str | None = None,
        ref: str | None = None,
        after: str | None = None,
        limit: int = 1000,
        conn: Any = None,  # noqa: ANN401
    ) -> builtins.list[ScheduleState]:
        """See `Schedules.list`."""
        return await self._run(self.statements.list(declared_by, kind, ref, after, limit), conn)

    async def enable(self, name: str, *, conn: Any = None) -> datetime | None:  # noqa: ANN401
        """See `Schedules.enable`."""
        return await self._run(self.statements.enable(name, enabled=True), conn)

    async def disable(self, name: str, *, conn: Any = None) -> None:  # noqa: ANN401
        """See `Schedules.disable`."""
        await self._run(self.statements.enable(name, enabled=False), conn)

    async def run_now(self, name: str, *, conn: Any = None) -> int:  # noqa: ANN401
        """See `Schedules.run_now`."""
        return await self._run(self.statements.run_now(name), conn)

    async def runs(
        self,
        name: str,
        *,
        before: datetime | None = None,
        limit: int = 50,
        conn: Any = None,  # noqa: ANN401
    ) -> builtins.list[ScheduleRun]:
        """See `Schedules.runs`."""
        return await self._run(self.statements.runs(name, before, limit), conn)

    async def preview(
        self,
        schedule: Schedule | str,
        count: int = 5,
        *,
        conn: Any = None,  # noqa: ANN401
    ) -> builtins.list[datetime]:
        """See `Schedules.preview`."""
        return await self._run(self.statements.preview(schedule, count), conn)

    async def sync(
        self,
        schedules: Iterable[Schedule],
        declared_by: str,
        *,
        conn: Any = None,  # noqa: ANN401
    ) -> builtins.list[ScheduleChange]:
        """See `Schedules.sync`."""
        return await self._run(self.statements.sync(schedules, declared_by), conn)

    async def tick(self, limit: int = 1000, *, conn: Any = None) -> int:  # noqa: ANN401
        """See `Schedules.tick`."""
        return await self._run(self.statements.tick(limit), conn)

    async def due_in(self, *, conn: Any = None) -> float | None:  # noqa: ANN401
        """See `Schedules.due_in`."""
        return await self._run(self.statements.due_in(), conn)
