"""Hides passwords in text that is about to be logged, stored or shown."""

from __future__ import annotations

import re
import traceback

import psycopg
from psycopg import conninfo

HIDDEN = "***"
LOOKED_THROUGH = 2_000_000
"""Characters of an error's text that are looked through: the rest is cut off before, far behind the
little that is kept. More than a payload of the usual cap has, so that one that is quoted is whole.
"""
_TELLING = 6
"""A shorter password may be part of any word; it is hidden only where it looks like one."""
_URI_PASSWORD = re.compile(r"(?<=://)([^\s/@:]*):[^\s/@]*@")
_PASSWORD = re.compile(r"(?i)\b((?:pg|ssl)?password\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&\"']+)")


def masked(text: str, *dsns: str | None) -> str:
    """`text` without passwords: those of `dsns`, and whatever looks like one in a DSN or URL."""
    for dsn in dsns:
        try:
            found = conninfo.conninfo_to_dict(dsn or "")
        except psycopg.ProgrammingError:
            continue
        for name in ("password", "sslpassword"):
            secret = str(found.get(name) or "")
            if len(secret) >= _TELLING:
                text = text.replace(secret, HIDDEN)
    # Most texts have neither, and to search for that is a hundred times faster.
    if "://" in text:
        text = _URI_PASSWORD.sub(rf"\1:{HIDDEN}@", text)
    if "password" in text.lower():
        text = _PASSWORD.sub(rf"\1{HIDDEN}", text)
    return text


def first_line(error: BaseException) -> str:
    """What an error says, masked, without the details that Postgres adds: they quote the data."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - somebody's __str__
        return f"<the __str__ of {type(error).__name__} failed>"
    return masked(text.partition("\n")[0][:LOOKED_THROUGH])


def trace(error: BaseException, *, frames_only: bool = False) -> str:
    """The traceback of an error, masked.

    With `frames_only`, where it was and of what class, for messages that must not be shown.
    """
    if frames_only:
        frames = "".join(traceback.format_tb(error.__traceback__))
        return masked(f"{frames}{type(error).__qualname__}")
    return masked("".join(traceback.format_exception(error)).rstrip())
