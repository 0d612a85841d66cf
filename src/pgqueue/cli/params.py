"""Reads arguments: durations, moments, JSON. Each function is the `type` of an option."""

from __future__ import annotations

import json
import re
import sys
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any

import click

from pgqueue.jsontext import Json
from pgqueue.retry import Constant, Delays, Exponential, RetryPolicy

COUNT = click.IntRange(1, 1_000_000)
"""How many jobs one statement may take."""
_ID = re.compile(r"\d{1,19}", re.ASCII)
_LAST_ID = 2**63 - 1
_UNITS = {
    "ms": "milliseconds",
    "s": "seconds",
    "m": "minutes",
    "h": "hours",
    "d": "days",
    "w": "weeks",
}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhdw]))+", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])", re.ASCII)


def duration(text: str) -> timedelta:
    """A span of time, such as 90s, 5m or 1h30m.

    Raises:
        click.BadParameter: it is none.
    """
    span = _duration(text)
    if span is None:
        raise click.BadParameter(f"{text!r} is no duration; write 500ms, 90s, 5m, 2h, 7d or 1h30m")
    return span


def positive_duration(text: str) -> timedelta:
    """A span of time that is more than zero.

    Raises:
        click.BadParameter: it is none.
    """
    span = duration(text)
    if not span:
        raise click.BadParameter(f"{text!r} is too short; write more than zero")
    return span


def _duration(text: str) -> timedelta | None:
    if not _DURATION.fullmatch(text):
        return None
    parts = ({_UNITS[unit]: float(number)} for number, unit in _PART.findall(text))
    try:
        return sum((timedelta(**part) for part in parts), timedelta(0))
    except OverflowError:
        return None


def moment(text: str) -> datetime:
    """A date and time with its offset from UTC, in ISO 8601.

    Raises:
        click.BadParameter: it is none, or has no offset: whose midnight would it be?
    """
    try:
        # Python before 3.11 does not know Z.
        found = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text))
    except ValueError:
        raise click.BadParameter(f"{text!r} is no time; write it as 2030-01-31T18:00:00Z") from None
    if found.tzinfo is None:
        raise click.BadParameter(f"{text!r} has no offset from UTC; append Z or +02:00, say")
    return found


def moment_or_duration(text: str) -> datetime | timedelta:
    """A moment, or a duration from now on.

    Raises:
        click.BadParameter: it is neither.
    """
    span = _duration(text)
    return moment(text) if span is None else span


def window(text: str) -> tuple[time, time]:
    """A part of each day, such as 09:00-17:00.

    Raises:
        click.BadParameter: it is none.
    """
    opens, dash, closes = text.partition("-")
    try:
        found = time.fromisoformat(opens), time.fromisoformat(closes)
    except ValueError:
        found = None
    if not dash or found is None or found[0] == found[1]:
        raise click.BadParameter(f"{text!r} is no part of a day; write 09:00-17:00 or 22:00-06:00")
    return found


def json_value(source: str) -> Json:
    """JSON: the text itself, @FILE, or - for standard input.

    Raises:
        click.BadParameter: it is not JSON.
        click.UsageError: the file cannot be read.
    """
    try:
        value: Json = json.loads(read_text(source))
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise click.BadParameter(
            f"this is not JSON: {error.msg} at {place}; mind the shell's quotes"
        ) from error
    except RecursionError as error:
        raise click.BadParameter("this JSON is nested too deeply") from error
    return value


def json_object(source: str) -> dict[str, Any]:
    """A JSON object, given as `json_value` takes it.

    Raises:
        click.BadParameter: it is not a JSON object.
        click.UsageError: the file cannot be read.
    """
    value = json_value(source)
    if not isinstance(value, dict):
        raise click.BadParameter('this is not a JSON object; write {"key": "value"}')
    return value


def read_text(source: str) -> str:
    """`source` itself, or what the @FILE or - (standard input) that it names contains.

    Raises:
        click.UsageError: the file cannot be read, or is not text.
    """
    name = "standard input" if source == "-" else source.removeprefix("@")
    if name == source:
        return source
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(name).read_bytes()
        return data.decode()
    except OSError as error:
        raise click.UsageError(f"cannot read {name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise click.UsageError(f"cannot read {name}: it is not UTF-8") from error


def backoff(text: str) -> RetryPolicy:
    """When to try again: 30s each time, listed as 5s,1m,10m (the last repeats), doubling as 2s..1h.

    Raises:
        click.BadParameter: it is none of these.
    """
    first, dots, last = text.partition("..")
    spans = [_duration(part) for part in ((first, last) if dots else text.split(","))]
    known = [span for span in spans if span]
    if len(known) < len(spans):
        raise click.BadParameter(f"{text!r} is no backoff; write 30s, or 5s,1m,10m, or 2s..1h")
    if dots and known[0] > known[1]:
        raise click.BadParameter(f"{text!r} ends below its start; write the shorter wait first")
    if dots:
        return Exponential(base=known[0], cap=known[1])
    return Constant(known[0]) if len(known) == 1 else Delays(tuple(known))


def job_id(text: str) -> int:
    """The id of a job.

    Raises:
        click.BadParameter: it is none.
    """
    found = int(text) if _ID.fullmatch(text) else 0
    if not 0 < found <= _LAST_ID:
        raise click.BadParameter(f"{text!r} is no job's id; write a whole number from 1 on")
    return found


def weighted_queue(text: str) -> tuple[str, float]:
    """A queue, with its weight if it has one: mail or mail=3.

    Raises:
        click.BadParameter: the weight is no positive number.
    """
    queue, equals, weight = text.partition("=")
    if not equals:
        return queue, 1.0
    try:
        return queue, float(weight)
    except ValueError:
        raise click.BadParameter(f"{text!r} has no weight; write mail or mail=3") from None
