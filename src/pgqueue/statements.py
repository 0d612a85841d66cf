"""Each operation of pgqueue as a value: its SQL, its parameters, and how its rows are read.

A `Statement` is data, so one definition serves the sync client, the async client and any connection of the
caller's. All text is rendered once per schema. Arrays of numbers are sent as text, because a Python list
costs 2 us an element to adapt, the text 0.1 us.
"""

from __future__ import annotations

import builtins
import re
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

from pgqueue import jsontext, models
from pgqueue.errors import ConfigurationError, InvalidJob, JobNotFound, LeaseLost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pgqueue.jsontext import Json
    from pgqueue.models import JobControl, NewJob

T = TypeVar("T")
Row = tuple[Any, ...]

DEFAULT_SCHEMA = "pgqueue"
_NAME = re.compile(r"[A-Za-z0-9_.:/@-]{1,128}")
_BAD_IN_SCHEMA = re.compile(r"[\"'$%\\\s{}\0]")
_MAX_IDENTIFIER = 63
_ENQUEUE_COLUMNS = (
    "kind, payload, queue, priority, run_at, delay, max_attempts, backoff, "
    "dedupe_key, dedupe_until, on_conflict, tags, metadata, ref"
)
_SUMMARY = (
    "id, state, queue, kind, priority, attempt, max_attempts, run_at, enqueued_at, claimed_at, "
    "lease_until, finished_at, worker, cancel_requested, dedupe_key, tags, metadata, ref"
)


@attrs.frozen
class Statement(Generic[T]):
    """SQL with its parameters, and the reader of its rows (plain tuples)."""

    sql: str
    params: tuple[object, ...]
    read: Callable[[list[Row]], T]


def checked_name(name: str, what: str) -> str:
    """A queue's or kind's name, if it is one: 1 to 128 of letters, digits and `_ . : / @ -`.

    Raises:
        InvalidJob: it is not.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidJob(
            f"{what} {name!r} is no name; use 1 to 128 of the characters A-Z a-z 0-9 _ . : / @ -"
        )
    return name


def checked_schema(schema: str) -> str:
    """A schema's name, if pgqueue can live in it: at most 63 bytes, no quotes, spaces, $, %, braces or backslash.

    (The rule is the one that Postgres has for the schemas of its extensions, a little stricter.)

    Raises:
        ConfigurationError: it is not.
    """
    fits = isinstance(schema, str) and 0 < len(schema.encode("utf-8", "replace")) <= _MAX_IDENTIFIER
    if not fits or _BAD_IN_SCHEMA.search(schema) or schema.startswith("pg_"):
        raise ConfigurationError(
            f"{schema!r} cannot be pgqueue's schema; use at most 63 bytes without quotes, spaces, "
            "$ % { } or backslashes, not starting with pg_"
        )
    return schema


def checked_time(value: datetime | None, what: str) -> datetime | None:
    """`value` if it is an aware datetime or None.

    Raises:
        InvalidJob: it is naive, or no datetime.
    """
    if value is not None and (not isinstance(value, datetime) or value.tzinfo is None):
        raise InvalidJob(f"{what} is {value!r}; pass an aware datetime, such as datetime.now(timezone.utc)")
    return value


def checked_span(value: timedelta, what: str, *, zero: bool = True) -> timedelta:
    """`value` if it is a timedelta of zero or more (or just more).

    Raises:
        InvalidJob: it is not.
    """
    least = "zero or more" if zero else "more than zero"
    if not isinstance(value, timedelta) or value < timedelta(0) or (not zero and not value):
        raise InvalidJob(f"{what} is {value!r}; pass a timedelta of {least}")
    return value


def _whole(value: int, what: str, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidJob(f"{what} is {value!r}; pass a whole number from {least} to {most}")
    return value


_COUNT = partial(_whole, least=1, most=1_000_000)
_INT4 = 2**31 - 1


def checked_job(job: NewJob) -> NewJob:
    """`job` if every part of it can be stored; its JSON values are checked when they are encoded.

    Raises:
        InvalidJob: with what is wrong and what to pass instead.
    """
    checked_name(job.kind, "kind")
    checked_name(job.queue, "queue")
    _whole(job.priority, "priority", 0, 9)
    checked_time(job.run_at, "run_at")
    if job.delay is not None:
        checked_span(job.delay, "delay")
        if job.run_at is not None:
            raise InvalidJob("both run_at and delay are given; pass one")
    if job.max_attempts is not None:
        _whole(job.max_attempts, "max_attempts", 1, _INT4)
    if job.dedupe_key is not None:
        jsontext.checked_text(job.dedupe_key, "dedupe_key")
    if job.dedupe_until not in ("start", "finish"):
        raise InvalidJob(f"dedupe_until is {job.dedupe_until!r}; pass 'start' or 'finish'")
    if job.on_conflict not in ("return", "replace", "raise"):
        raise InvalidJob(f"on_conflict is {job.on_conflict!r}; pass 'return', 'replace' or 'raise'")
    if job.ref is not None:
        jsontext.checked_text(job.ref, "ref")
    for tag in job.tags or ():
        jsontext.checked_text(tag, "a tag")
    return job


def backoff_text(job: NewJob) -> str | None:
    """The retry policy of `job` as JSON text, None for the default."""
    return None if job.retry is None else jsontext.dumps(job.retry.policy(), "retry")


def metadata_text(job: NewJob) -> str | None:
    """The metadata of `job` as JSON text."""
    return None if job.metadata is None else jsontext.dumps(job.metadata, "metadata")


def job_text(job: NewJob) -> str:
    """`job` as a JSON object, as the SQL function enqueue_many takes it."""
    payload = jsontext.dumps(job.payload)
    fields: dict[str, object] = {"kind": job.kind, "queue": job.queue, "priority": job.priority}
    if job.run_at is not None:
        fields["run_at"] = job.run_at.isoformat()
    if job.delay is not None:
        fields["delay"] = job.delay.total_seconds()
    if job.dedupe_key is not None:
        fields["dedupe_key"] = job.dedupe_key
        fields["dedupe_until"] = job.dedupe_until
        fields["on_conflict"] = job.on_conflict
    if job.retry is not None:
        fields["backoff"] = job.retry.policy()
    for name, value in (
        ("max_attempts", job.max_attempts), ("tags", job.tags), ("metadata", job.metadata), ("ref", job.ref),
    ):  # fmt: skip
        if value is not None:
            fields[name] = value
    return f'{jsontext.dumps(fields, "the job")[:-1]},"payload":{payload}}}'


def number_array(numbers: Iterable[int]) -> str:
    """The text of a Postgres array of `numbers`."""
    return "{" + ",".join(map(str, numbers)) + "}"


def _one(rows: list[Row]) -> Any:  # noqa: ANN401
    return rows[0][0]


def _none(_: list[Row]) -> None:
    return None


def _first_column(rows: list[Row]) -> list[Any]:
    return [row[0] for row in rows]


def _enqueued(rows: list[Row]) -> models.EnqueueResult:
    return models.EnqueueResult(*rows[0])


def _in_claim_order(job: models.Job) -> tuple[int, int]:
    return (job.priority, job.position)


def _claimed(control: JobControl | None, rows: list[Row]) -> list[models.Job]:
    jobs = [models.Job(*row, control) for row in rows]
    if len(jobs) > 1:
        jobs.sort(key=_in_claim_order)
    return jobs


def _summary(row: Row) -> models.JobSummary:
    names = _SUMMARY.split(", ")
    fields = dict(zip(names, row, strict=False))
    fields["state"] = models.JobState(fields["state"])
    return models.JobSummary(**fields)


def _summaries(rows: list[Row]) -> list[models.JobSummary]:
    return [_summary(row) for row in rows]


def _attempt(entry: Mapping[str, Any]) -> models.Attempt:
    times = {
        name: datetime.fromisoformat(entry[name]).astimezone(timezone.utc) if name in entry else None
        for name in ("started", "ended")
    }
    return models.Attempt(**{**entry, **times})


def _detail(job_id: int, rows: list[Row]) -> models.JobDetail:
    if not rows:
        raise JobNotFound(job_id)
    *summary, payload, result, history = rows[0]
    return models.JobDetail(
        **attrs.asdict(_summary(tuple(summary)), recurse=False),
        payload=payload,
        result=result,
        history=tuple(_attempt(entry) for entry in history or ()),
    )


def _states(rows: list[Row]) -> dict[int, models.JobState]:
    return {row[0]: models.JobState(row[1]) for row in rows}


class Statements:
    """The operations on one schema. Arguments are checked here, once, for every kind of client."""

    def __init__(self, schema: str = DEFAULT_SCHEMA) -> None:
        self.schema = checked_schema(schema)
        s = self.quoted = f'"{schema}"'
        given = ", ".join(f"{name} => {value}" for name, value in zip(
            _ENQUEUE_COLUMNS.split(", "),
            ("%s", "%s::jsonb", "%s", "%s", "%s::timestamptz", "%s::interval", "%s", "%s::jsonb",
             "%s", "%s", "%s", "%s::text[]", "%s::jsonb", "%s"), strict=True))  # fmt: skip
        self._enqueue = f"select id, duplicate from {s}.enqueue({given})"
        self._enqueue_many = f"select id, duplicate from {s}.enqueue_many(%s::jsonb)"
        self._claim = (
            "select id, token, queue, kind, payload, priority, attempt, max_attempts, run_at, enqueued_at, "
            'claimed_at, lease_until, "position", dedupe_key, tags, metadata, ref '
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
        checked_job(job)
        tags = None if job.tags is None else list(job.tags)
        params = (
            job.kind, jsontext.dumps(job.payload), job.queue, job.priority, job.run_at, job.delay,
            job.max_attempts, backoff_text(job), job.dedupe_key, job.dedupe_until, job.on_conflict,
            tags, metadata_text(job), job.ref,
        )  # fmt: skip
        return Statement(self._enqueue, params, _enqueued)

    def enqueue_many(self, jobs: Iterable[str]) -> Statement[builtins.list[Row]]:
        """Stores jobs given as JSON objects (`job_text`)."""
        return Statement(self._enqueue_many, (f"[{','.join(jobs)}]",), list)

    def limits(self) -> Statement[Row]:
        """The database's time, the default number of attempts, and the payload cap in bytes."""
        sql = f"select {self.quoted}.clock(), max_attempts, max_payload_bytes from {self.quoted}.setting"
        return Statement(sql, (), lambda rows: rows[0])

    def reserve(self, count: int) -> Statement[builtins.list[Row]]:
        """`count` fresh pairs of id and position."""
        s = self.quoted
        sql = (
            f"select nextval('{s}.job_id_seq'), nextval('{s}.position_seq') from generate_series(1, %s)"
        )
        return Statement(sql, (count,), list)

    def copy_jobs(self) -> str:
        """The COPY that takes the rows of `bulk`."""
        return (
            f"copy {self.quoted}.job (id, position, run_at, queue, kind, priority, payload, max_attempts, "
            "backoff, tags, metadata, ref) from stdin"
        )

    def enqueued(self, lanes: Sequence[tuple[str, int]]) -> Statement[None]:
        """What a COPY owes afterwards: new lanes are marked, sleepers rung."""
        sql = f"select {self.quoted}._enqueued(%s::text[], %s::smallint[])"
        queues = [queue for queue, _ in lanes]
        return Statement(sql, (queues, number_array(p for _, p in lanes)), _none)

    # Claim and end

    def claim(  # noqa: PLR0913 - the SQL function's own parameters
        self,
        queues: Sequence[str],
        limit: int,
        lease: timedelta,
        kinds: Sequence[str] | None,
        worker: str | None,
        floors: str | None,
        control: JobControl | None = None,
    ) -> Statement[builtins.list[models.Job]]:
        """Takes up to `limit` ready jobs, most urgent first."""
        params = (
            [checked_name(queue, "queue") for queue in queues],
            _COUNT(limit, "limit"),
            checked_span(lease, "lease", zero=False),
            None if kinds is None else list(kinds),
            worker,
            floors,
        )
        return Statement(self._claim, params, partial(_claimed, control))

    def _ending(self, sql: str, jobs: Sequence[models.Job], *more: object) -> Statement[builtins.list[int]]:
        ids = number_array([job.id for job in jobs])
        tokens = number_array([job.token for job in jobs])
        return Statement(sql, (ids, tokens, *more), _one)

    def ack(self, jobs: Sequence[models.Job], results: Sequence[str | None] | None) -> Statement[builtins.list[int]]:
        """Ends jobs well; gives the ids that were lost. `results` are JSON texts."""
        text = None
        if results is not None:
            text = f"[{','.join('null' if result is None else result for result in results)}]"
        return self._ending(self._ack, jobs, text)

    def fail(
        self,
        jobs: Sequence[models.Job],
        errors: Sequence[Mapping[str, str]] | None,
        delays: Sequence[timedelta | None] | None,
    ) -> Statement[builtins.list[int]]:
        """Ends attempts badly; gives the ids that were lost. `errors` have class, message and traceback."""
        text = None if errors is None else jsontext.dumps(
            [{key: jsontext.storable_text(value) for key, value in error.items()} for error in errors], "the error"
        )  # fmt: skip
        return self._ending(self._fail, jobs, text, None if delays is None else list(delays))

    def skip(self, jobs: Sequence[models.Job], reasons: Sequence[str]) -> Statement[builtins.list[int]]:
        """Ends jobs as skipped; gives the ids that were lost."""
        return self._ending(self._skip, jobs, [jsontext.storable_text(r) for r in reasons])

    def cancel_claimed(self, jobs: Sequence[models.Job], reasons: Sequence[str]) -> Statement[builtins.list[int]]:
        """Ends claimed jobs as cancelled; gives the ids that were lost."""
        return self._ending(self._cancel_claimed, jobs, [jsontext.storable_text(r) for r in reasons])

    def snooze(self, jobs: Sequence[models.Job], delays: Sequence[timedelta]) -> Statement[builtins.list[int]]:
        """Puts jobs back for their delays; gives the ids that were lost."""
        return self._ending(self._snooze, jobs, [checked_span(d, "delay") for d in delays])

    def release(self, jobs: Sequence[models.Job]) -> Statement[builtins.list[int]]:
        """Gives jobs back unstarted; gives the ids that were lost."""
        return self._ending(self._release, jobs)

    def extend(self, claims: Sequence[tuple[int, int]], lease: timedelta) -> Statement[dict[int, bool]]:
        """Renews the leases of (id, token); gives those still held, with whether to cancel them."""
        params = (
            number_array([job_id for job_id, _ in claims]),
            number_array([token for _, token in claims]),
            checked_span(lease, "lease", zero=False),
        )
        return Statement(self._extend, params, dict)  # type: ignore[arg-type] # rows are pairs

    # Operate

    def cancel(self, ids: Sequence[int], reason: str | None) -> Statement[dict[int, models.JobState]]:
        """Cancels jobs by id, whoever has them."""
        sql = f"select id, state from {self.quoted}.cancel(%s::bigint[], %s)"
        text = None if reason is None else jsontext.storable_text(reason)
        return Statement(sql, (number_array(ids), text), _states)

    def cancel_ref(self, ref: str, reason: str | None) -> Statement[int]:
        """Cancels the unfinished jobs that refer to `ref`."""
        sql = f"select {self.quoted}.cancel_ref(%s, %s)"
        text = None if reason is None else jsontext.storable_text(reason)
        return Statement(sql, (jsontext.checked_text(ref, "ref"), text), _one)

    def retry(self, ids: Sequence[int]) -> Statement[builtins.list[int]]:
        """Makes jobs run again now; gives those that will."""
        return Statement(f"select {self.quoted}.retry(%s::bigint[])", (number_array(ids),), _first_column)

    def redrive(self, queue: str | None, kind: str | None, limit: int) -> Statement[int]:
        """Retries dead jobs."""
        sql = f"select {self.quoted}.redrive(%s, %s, %s)"
        return Statement(sql, (queue, kind, _COUNT(limit, "limit")), _one)

    def purge(self, queue: str, kind: str | None, limit: int) -> Statement[int]:
        """Deletes waiting jobs."""
        sql = f"select {self.quoted}.purge(%s, %s, %s)"
        return Statement(sql, (checked_name(queue, "queue"), kind, _COUNT(limit, "limit")), _one)

    def pause(self, queue: str, until: datetime | None, reason: str | None) -> Statement[None]:
        """Stops claims from a queue."""
        sql = f"select {self.quoted}.pause(%s, coalesce(%s::timestamptz, 'infinity'), %s)"
        text = None if reason is None else jsontext.storable_text(reason)
        return Statement(sql, (checked_name(queue, "queue"), checked_time(until, "until"), text), _none)

    def resume(self, queue: str) -> Statement[bool]:
        """Lets claims go on."""
        return Statement(f"select {self.quoted}.resume(%s)", (checked_name(queue, "queue"),), _one)

    def maintain(self) -> Statement[models.Maintenance]:
        """One round of upkeep."""
        sql = f"select promoted, reaped, next_run_at from {self.quoted}.maintain()"
        return Statement(sql, (), lambda rows: models.Maintenance(*rows[0]))

    def sleep(self, queues: Sequence[str], worker: str, patience: timedelta) -> Statement[None]:
        """Asks to be rung for `queues` for the time of `patience`."""
        sql = f"select {self.quoted}.sleep(%s::text[], %s, %s::interval)"
        return Statement(sql, (list(queues), worker, patience), _none)

    def wake(self, worker: str) -> Statement[None]:
        """Asks not to be rung any more."""
        return Statement(f"select {self.quoted}.wake(%s)", (worker,), _none)

    # Look

    def get(self, job_id: int) -> Statement[models.JobDetail]:
        """All that is stored of a job."""
        sql = f"select {_SUMMARY}, payload, result, history from {self.quoted}.all_jobs where id = %s"
        return Statement(sql, (job_id,), partial(_detail, job_id))

    def state(self, job_id: int) -> Statement[models.JobState]:
        """A job's state alone."""

        def read(rows: builtins.list[Row]) -> models.JobState:
            if not rows:
                raise JobNotFound(job_id)
            return models.JobState(rows[0][0])

        return Statement(f"select state from {self.quoted}.all_jobs where id = %s", (job_id,), read)

    def list(  # noqa: PLR0913 - one per filter
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
            "queue = %s": queue,
            "kind = %s": kind,
            "state = %s": None if state is None else str(_checked_state(state)),
            "tags @> array[%s]": tag,
            "ref = %s": ref,
            "id < %s": before,
        }
        given = {text: value for text, value in filters.items() if value is not None}
        where = f"where {' and '.join(given)} " if given else ""
        sql = f"select {_SUMMARY} from {self.quoted}.all_jobs {where}order by id desc limit %s"
        return Statement(sql, (*given.values(), _COUNT(limit, "limit")), _summaries)

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
            f"state is {state!r}; pass one of {', '.join(s.value for s in models.JobState)}"
        ) from None


def as_jobs(job: models.Job | Sequence[models.Job]) -> Sequence[models.Job]:
    """One job or several, as a sequence."""
    return [job] if isinstance(job, models.Job) else job


def as_ids(job_id: int | Sequence[int]) -> Sequence[int]:
    """One id or several, as a sequence."""
    return [job_id] if isinstance(job_id, int) else job_id


def raise_lost(ids: Sequence[int]) -> None:
    """Raises `LeaseLost` if there are any `ids`."""
    if ids:
        raise LeaseLost(ids)
