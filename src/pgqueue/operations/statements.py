"""Each operation as a value: see `pgqueue.statements`."""

from __future__ import annotations

import builtins
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from pgqueue import jsontext, readers
from pgqueue.arguments import (
    checked_id,
    checked_limit,
    checked_name,
    checked_schema,
    checked_span,
    checked_time,
    name_or_none,
    number_array,
    shown,
    span_text,
    whole,
)
from pgqueue.errors import InvalidJob
from pgqueue.models import JobState
from pgqueue.operations.history import Minute, minute
from pgqueue.operations.models import AuditEntry, Pause
from pgqueue.statements import Statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgqueue.models import Job, JobControl
    from pgqueue.readers import Row

EVERY_QUEUE = "*"
"""The row of the table of queues that pauses all."""
_SETTINGS = ("statement_timeout", "plan_cache_mode", "jit")
_LONGEST_NAME = 1_000
_AUDIT = "id, at, actor, via, action, job_ids, filter::text, queue, detail::text, affected, tenant"
_MINUTE = (
    "queue, minute, enqueued, started, succeeded, failed, dead, cancelled, skipped, waits, runs, "
    "ready, scheduled, claimed, oldest_wait"
)
_CLAIMED = (
    "id, token, queue, kind, payload::text, priority, attempt, max_attempts, run_at, enqueued_at, "
    'claimed_at, lease_until, "position", dedupe_key, tags, metadata::text, ref'
)


@attrs.frozen(kw_only=True)
class Operator:
    """Who does something, and by what means."""

    actor: str | None
    via: str

    def params(self) -> tuple[object, ...]:
        """As the audit log takes them.

        Raises:
            InvalidJob: they cannot be stored.
        """
        actor: object = self.actor
        if actor is not None:
            actor = jsontext.checked_text(self.actor or "", "actor")
            if not 0 < len(str(actor).encode()) <= _LONGEST_NAME:
                raise InvalidJob(f"actor is {shown(actor)}; pass 1 to {_LONGEST_NAME} bytes")
        if self.via not in ("api", "cli", "dashboard"):
            raise InvalidJob(f"via is {shown(self.via)}; pass 'api', 'cli' or 'dashboard'")
        return actor, self.via


@attrs.frozen(kw_only=True)
class Note:
    """What the audit log is to say."""

    operator: Operator
    action: str
    job_ids: Sequence[int] | None = None
    filter: str | None = None
    queue: str | None = None
    detail: str | None = None


def details(**given: object) -> str | None:
    """The detail of a note, as JSON text."""
    known = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in given.items()
        if value is not None
    }
    return jsontext.dumps(known, "detail") if known else None


def reason_text(reason: str | None) -> str | None:
    """A reason as it can be stored."""
    return None if reason is None else jsontext.storable_text(reason)


class OperationStatements:
    """The operations on one schema. Arguments are checked here."""

    def __init__(self, schema: str) -> None:
        self.quoted = f'"{checked_schema(schema)}"'

    # Bounds on what is read

    def set_for_reading(self, milliseconds: int) -> Statement[Row]:
        """Bounds the time of each statement of this transaction; gives the settings before."""
        before = ", ".join(f"current_setting('{name}')" for name in _SETTINGS)
        # Which index to use depends on what is asked for: no plan fits all.
        sql = (
            f"select {before}, set_config('statement_timeout', %s, true), "
            "set_config('plan_cache_mode', 'force_custom_plan', true), "
            "set_config('jit', 'off', true)"
        )
        return Statement(sql, (f"{milliseconds}ms",), lambda rows: rows[0][: len(_SETTINGS)])

    def limit_to(self, milliseconds: int) -> Statement[None]:
        """Bounds the time of the next statements of this transaction."""
        sql = "select set_config('statement_timeout', %s, true)"
        return Statement(sql, (f"{milliseconds}ms",), readers.none)

    def set_back(self, before: Row) -> Statement[None]:
        """Undoes `set_for_reading`: the transaction may be the caller's."""
        calls = ", ".join(f"set_config('{name}', %s, true)" for name in _SETTINGS)
        return Statement(f"select {calls}", before, readers.none)

    # The audit log

    def note(self, note: Note, affected: int) -> Statement[int]:
        """Writes an entry; gives its id."""
        sql = (
            f"insert into {self.quoted}.audit "
            "(actor, via, action, job_ids, filter, queue, detail, affected) values "
            "(coalesce(%s, session_user), %s, %s, %s::bigint[], %s::jsonb, %s, %s::jsonb, %s) "
            "returning id"
        )
        ids = None if note.job_ids is None else number_array(note.job_ids)
        params = (
            *note.operator.params(), note.action, ids, note.filter, note.queue, note.detail,
            affected,
        )  # fmt: skip
        return Statement(sql, params, readers.one)

    def note_more(self, audit_id: int, affected: int) -> Statement[None]:
        """Adds to an entry."""
        sql = (
            f"update {self.quoted}.audit set affected = affected + %s where id = %s "
            "returning affected"
        )
        return Statement(sql, (affected, audit_id), readers.none)

    def audit(
        self, actor: str | None, action: str | None, before: int | None, limit: int
    ) -> Statement[builtins.list[AuditEntry]]:
        """Entries, the latest first."""
        filters = {
            "actor = %s": None if actor is None else jsontext.checked_text(actor, "actor"),
            "action = %s": None if action is None else jsontext.checked_text(action, "action"),
            "id < %s": None if before is None else checked_id(before),
        }
        given = {text: value for text, value in filters.items() if value is not None}
        where = f"where {' and '.join(given)} " if given else ""
        sql = f"select {_AUDIT} from {self.quoted}.audit {where}order by id desc limit %s"
        params = (*given.values(), checked_limit(limit))
        return Statement(sql, params, lambda rows: [_entry(row) for row in rows])

    # Single jobs

    def edit(
        self, job_id: int, run_at: datetime | None, priority: int | None
    ) -> Statement[JobState]:
        """Changes a waiting job; gives its state."""
        level = None if priority is None else whole(priority, "priority", 0, 9)
        moment = checked_time(run_at, "run_at")
        if level is None and moment is None:
            raise InvalidJob("nothing is to be changed; pass run_at, priority, or both")
        sql = f"select {self.quoted}.edit(%s, %s::timestamptz, %s::integer)"
        params = (checked_id(job_id), moment, level)
        return Statement(sql, params, lambda rows: JobState(rows[0][0]))

    def run_now(self, job_id: int) -> Statement[None]:
        """Makes a waiting job ready."""
        s = self.quoted
        return Statement(f"select {s}.edit(%s, {s}.clock())", (checked_id(job_id),), readers.none)

    def claim_one(
        self, job_id: int, lease: timedelta, worker: str | None, control: JobControl | None
    ) -> Statement[Job[Any]]:
        """Claims a waiting job, whatever is paused."""
        sql = f"select {_CLAIMED} from {self.quoted}.claim_one(%s, %s::interval, %s)"
        span = span_text(checked_span(lease, "lease", zero=False))
        name = None if worker is None else jsontext.checked_text(worker, "worker")
        read = partial(readers.claimed, control)
        return Statement(sql, (checked_id(job_id), span, name), lambda rows: read(rows)[0])

    # Bulk

    def last_id(self) -> Statement[int]:
        """The greatest id that was given away."""
        sql = f"select coalesce(pg_sequence_last_value('{self.quoted}.job_id_seq'), 0)"
        return Statement(sql, (), readers.one)

    def act(self, action: str, ids: Sequence[int], reason: str | None) -> Statement[int]:
        """Does it to jobs; gives to how many."""
        s, array = self.quoted, number_array(ids)
        if action == "cancel":
            sql = f"select count(*) from {s}.cancel(%s::bigint[], %s)"
            return Statement(sql, (array, reason_text(reason)), readers.one)
        if action == "retry":
            return Statement(f"select count(*) from {s}.retry(%s::bigint[])", (array,), readers.one)
        return Statement(f"select {s}.delete(%s::bigint[])", (array,), readers.one)

    # The switch

    def pause(
        self, queue: str | None, until: datetime | None, reason: str | None
    ) -> Statement[None]:
        """Stops claims."""
        name = EVERY_QUEUE if queue is None else checked_name(queue, "queue")
        sql = f"select {self.quoted}.pause(%s, coalesce(%s::timestamptz, 'infinity'), %s)"
        params = (name, checked_time(until, "until"), reason_text(reason))
        return Statement(sql, params, readers.none)

    def resume(self, queue: str | None) -> Statement[bool]:
        """Lets claims go on."""
        name = EVERY_QUEUE if queue is None else checked_name(queue, "queue")
        return Statement(f"select {self.quoted}.resume(%s)", (name,), readers.one)

    def paused(self) -> Statement[Pause | None]:
        """Whether all is paused."""
        s = self.quoted
        sql = (
            f"select paused_at, paused_until, pause_reason from {s}.queue "
            f"where name = '{EVERY_QUEUE}' and paused_until > {s}.clock()"
        )

        def read(rows: builtins.list[Row]) -> Pause | None:
            if not rows:
                return None
            since, until, reason = rows[0]
            return Pause(since=since, until=until, reason=reason)

        return Statement(sql, (), read)

    # Figures

    def history(
        self,
        queue: str | None,
        since: datetime | timedelta,
        until: datetime | None,
    ) -> Statement[builtins.list[Minute]]:
        """The rows of minutes, in their order; several of one minute where there are sources."""
        s = self.quoted
        name = name_or_none(queue, "queue")
        if isinstance(since, timedelta):
            start, first = f"{s}.clock() - %s::interval", span_text(checked_span(since, "since"))
        else:
            start, first = "%s::timestamptz", checked_time(since, "since")  # type: ignore[assignment]
        only = "" if name is None else "and queue = %s "
        sql = (
            f"select {_MINUTE} from {s}.minute where minute >= {start} "
            f"and minute < coalesce(%s::timestamptz, 'infinity') {only}order by minute, queue"
        )
        given = (first, checked_time(until, "until"), *(() if name is None else (name,)))
        return Statement(sql, given, lambda rows: [minute(row) for row in rows])


def _entry(row: Row) -> AuditEntry:
    entry_id, at, actor, via, action, job_ids, chosen, queue, detail, affected, tenant = row
    return AuditEntry(
        id=entry_id, at=at, actor=actor, via=via, action=action, job_ids=job_ids,
        filter=None if chosen is None else jsontext.loads(chosen), queue=queue,
        detail=None if detail is None else jsontext.loads(detail), affected=affected, tenant=tenant,
    )  # fmt: skip
