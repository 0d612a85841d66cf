"""Each operation of pgqueue as a value: its SQL, its parameters, and how its rows are read.

A `Statement` is data, so one definition serves the sync client, the async client and any connection
of the caller's. All text is rendered once per schema.
"""

from __future__ import annotations

import builtins
from collections.abc import Generator, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import attrs

from pgqueue import jsontext, models, readers
from pgqueue.arguments import (
    backoff_text,
    checked_id,
    checked_job,
    checked_limit,
    checked_name,
    checked_names,
    checked_schema,
    checked_span,
    checked_time,
    metadata_text,
    name_array,
    name_or_none,
    number_array,
    shown,
    span_array,
    span_text,
)
from pgqueue.errors import InvalidJob, JobNotFound, LeaseLost
from pgqueue.readers import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pgqueue.models import JobControl, NewJob

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

DEFAULT_SCHEMA = "pgqueue"
_ENQUEUE_TYPES = {
    "payload": "::jsonb",
    "run_at": "::timestamptz",
    "delay": "::interval",
    "backoff": "::jsonb",
    "tags": "::text[]",
    "metadata": "::jsonb",
}
_SUMMARY_COLUMNS = readers.SUMMARY.replace("metadata", "metadata::text")


@attrs.frozen
class Statement(Generic[T]):
    """SQL with its parameters, and the reader of its rows (plain tuples)."""

    sql: str
    params: tuple[object, ...]
    read: Callable[[list[Row]], T]


@attrs.frozen
class Copy:
    """A COPY FROM STDIN, and the pieces of its text.

    Pieces are asked for one by one, while the server works off what it was sent.
    """

    sql: str
    pieces: Iterator[str]


Step = Statement[Any] | Copy
Steps = Generator[Step, Any, T]
"""Several steps: they are sent what each statement gave, and return a result."""


class Operation(Protocol[T_co]):
    """An operation of several steps in one transaction."""

    def steps(self) -> Steps[T_co]:
        """The steps."""

    def restart(self) -> bool:
        """Makes `steps` begin anew, after the transaction was undone; False if they cannot."""


def _storable(entry: Mapping[str, str]) -> dict[str, str]:
    return {key: jsontext.storable_text(value) for key, value in entry.items()}


class Statements:
    """The operations on one schema. Arguments are checked here, once, for every kind of client."""

    def __init__(self, schema: str = DEFAULT_SCHEMA) -> None:
        self.schema = checked_schema(schema)
        s = self.quoted = f'"{schema}"'
        self._enqueue: dict[tuple[str, ...], str] = {}
        self._enqueue_many = f"select id, duplicate from {s}.enqueue_many(%s::jsonb)"
        self._claim = (
            "select id, token, queue, kind, payload::text, priority, attempt, max_attempts, "
            'run_at, enqueued_at, claimed_at, lease_until, "position", dedupe_key, tags, '
            "metadata::text, ref "
            f"from {s}.claim(%s::text[], %s, %s::interval, %s::text[], %s, %s::bigint[])"
        )
        pair = "%s::bigint[], %s::bigint[]"
        self._ack = f"select {s}.ack({pair}, %s::jsonb)"
        self._fail = f"select {s}.fail({pair}, %s::jsonb, %s::interval[])"
        self._skip = f"select {s}.skip({pair}, %s::text[])"
        self._cancel_claimed = f"select {s}.cancel_claimed({pair}, %s::text[])"
        self._snooze = f"select {s}.snooze({pair}, %s::interval[])"
        self._release = f"select {s}.release({pair})"
        self._extend = f"select id, cancel_requested from {s}.extend({pair}, %s::interval)"

    # Enqueue

    def enqueue(self, job: NewJob) -> Statement[models.EnqueueResult]:
        """Stores one job."""
        job = checked_job(job)
        given: dict[str, object] = {
            "kind": job.kind,
            "payload": jsontext.dumps(job.payload),
            "queue": job.queue,
        }
        if job.priority != models.DEFAULT_PRIORITY:
            given["priority"] = job.priority
        if job.dedupe_key is not None:
            given["dedupe_key"] = job.dedupe_key
            given["dedupe_until"] = job.dedupe_until
            given["on_conflict"] = job.on_conflict
        options = (
            ("run_at", job.run_at),
            ("delay", None if job.delay is None else span_text(job.delay)),
            ("max_attempts", job.max_attempts),
            ("backoff", backoff_text(job)),
            ("tags", None if job.tags is None else list(job.tags)),
            ("metadata", metadata_text(job)),
            ("ref", job.ref),
        )
        given.update((name, value) for name, value in options if value is not None)
        # What is not given is left to the function: each parameter costs the client 2 us.
        names = tuple(given)
        sql = self._enqueue.get(names) or self._enqueue_with(names)
        return Statement(sql, tuple(given.values()), readers.enqueued)

    def _enqueue_with(self, names: tuple[str, ...]) -> str:
        given = ", ".join(f"{name} => %s{_ENQUEUE_TYPES.get(name, '')}" for name in names)
        sql = f"select id, duplicate from {self.quoted}.enqueue({given})"
        self._enqueue[names] = sql
        return sql

    def enqueue_many(self, jobs: Iterable[str]) -> Statement[builtins.list[Row]]:
        """Stores jobs given as JSON objects (`job_text`)."""
        return Statement(self._enqueue_many, (f"[{','.join(jobs)}]",), list)

    def limits(self) -> Statement[Row]:
        """The database's time, the default attempts, the payload cap in bytes, and if COPY may be.

        It may not where the caller sees but some rows: Postgres refuses it then.
        """
        s = self.quoted
        sql = (
            f"select {s}.clock(), max_attempts, max_payload_bytes, "
            f"not pg_catalog.row_security_active('{s}.job') from {s}.setting"
        )
        return Statement(sql, (), lambda rows: rows[0])

    def reserve(self, count: int) -> Statement[builtins.list[Row]]:
        """`count` fresh pairs of id and position."""
        s = self.quoted
        # Usually both are without a gap, and then their beginnings say it all.
        gap = "max(r.id) - min(r.id) + max(r.position) - min(r.position) > 2 * (count(*) - 1)"
        sql = (
            "select min(r.id), min(r.position), "
            f"case when {gap} then array_agg(r.id) end, "
            f"case when {gap} then array_agg(r.position) end "
            f"from (select nextval('{s}.job_id_seq') as id, "
            f"nextval('{s}.position_seq') as position from generate_series(1, %s)) r"
        )
        return Statement(sql, (count,), partial(readers.places, count))

    def copy_jobs(self, columns: str, pieces: Iterator[str]) -> Copy:
        """Stores rows as `copytext` writes them."""
        return Copy(f"copy {self.quoted}.job ({columns}) from stdin", pieces)

    def mark_lanes(self, lanes: Sequence[tuple[str, int]]) -> Statement[None]:
        """What a COPY does first, before it draws positions: new lanes are marked."""
        return self._for_lanes("_mark_lanes", lanes)

    def enqueued(self, lanes: Sequence[tuple[str, int]]) -> Statement[None]:
        """What a COPY owes afterwards: new lanes are marked, sleepers rung."""
        return self._for_lanes("_enqueued", lanes)

    def _for_lanes(self, function: str, lanes: Sequence[tuple[str, int]]) -> Statement[None]:
        sql = f"select {self.quoted}.{function}(%s::text[], %s::smallint[])"
        queues = name_array(tuple(queue for queue, _ in lanes), "queue")
        return Statement(sql, (queues, number_array(p for _, p in lanes)), readers.none)

    # Claim and end

    def claim(
        self,
        queues: Sequence[str],
        limit: int,
        lease: timedelta,
        kinds: Sequence[str] | None,
        worker: str | None,
        floors: str | None,
        control: JobControl | None = None,
    ) -> Statement[builtins.list[models.Job[Any]]]:
        """Takes up to `limit` ready jobs, most urgent first."""
        params = (
            name_array(tuple(checked_names(queues, "queue")), "queue"),
            checked_limit(limit),
            span_text(checked_span(lease, "lease", zero=False)),
            None if kinds is None else name_array(tuple(kinds), "kind"),
            None if worker is None else jsontext.checked_text(worker, "worker"),
            floors,
        )
        return Statement(self._claim, params, partial(readers.claimed, control))

    def _ending(
        self, sql: str, jobs: Sequence[models.Job[Any]], *more: object
    ) -> Statement[builtins.list[int]]:
        ids = number_array([job.id for job in jobs])
        tokens = number_array([job.token for job in jobs])
        return Statement(sql, (ids, tokens, *more), readers.one)

    def ack(
        self, jobs: Sequence[models.Job[Any]], results: Sequence[str | None] | None
    ) -> Statement[builtins.list[int]]:
        """Ends jobs well; gives the ids that were lost. `results` are JSON texts."""
        text = None
        if results is not None:
            text = f"[{','.join('null' if result is None else result for result in results)}]"
        return self._ending(self._ack, jobs, text)

    def fail(
        self,
        jobs: Sequence[models.Job[Any]],
        errors: Sequence[Mapping[str, str]] | None,
        delays: Sequence[timedelta | None] | None,
    ) -> Statement[builtins.list[int]]:
        """Ends attempts badly; gives the ids that were lost. `errors` are of `error_entry`."""
        text = None if errors is None else jsontext.dumps(list(map(_storable, errors)), "the error")
        for delay in delays or ():
            if delay is not None:
                checked_span(delay, "delay")
        return self._ending(self._fail, jobs, text, None if delays is None else span_array(delays))

    def skip(
        self, jobs: Sequence[models.Job[Any]], reasons: Sequence[str]
    ) -> Statement[builtins.list[int]]:
        """Ends jobs as skipped; gives the ids that were lost."""
        return self._ending(self._skip, jobs, [jsontext.storable_text(r) for r in reasons])

    def cancel_claimed(
        self, jobs: Sequence[models.Job[Any]], reasons: Sequence[str]
    ) -> Statement[builtins.list[int]]:
        """Ends claimed jobs as cancelled; gives the ids that were lost."""
        return self._ending(
            self._cancel_claimed, jobs, [jsontext.storable_text(r) for r in reasons]
        )

    def snooze(
        self, jobs: Sequence[models.Job[Any]], delays: Sequence[timedelta]
    ) -> Statement[builtins.list[int]]:
        """Puts jobs back for their delays; gives the ids that were lost."""
        return self._ending(
            self._snooze, jobs, span_array(checked_span(delay, "delay") for delay in delays)
        )

    def release(self, jobs: Sequence[models.Job[Any]]) -> Statement[builtins.list[int]]:
        """Gives jobs back unstarted; gives the ids that were lost."""
        return self._ending(self._release, jobs)

    def extend(
        self, claims: Sequence[tuple[int, int]], lease: timedelta
    ) -> Statement[dict[int, bool]]:
        """Renews the leases of (id, token); gives those still held, with whether to cancel them."""
        params = (
            number_array([job_id for job_id, _ in claims]),
            number_array([token for _, token in claims]),
            span_text(checked_span(lease, "lease", zero=False)),
        )
        return Statement(self._extend, params, dict)

    # Operate

    def cancel(
        self, ids: Sequence[int], reason: str | None
    ) -> Statement[dict[int, models.JobState]]:
        """Cancels jobs by id, whoever has them."""
        sql = f"select id, state from {self.quoted}.cancel(%s::bigint[], %s)"
        text = None if reason is None else jsontext.storable_text(reason)
        return Statement(sql, (number_array(ids), text), readers.states)

    def cancel_ref(self, ref: str, reason: str | None) -> Statement[int]:
        """Cancels the unfinished jobs that refer to `ref`."""
        sql = f"select {self.quoted}.cancel_ref(%s, %s)"
        text = None if reason is None else jsontext.storable_text(reason)
        return Statement(sql, (jsontext.checked_text(ref, "ref"), text), readers.one)

    def retry(self, ids: Sequence[int]) -> Statement[builtins.list[int]]:
        """Makes jobs run again now; gives those that will."""
        return Statement(
            f"select {self.quoted}.retry(%s::bigint[])", (number_array(ids),), readers.first_column
        )

    def redrive(self, queue: str | None, kind: str | None, limit: int) -> Statement[int]:
        """Retries dead jobs."""
        sql = f"select {self.quoted}.redrive(%s, %s, %s)"
        params = (
            name_or_none(queue, "queue"),
            name_or_none(kind, "kind"),
            checked_limit(limit),
        )
        return Statement(sql, params, readers.one)

    def purge(self, queue: str, kind: str | None, limit: int) -> Statement[int]:
        """Deletes waiting jobs."""
        sql = f"select {self.quoted}.purge(%s, %s, %s)"
        params = (checked_name(queue, "queue"), name_or_none(kind, "kind"), checked_limit(limit))
        return Statement(sql, params, readers.one)

    def pause(self, queue: str, until: datetime | None, reason: str | None) -> Statement[None]:
        """Stops claims from a queue."""
        sql = f"select {self.quoted}.pause(%s, coalesce(%s::timestamptz, 'infinity'), %s)"
        text = None if reason is None else jsontext.storable_text(reason)
        return Statement(
            sql, (checked_name(queue, "queue"), checked_time(until, "until"), text), readers.none
        )

    def resume(self, queue: str) -> Statement[bool]:
        """Lets claims go on."""
        sql = f"select {self.quoted}.resume(%s)"
        return Statement(sql, (checked_name(queue, "queue"),), readers.one)

    def maintain(self, limit: int = models.DEFAULT_UPKEEP) -> Statement[models.Maintenance]:
        """One round of upkeep, of up to `limit` jobs."""
        sql = f"select promoted, reaped, next_run_at from {self.quoted}.maintain(%s)"
        return Statement(sql, (checked_limit(limit),), lambda rows: models.Maintenance(*rows[0]))

    def upkeep(self, limit: int) -> Statement[tuple[int, float | None]]:
        """The same for a worker: how many jobs were moved, and seconds until the next is due."""
        sql = (
            "select promoted + reaped, extract(epoch from next_run_at - "
            f"{self.quoted}.clock())::float8 from {self.quoted}.maintain(%s)"
        )
        return Statement(sql, (limit,), lambda rows: rows[0])

    def note_minute(self, source: str, figures: str) -> Statement[tuple[bool, float]]:
        """What a worker counted; gives whether to count, and in how many seconds to ask again."""
        sql = f"select active, due_in from {self.quoted}._note_minute(%s, %s::jsonb)"
        return Statement(sql, (source, figures), lambda rows: rows[0])

    def sleep(
        self, queues: Sequence[str], worker: str, patience: timedelta, kinds: Sequence[str]
    ) -> Statement[None]:
        """Asks to be rung for jobs of `kinds` in `queues` for the time of `patience`."""
        sql = f"select {self.quoted}.sleep(%s::text[], %s, %s::interval, %s::text[])"
        names = name_array(tuple(queues), "queue")
        params = (names, worker, span_text(patience), name_array(tuple(kinds), "kind"))
        return Statement(sql, params, readers.none)

    def wake(self, worker: str) -> Statement[None]:
        """Asks not to be rung any more."""
        return Statement(f"select {self.quoted}.wake(%s)", (worker,), readers.none)

    # Look

    def get(self, job_id: int) -> Statement[models.JobDetail]:
        """All that is stored of a job."""
        sql = (
            f"select {_SUMMARY_COLUMNS}, payload::text, result::text, history "
            f"from {self.quoted}.all_jobs where id = %s"
        )
        return Statement(sql, (checked_id(job_id),), partial(readers.detail, job_id))

    def state(self, job_id: int) -> Statement[models.JobState]:
        """A job's state alone."""

        def read(rows: builtins.list[Row]) -> models.JobState:
            if not rows:
                raise JobNotFound(job_id)
            return models.JobState(rows[0][0])

        return Statement(
            f"select state from {self.quoted}.all_jobs where id = %s", (checked_id(job_id),), read
        )

    def list(
        self,
        queue: str | None,
        kind: str | None,
        state: models.JobState | str | None,
        tag: str | None,
        ref: str | None,
        before: int | None,
        limit: int,
    ) -> Statement[builtins.list[models.JobSummary]]:
        """Jobs by filter, newest first, below the id `before`."""
        filters = {
            "queue = %s": name_or_none(queue, "queue"),
            "kind = %s": name_or_none(kind, "kind"),
            "state = %s": None if state is None else str(_checked_state(state)),
            "tags @> array[%s]": None if tag is None else jsontext.checked_text(tag, "tag"),
            "ref = %s": None if ref is None else jsontext.checked_text(ref, "ref"),
            "id < %s": None if before is None else checked_id(before),
        }
        given = {text: value for text, value in filters.items() if value is not None}
        where = f"where {' and '.join(given)} " if given else ""
        sql = (
            f"select {_SUMMARY_COLUMNS} from {self.quoted}.all_jobs {where}"
            "order by id desc limit %s"
        )
        return Statement(sql, (*given.values(), checked_limit(limit)), readers.summaries)

    def stats(self) -> Statement[builtins.list[models.QueueStats]]:
        """Counts per queue."""
        sql = (
            "select queue, ready, scheduled, claimed, dead, oldest_wait, paused_until "
            f"from {self.quoted}.stats()"
        )
        return Statement(sql, (), lambda rows: [models.QueueStats(*row) for row in rows])


def _checked_state(state: models.JobState | str) -> models.JobState:
    try:
        return models.JobState(state)
    except ValueError:
        raise InvalidJob(
            f"state is {shown(state)}; pass one of {', '.join(s.value for s in models.JobState)}"
        ) from None


def raise_lost(ids: Sequence[int]) -> None:
    """Raises `LeaseLost` if there are any `ids`."""
    if ids:
        raise LeaseLost(ids)
