"""Checks of schedules before anything is sent, and their text as the database reads it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING

from pgqueue import jsontext, models
from pgqueue.arguments import backoff_text, checked_job, metadata_text, span_text
from pgqueue.errors import InvalidJob, InvalidSchedule, PayloadError
from pgqueue.schedules import cron
from pgqueue.schedules.models import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable

_NAME = re.compile(r"[A-Za-z0-9_.:/@-]{1,200}")
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
_LONGEST = timedelta(days=1000)
_DAY = timedelta(days=1)
_MOST_SLOTS = 1000
_OVERLAPS = ("queue", "skip", "replace")


def checked_name(name: object, what: str = "a schedule's name") -> str:
    """The name of a schedule or of who declares it, if it is one.

    Raises:
        InvalidSchedule: it is not.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidSchedule(
            f"{what} is {name!r:.200}; use 1 to 200 of the characters A-Z a-z 0-9 _ . : / @ -"
        )
    return name


def checked_schedule(schedule: object) -> Schedule:
    """`schedule`, if every part of it can be stored.

    Raises:
        InvalidSchedule: with what is wrong and what to pass instead.
        PayloadError: the payload or metadata are not JSON.
    """
    if not isinstance(schedule, Schedule):
        raise InvalidSchedule(f"{schedule!r:.200} is no schedule; pass a pgqueue.Schedule")
    checked_name(schedule.name)
    _check_times(schedule)
    _check_policies(schedule)
    try:
        checked_job(_job(schedule))
        jsontext.dumps(schedule.payload)
        metadata_text(_job(schedule))
    except PayloadError:
        raise
    except InvalidJob as error:
        raise InvalidSchedule(f"schedule {schedule.name!r}: {error}") from error
    return schedule


def _job(schedule: Schedule) -> models.NewJob:
    return models.NewJob(
        schedule.kind, schedule.payload, queue=schedule.queue, priority=schedule.priority,
        retry=schedule.retry, max_attempts=schedule.max_attempts, tags=schedule.tags,
        metadata=schedule.metadata, ref=schedule.ref,
    )  # fmt: skip


def _check_times(schedule: Schedule) -> None:
    if (schedule.cron is None) is (schedule.every is None):
        raise InvalidSchedule("a schedule has either cron or every; pass one")
    if schedule.cron is not None:
        cron.checked(schedule.cron)
    else:
        _check_span(schedule.every, "every", timedelta(seconds=1), _LONGEST)
    zone: object = schedule.timezone
    if not isinstance(zone, str) or not _ZONE.fullmatch(zone):
        raise InvalidSchedule(f"timezone is {zone!r:.200}; pass a name such as 'Europe/Berlin'")
    if schedule.window is not None:
        _check_window(schedule)
    _check_moment(schedule.starts_at, "starts_at")
    _check_moment(schedule.ends_at, "ends_at")
    if schedule.starts_at and schedule.ends_at and schedule.ends_at <= schedule.starts_at:
        raise InvalidSchedule("ends_at is not later than starts_at; pass a later one, or None")


def _check_moment(value: object, what: str) -> None:
    if value is not None and (not isinstance(value, datetime) or value.utcoffset() is None):
        raise InvalidSchedule(
            f"{what} is {value!r:.200}; pass an aware datetime, such as datetime.now(timezone.utc)"
        )


def _check_window(schedule: Schedule) -> None:
    window: object = schedule.window
    given = window if isinstance(window, tuple) else ()
    times = {each for each in given if isinstance(each, time) and each.tzinfo is None}
    if len(given) != 2 or len(times) != 2:  # noqa: PLR2004 - a start and an end, which differ
        raise InvalidSchedule(
            f"window is {window!r:.200}; pass two different times without time zones, such as "
            "(time(9), time(17))"
        )
    if schedule.every is not None and schedule.every > _DAY:
        raise InvalidSchedule(
            "every is longer than a day, and slots are counted from each day's opening of the "
            "window; pass 24 hours or less, or cron"
        )


def _check_policies(schedule: Schedule) -> None:
    _check_span(schedule.jitter, "jitter", timedelta(0), timedelta(days=30))
    _check_span(schedule.grace, "grace", timedelta(0), _LONGEST)
    count: object = schedule.catch_up
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= _MOST_SLOTS:
        raise InvalidSchedule(f"catch_up is {count!r:.200}; pass a whole number from 0 to 1000")
    if schedule.overlap not in _OVERLAPS:
        listed = ", ".join(map(repr, _OVERLAPS))
        raise InvalidSchedule(f"overlap is {schedule.overlap!r:.200}; pass one of {listed}")
    enabled: object = schedule.enabled
    if enabled is not None and not isinstance(enabled, bool):
        raise InvalidSchedule(f"enabled is {enabled!r:.200}; pass True, False or None")


def _check_span(value: object, what: str, least: timedelta, most: timedelta) -> None:
    if not isinstance(value, timedelta) or not least <= value <= most:
        raise InvalidSchedule(f"{what} is {value!r:.200}; pass a timedelta from {least} to {most}")


def schedule_text(schedule: Schedule) -> str:
    """`schedule`, checked, as a JSON object: its keys are the parameters of the SQL function."""
    checked_schedule(schedule)
    window = schedule.window
    job = _job(schedule)
    fields = {
        "name": schedule.name,
        "kind": schedule.kind,
        "cron": schedule.cron,
        "every": _or_none(schedule.every, span_text),
        "timezone": schedule.timezone,
        "window_start": None if window is None else window[0].isoformat(),
        "window_end": None if window is None else window[1].isoformat(),
        "starts_at": _or_none(schedule.starts_at, datetime.isoformat),
        "ends_at": _or_none(schedule.ends_at, datetime.isoformat),
        "jitter": span_text(schedule.jitter),
        "catch_up": schedule.catch_up,
        "grace": span_text(schedule.grace),
        "overlap": schedule.overlap,
        "enabled": schedule.enabled,
        "queue": schedule.queue,
        "priority": schedule.priority,
        "max_attempts": schedule.max_attempts,
        "tags": None if schedule.tags is None else list(schedule.tags),
        "ref": schedule.ref,
    }
    text = jsontext.dumps({name: value for name, value in fields.items() if value is not None})
    more = {
        "payload": jsontext.dumps(schedule.payload),
        "backoff": backoff_text(job),
        "metadata": metadata_text(job),
    }
    added = "".join(f',"{name}":{value}' for name, value in more.items() if value is not None)
    return f"{text[:-1]}{added}}}"


def _or_none(value: object, write: Callable[..., str]) -> str | None:
    return None if value is None else write(value)


def schedules_text(schedules: Iterable[Schedule]) -> str:
    """A JSON array of `schedules`, each with a name of its own.

    Raises:
        InvalidSchedule: one of them cannot be, or two have one name.
    """
    if not isinstance(schedules, Iterable):
        raise InvalidSchedule(f"{schedules!r:.200} is no list of schedules; pass one")
    texts: dict[str, str] = {}
    for schedule in schedules:
        text = schedule_text(schedule)
        if schedule.name in texts:
            raise InvalidSchedule(f"two schedules are named {schedule.name!r}; rename one")
        texts[schedule.name] = text
    return f"[{','.join(texts.values())}]"
