"""Each operation on schedules as a value: see `pgqueue.statements`."""

from __future__ import annotations

import builtins
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from pgqueue import jsontext, readers
from pgqueue.arguments import checked_limit, checked_schema, checked_time, name_or_none, whole
from pgqueue.errors import ScheduleNotFound
from pgqueue.schedules.arguments import checked_name, schedule_text, schedules_text
from pgqueue.schedules.models import (
    Schedule,
    ScheduleChange,
    ScheduleRun,
    ScheduleState,
    StoredRetry,
)
from pgqueue.statements import Statement

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgqueue.jsontext import Json
    from pgqueue.readers import Row

_MOST_SLOTS = 10_000
_PLAIN = (
    "name, kind, cron, every, timezone, starts_at, ends_at, jitter, catch_up, grace, overlap, "
    "enabled, queue, priority, max_attempts, tags, ref"
)
_STATE = "id, next_run_at, last_run_at, last_job_id, declared_by, tenant"
_COLUMNS = (
    f"{_PLAIN}, {_STATE}, payload::text, metadata::text, backoff::text, window_start, "
    # Python has no 24:00.
    "case when window_end = '24:00' then '00:00' else window_end end"
)
_OURS = "coalesce(tenant, '') = coalesce(current_setting('pgqueue.tenant', true), '')"


class ScheduleStatements:
    """The operations on the schedules of one schema. Arguments are checked here."""

    def __init__(self, schema: str) -> None:
        self.quoted = f'"{checked_schema(schema)}"'

    def put(self, schedule: Schedule) -> Statement[ScheduleChange]:
        """Makes or changes a schedule."""
        s = self.quoted
        names = (
            "name, kind, payload, cron, every, timezone, window_start, window_end, starts_at, "
            "ends_at, jitter, catch_up, grace, overlap, enabled, queue, priority, max_attempts, "
            "backoff, tags, metadata, ref"
        )
        given = ", ".join(f"{name} => n.{name}" for name in names.split(", "))
        sql = (
            "select n.name, c.outcome "
            f"from jsonb_populate_record(null::{s}.schedule, %s::jsonb) n, {s}.schedule({given}) c"
        )
        return Statement(sql, (schedule_text(schedule),), lambda rows: ScheduleChange(*rows[0]))

    def sync(
        self, schedules: Iterable[Schedule], declared_by: str
    ) -> Statement[builtins.list[ScheduleChange]]:
        """Makes the schedules that `declared_by` declares these."""
        sql = f"select name, outcome from {self.quoted}.sync_schedules(%s::jsonb, %s)"
        params = (schedules_text(schedules), checked_name(declared_by, "declared_by"))
        return Statement(sql, params, lambda rows: [ScheduleChange(*row) for row in rows])

    def payloads(self, declared_by: str) -> Statement[dict[str, Json]]:
        """What `declared_by` declared before, by name, as it is stored."""
        sql = (
            f"select name, payload::text from {self.quoted}.schedule "
            f"where declared_by = %s and {_OURS}"
        )
        params = (checked_name(declared_by, "declared_by"),)
        return Statement(
            sql, params, lambda rows: {name: jsontext.loads(text) for name, text in rows}
        )

    def remove(self, name: str) -> Statement[bool]:
        """Removes a schedule."""
        sql = f"select {self.quoted}.unschedule(%s)"
        return Statement(sql, (checked_name(name),), readers.one)

    def get(self, name: str) -> Statement[ScheduleState]:
        """A schedule as it is stored."""
        sql = f"select {_COLUMNS} from {self.quoted}.schedule where name = %s and {_OURS}"
        return Statement(sql, (checked_name(name),), partial(_state_of, name))

    def list(
        self,
        declared_by: str | None,
        kind: str | None,
        ref: str | None,
        after: str | None,
        limit: int,
    ) -> Statement[builtins.list[ScheduleState]]:
        """Schedules by filter, in the order of their names."""
        filters = {
            "declared_by = %s": None if declared_by is None else checked_name(declared_by),
            "kind = %s": name_or_none(kind, "kind"),
            "ref = %s": None if ref is None else jsontext.checked_text(ref, "ref"),
            "name > %s": None if after is None else checked_name(after, "after"),
        }
        given = {text: value for text, value in filters.items() if value is not None}
        where = f"where {' and '.join(given)} " if given else ""
        sql = (
            f"select {_COLUMNS} from {self.quoted}.schedule {where}"
            "order by name, coalesce(tenant, '') limit %s"
        )
        params = (*given.values(), checked_limit(limit))
        return Statement(sql, params, lambda rows: [_state(row) for row in rows])

    def enable(self, name: str, *, enabled: bool) -> Statement[datetime | None]:
        """Switches a schedule on or off; gives its next slot."""
        sql = (
            f"update {self.quoted}.schedule set enabled = %s where name = %s and {_OURS} "
            "returning next_run_at"
        )
        return Statement(sql, (enabled, checked_name(name)), partial(_one_of, name))

    def run_now(self, name: str) -> Statement[int]:
        """Enqueues a schedule's job by hand."""
        sql = f"select {self.quoted}.run_schedule(%s)"
        return Statement(sql, (checked_name(name),), readers.one)

    def runs(
        self, name: str, before: datetime | None, limit: int
    ) -> Statement[builtins.list[ScheduleRun]]:
        """What became of a schedule's slots, the latest first."""
        sql = (
            f"select slot, fired_at, outcome, job_id, error from {self.quoted}.schedule_run "
            f"where schedule_id = (select id from {self.quoted}.schedule where name = %s "
            f"and {_OURS}) and slot < coalesce(%s::timestamptz, 'infinity') "
            "order by slot desc limit %s"
        )
        params = (checked_name(name), checked_time(before, "before"), checked_limit(limit))
        return Statement(sql, params, lambda rows: [_run(row) for row in rows])

    def preview(self, schedule: Schedule | str, count: int) -> Statement[builtins.list[datetime]]:
        """The next slots of a schedule, stored or not."""
        many = whole(count, "count", 1, _MOST_SLOTS)
        s = self.quoted
        if isinstance(schedule, str):
            sql = (
                f"select array(select {s}.next_slots(name, %s)) from {s}.schedule "
                f"where name = %s and {_OURS}"
            )
            return Statement(sql, (many, checked_name(schedule)), partial(_one_of, schedule))
        sql = f"select {s}._slots(jsonb_populate_record(null::{s}.schedule, %s::jsonb), %s)"
        return Statement(sql, (schedule_text(schedule), many), readers.first_column)

    def tick(self, limit: int) -> Statement[int]:
        """Fires what is due."""
        sql = f"select {self.quoted}.tick(%s)"
        return Statement(sql, (checked_limit(limit),), readers.one)

    def due_in(self) -> Statement[float | None]:
        """Seconds until the next slot of any schedule; None if none will come."""
        s = self.quoted
        sql = f"select extract(epoch from {s}._next_due() - {s}.clock())::float8"
        return Statement(sql, (), readers.one)


def _one_of(name: str, rows: builtins.list[Row]) -> Any:  # noqa: ANN401 - of any type
    if not rows:
        raise ScheduleNotFound(name)
    return rows[0][0]


def _state_of(name: str, rows: builtins.list[Row]) -> ScheduleState:
    if not rows:
        raise ScheduleNotFound(name)
    return _state(rows[0])


def _state(row: Row) -> ScheduleState:
    plain, state = _PLAIN.split(", "), _STATE.split(", ")
    payload, metadata, backoff, opens, closes = row[len(plain) + len(state) :]
    schedule = Schedule(
        **dict(zip(plain, row, strict=False)),
        payload=jsontext.loads(payload),
        metadata=None if metadata is None else jsontext.loads(metadata),
        retry=None if backoff is None else StoredRetry(jsontext.loads(backoff)),
        window=None if opens is None else (opens, closes),
    )
    return ScheduleState(schedule=schedule, **dict(zip(state, row[len(plain) :], strict=False)))


def _run(row: Row) -> ScheduleRun:
    slot, fired_at, outcome, job_id, error = row
    return ScheduleRun(slot=slot, fired_at=fired_at, outcome=outcome, job_id=job_id, error=error)
