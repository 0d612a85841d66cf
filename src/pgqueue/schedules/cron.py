"""Cron expressions, as far as a client looks at them: the database has the last word.

With the library cronsim (extra `cron`), an expression that cannot be is found before anything is
sent, and is put into words.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone

from pgqueue.errors import InvalidSchedule

MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FIELDS = (5, 6)
_BEYOND = re.compile(r"[^\w\s*,/-]|\b\d*l\b|\blw\b", re.IGNORECASE)
"""What cronsim knows and the database does not: L, LW and #."""


def plain(expression: str) -> str:
    """`expression` in fields, without macros."""
    return MACROS.get(expression.strip().lower(), expression.strip())


def checked(expression: object) -> str:
    """`expression`, unless it is seen at once that it cannot be.

    Raises:
        InvalidSchedule: it cannot.
    """
    if not isinstance(expression, str):
        raise InvalidSchedule(
            f"cron is {expression!r:.200}; pass an expression such as '0 6 * * *'"
        )
    text = plain(expression)
    if len(text.split()) not in _FIELDS or _BEYOND.search(text):
        raise InvalidSchedule(
            f"cron expression {expression!r:.200} cannot be read; use five fields (minute hour day "
            "month weekday), or six with seconds first, of numbers, names, *, ranges, lists, steps"
        )
    try:
        import cronsim  # noqa: PLC0415 - the extra `cron`
    except ImportError:
        return expression
    try:
        cronsim.CronSim(text, datetime.now(timezone.utc))
    except cronsim.CronSimError as error:
        raise InvalidSchedule(
            f"cron expression {expression!r:.200} cannot be: {str(error).lower()}"
        ) from error
    return expression


def describe(expression: str) -> str:
    """`expression` in words, or as it is where they are not known."""
    try:
        import cronsim  # noqa: PLC0415 - the extra `cron`
    except ImportError:
        return expression
    try:
        words = cronsim.CronSim(plain(expression), datetime.now(timezone.utc)).explain()
    except cronsim.CronSimError:
        return expression
    return words[:1].lower() + words[1:]
