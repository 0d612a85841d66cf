"""Checks of what callers pass, before anything is sent; its text where Postgres reads text best.

Arrays of numbers are sent as text, because a Python list costs 2 us an element to adapt, the text
0.1 us.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import attrs

from pgqueue import jsontext
from pgqueue.errors import ConfigurationError, InvalidJob
from pgqueue.models import Job

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgqueue.jsontext import Json
    from pgqueue.models import NewJob

_NAME = re.compile(r"[A-Za-z0-9_.:/@-]{1,128}")
_BAD_IN_SCHEMA = re.compile(r"[\"'$%\\\s{}\0]")
_MAX_IDENTIFIER = 63
_MOST_AT_ONCE = 1_000_000
_INT4 = 2**31 - 1
_INT8 = 2**63 - 1
_HOUR = 3600


def shown(value: object) -> str:
    """The beginning of a repr, for messages; some values have none: very long numbers, say."""
    try:
        return f"{value!r:.200}"
    except Exception:  # noqa: BLE001 - somebody's __repr__
        return f"a {type(value).__name__}"


def checked_schema(schema: object) -> str:
    """A schema's name, if pgqueue can live in it.

    At most 63 bytes, and no quotes, spaces, dollars, percents, braces or backslashes.
    (The rule is the one that Postgres has for the schemas of its extensions, a little stricter.)

    Raises:
        ConfigurationError: it is not.
    """
    if (
        not isinstance(schema, str)
        or not 0 < len(schema.encode("utf-8", "replace")) <= _MAX_IDENTIFIER
        or not jsontext.is_storable(schema)
        or _BAD_IN_SCHEMA.search(schema)
        or schema.startswith("pg_")
    ):
        raise ConfigurationError(
            f"{shown(schema)} cannot be pgqueue's schema; use at most 63 bytes without quotes, "
            "spaces, $ % { } or backslashes, not starting with pg_"
        )
    return schema


def checked_name(name: object, what: str) -> str:
    """A queue's or kind's name, if it is one: 1 to 128 of letters, digits and `_ . : / @ -`.

    Raises:
        InvalidJob: it is not.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidJob(
            f"{what} {shown(name)} is no name; "
            "use 1 to 128 of the characters A-Z a-z 0-9 _ . : / @ -"
        )
    # Of a subclass, such as an enum, what it says when it is formatted may be another.
    return name if type(name) is str else str.__str__(name)


def name_or_none(name: object, what: str) -> str | None:
    """A name, or None.

    Raises:
        InvalidJob: neither.
    """
    return None if name is None else checked_name(name, what)


def checked_names(names: object, what: str) -> list[str]:
    """One name or several, as a list.

    Raises:
        InvalidJob: one of them is no name.
    """
    if not isinstance(names, Iterable):
        raise InvalidJob(f"{what} is {shown(names)}; pass a name or a list of names")
    return [checked_name(name, what) for name in ([names] if isinstance(names, str) else names)]


def checked_time(value: object, what: str) -> datetime | None:
    """`value`, in UTC, if it is an aware datetime or None; Postgres has no offset of 16 hours.

    Raises:
        InvalidJob: it is naive, no datetime, or before or after all times.
    """
    if value is None:
        return None
    if isinstance(value, datetime) and value.utcoffset() is not None:
        try:
            return value.astimezone(timezone.utc)
        except OverflowError:
            raise InvalidJob(f"{what} is {shown(value)}; pass one from 1900 to 9998") from None
    raise InvalidJob(
        f"{what} is {shown(value)}; pass an aware datetime, such as datetime.now(timezone.utc)"
    )


def checked_span(value: object, what: str, *, zero: bool = True) -> timedelta:
    """`value` if it is a timedelta of zero or more (or just more).

    Raises:
        InvalidJob: it is not.
    """
    if not isinstance(value, timedelta) or value < timedelta(0) or not (zero or value):
        least = "zero or more" if zero else "more than zero"
        raise InvalidJob(f"{what} is {shown(value)}; pass a timedelta of {least}")
    return value


def whole(value: object, what: str, least: int, most: int) -> int:
    """`value` if it is a whole number within the bounds.

    Raises:
        InvalidJob: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidJob(f"{what} is {shown(value)}; pass a whole number from {least} to {most}")
    return value if type(value) is int else int.__index__(value)


def checked_limit(value: object) -> int:
    """`value` if it is a whole number from 1 to a million.

    Raises:
        InvalidJob: it is not.
    """
    return whole(value, "limit", 1, _MOST_AT_ONCE)


def checked_id(value: object) -> int:
    """`value` if a job could have it as its id.

    Raises:
        InvalidJob: it is not.
    """
    return whole(value, "a job's id", 0, _INT8)


def as_ids(job_id: int | Iterable[int]) -> list[int]:
    """One id or several, as a list.

    Raises:
        InvalidJob: something else.
    """
    if isinstance(job_id, Iterable) and not isinstance(job_id, str):
        return [checked_id(each) for each in job_id]
    return [checked_id(job_id)]


def as_jobs(job: Job[Any] | Iterable[Job[Any]]) -> list[Job[Any]]:
    """One claimed job or several, as a list.

    Raises:
        InvalidJob: something else.
    """
    jobs: list[object] = list(job) if isinstance(job, Iterable) else [job]
    checked = [each for each in jobs if isinstance(each, Job)]
    if len(checked) != len(jobs):
        raise InvalidJob(f"{shown(job)} is no Job; pass what claim returned, one or a list")
    return checked


def as_results(
    jobs: Sequence[Job[Any]], result: Json, results: Sequence[Json] | None
) -> list[str | None] | None:
    """The results of `jobs` as JSON texts: each its own, or all the same; None if there are none.

    Raises:
        PayloadError: one is not JSON.
        InvalidJob: there are not as many as jobs.
    """
    if results is None and result is None:
        return None
    values = [result] * len(jobs) if results is None else results
    if len(values) != len(jobs):
        raise InvalidJob(f"{len(values)} results are given for {len(jobs)} jobs; pass one for each")
    return [None if value is None else jsontext.dumps(value, "result") for value in values]


def checked_job(job: NewJob) -> NewJob:
    """`job`, of plain types, if all of it can be stored; its JSON is checked when it is encoded.

    Raises:
        InvalidJob: with what is wrong and what to pass instead.
    """
    exact: dict[str, Any] = {
        "kind": checked_name(job.kind, "kind"),
        "queue": checked_name(job.queue, "queue"),
        "priority": whole(job.priority, "priority", 0, 9),
        "run_at": checked_time(job.run_at, "run_at"),
    }
    if job.delay is not None:
        checked_span(job.delay, "delay")
        if job.run_at is not None:
            raise InvalidJob("both run_at and delay are given; pass one")
    if job.max_attempts is not None:
        exact["max_attempts"] = whole(job.max_attempts, "max_attempts", 1, _INT4)
    if job.retry is not None and not hasattr(job.retry, "policy"):
        raise InvalidJob(f"retry is {shown(job.retry)}; pass Exponential(), Constant() or Delays()")
    _one_of(job.dedupe_until, "dedupe_until", ("start", "finish"))
    _one_of(job.on_conflict, "on_conflict", ("return", "replace", "raise"))
    _check_texts(job)
    if all(value is getattr(job, name) for name, value in exact.items()):
        return job
    return attrs.evolve(job, **exact)


def _check_texts(job: NewJob) -> None:
    if job.dedupe_key is not None:
        jsontext.checked_text(job.dedupe_key, "dedupe_key")
    if job.ref is not None:
        jsontext.checked_text(job.ref, "ref")
    if job.metadata is not None and not isinstance(job.metadata, Mapping):
        raise InvalidJob(f"metadata is a {type(job.metadata).__name__}; pass a dict")
    if job.tags is not None:
        if isinstance(job.tags, str) or not isinstance(job.tags, Collection):
            raise InvalidJob(f"tags is a {type(job.tags).__name__}; pass a list of str")
        for tag in job.tags:
            jsontext.checked_text(tag, "a tag")


def _one_of(value: str, what: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        listed = ", ".join(map(repr, choices))
        raise InvalidJob(f"{what} is {shown(value)}; pass one of {listed}")


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
    if job.dedupe_key is not None:
        fields["dedupe_key"] = job.dedupe_key
        fields["dedupe_until"] = job.dedupe_until
        fields["on_conflict"] = job.on_conflict
    options = {
        "run_at": None if job.run_at is None else job.run_at.isoformat(),
        "delay": None if job.delay is None else job.delay.total_seconds(),
        "backoff": None if job.retry is None else job.retry.policy(),
        "max_attempts": job.max_attempts,
        "tags": None if job.tags is None else list(job.tags),
        "metadata": job.metadata,
        "ref": job.ref,
    }
    fields.update({name: value for name, value in options.items() if value is not None})
    return f'{jsontext.dumps(fields, "the job")[:-1]},"payload":{payload}}}'


@lru_cache(maxsize=64)
def name_array(names: tuple[str, ...], what: str) -> str:
    """The text of a Postgres array of `names`, checked. Workers send the same ones all the time.

    Raises:
        InvalidJob: one of them is no name.
    """
    return "{" + ",".join(f'"{checked_name(name, what)}"' for name in names) + "}"


def number_array(numbers: Iterable[int]) -> str:
    """The text of a Postgres array of `numbers`."""
    return "{" + ",".join(map(str, numbers)) + "}"


def span_text(span: timedelta) -> str:
    """`span` as an interval of hours: one of days would be calendar days, of 23 to 25 hours."""
    hours = span.days * 24 + span.seconds // _HOUR
    return f"{hours}:{span.seconds // 60 % 60}:{span.seconds % 60}.{span.microseconds:06}"


def span_array(spans: Iterable[timedelta | None]) -> str:
    """The text of a Postgres array of `spans`."""
    return "{" + ",".join("NULL" if span is None else span_text(span) for span in spans) + "}"
