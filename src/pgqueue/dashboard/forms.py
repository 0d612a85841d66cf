"""Reads the fields of forms and of queries: texts, times, spans, JSON. What cannot be says why."""

from __future__ import annotations

import json
import re
from datetime import datetime, time, timedelta, timezone
from typing import TYPE_CHECKING

from pgqueue.errors import InvalidJob

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgqueue.jsontext import Json

UNITS = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86400}
_LAST_ID = 2**63 - 1
_ID = re.compile(r"[0-9]{1,19}")


def text(form: Mapping[str, str], name: str) -> str | None:
    """A field's text without spaces around it; None if it is empty."""
    return form.get(name, "").strip() or None


def whole(form: Mapping[str, str], name: str, what: str) -> int | None:
    """A whole number.

    Raises:
        InvalidJob: it is none.
    """
    given = text(form, name)
    if given is None:
        return None
    try:
        return int(given)
    except ValueError:
        raise InvalidJob(f"{what} is {given!r:.100}; write a whole number") from None


def job_id(given: str) -> int | None:
    """The id of a job, with or without # before it; None if it is none."""
    bare = given.strip().removeprefix("#")
    found = int(bare) if _ID.fullmatch(bare) else 0
    return found if 0 < found <= _LAST_ID else None


def moment(form: Mapping[str, str], name: str, what: str) -> datetime | None:
    """A time; one without an offset is in UTC, as all times on the pages are.

    Raises:
        InvalidJob: it is none.
    """
    given = text(form, name)
    if given is None:
        return None
    plain = re.sub(r"\s*(UTC|Z)$", "+00:00", given, flags=re.IGNORECASE)
    try:
        found = datetime.fromisoformat(plain)
    except ValueError:
        raise InvalidJob(f"{what} is {given!r:.100}; write 2030-01-31 18:00 (in UTC)") from None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def span(form: Mapping[str, str], name: str, what: str) -> timedelta | None:
    """A number with its unit, in two fields: `every` and `every_unit`.

    Raises:
        InvalidJob: it is none.
    """
    given = text(form, name)
    if given is None:
        return None
    unit = UNITS.get(form.get(f"{name}_unit", "seconds"), 1)
    try:
        return timedelta(seconds=float(given) * unit)
    except (ValueError, OverflowError):
        raise InvalidJob(f"{what} is {given!r:.100}; write a number") from None


def span_fields(length: timedelta | None) -> tuple[str, str]:
    """The two fields of a span: the number, and the greatest unit of which it is a whole one."""
    if length is None:
        return "", "minutes"
    seconds = length.total_seconds()
    for unit, size in reversed(UNITS.items()):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f}", unit
    return f"{seconds:g}", "seconds"


def clock(form: Mapping[str, str], name: str, what: str) -> time | None:
    """A time of day.

    Raises:
        InvalidJob: it is none.
    """
    given = text(form, name)
    if given is None:
        return None
    try:
        return time.fromisoformat(given)
    except ValueError:
        raise InvalidJob(f"{what} is {given!r:.100}; write 09:00") from None


def value(form: Mapping[str, str], name: str, what: str) -> Json:
    """JSON; None if the field is empty.

    Raises:
        InvalidJob: it is no JSON.
    """
    given = text(form, name)
    if given is None:
        return None
    try:
        found: Json = json.loads(given)
    except (ValueError, RecursionError) as error:
        where = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise InvalidJob(f'{what} is no JSON{where}; write {{"key": "value"}}') from None
    return found


def words(form: Mapping[str, str], name: str) -> list[str] | None:
    """Words that commas or spaces divide."""
    given = text(form, name)
    return None if given is None else [word for word in re.split(r"[,\s]+", given) if word]
