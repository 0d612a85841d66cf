"""Templates, and how values are shown in them. All text is escaped, whatever it holds."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup, escape

from pgqueue.words import quantity, size, span

STATIC = resources.files("pgqueue.dashboard") / "static"
_FOREVER = 9999
NOTHING = "\u2013"
"""A dash, for what is not there."""
_LONGEST_JSON = 60_000
"""Characters of a payload that a page shows."""
_TOKENS = re.compile(
    r'(?P<key>"(?:[^"\\]|\\.)*")(?=\s*:)|(?P<text>"(?:[^"\\]|\\.)*")'
    r"|(?P<word>\b(?:true|false|null)\b)|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"
)
_K = 1000
_TENTH = 10


@lru_cache
def static_url(name: str) -> str:
    """A file's name with a mark of its content, so that browsers may keep it for ever."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()
    return f"{name}?v={digest[:12]}"


def templates() -> jinja2.Environment:
    """The templates, made once for each dashboard."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("pgqueue.dashboard"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        ago=ago, span=length, number=number, compact=compact, quantity=quantity, size=size,
        pretty=pretty, moment=moment, since=since, utc=utc,
    )  # fmt: skip
    return made


def number(value: float | None) -> str:
    """`1,234`."""
    return NOTHING if value is None else f"{value:,.0f}"


def compact(value: float | None) -> str:
    """`1234` as `1.2k`, for figures that are read at a glance."""
    if value is None:
        return NOTHING
    for unit in ("", "k", "M", "G"):
        if abs(value) < _K or unit == "G":
            digits = 1 if (unit or value != int(value)) and abs(value) < _TENTH * _TENTH else 0
            return f"{value:.{digits}f}{unit}"
        value /= _K
    raise AssertionError  # pragma: no cover - the last unit takes all


def since(seconds: float) -> str:
    """How old something is: `just now`, `3s ago`."""
    return "just now" if seconds < 1 else f"{length(seconds)} ago"


def length(value: timedelta | float | None) -> str:
    """A span of time, coarsely; a dash for none."""
    if value is None:
        return NOTHING
    return span(value if isinstance(value, timedelta) else timedelta(seconds=value))


def utc(value: datetime) -> str:
    """A time in full."""
    return f"{value.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"


def ago(value: datetime | None, now: datetime | None = None) -> str | Markup:
    """A time relative to now, which a script keeps up to date, and in full when hovered over."""
    if value is None:
        return NOTHING
    if value.year >= _FOREVER:
        return "until it is resumed"
    at = now or datetime.now(timezone.utc)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        value.astimezone(timezone.utc).isoformat(), utc(value), relative(value - at)
    )


def relative(distance: timedelta) -> str:
    """`3m ago`, `in 2h`, `now`."""
    if abs(distance) < timedelta(seconds=1):
        return "now"
    return f"in {span(distance)}" if distance > timedelta(0) else f"{span(-distance)} ago"


def moment(value: datetime | None) -> str | Markup:
    """A time in full, as an element."""
    if value is None:
        return NOTHING
    return Markup('<time datetime="{}" data-absolute>{}</time>').format(
        value.astimezone(timezone.utc).isoformat(), utc(value)
    )


def pretty(value: Any) -> Markup:  # noqa: ANN401 - JSON
    """JSON, indented and coloured; a long one is cut."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    shown, parts, end = text[:_LONGEST_JSON], [], 0
    for found in _TOKENS.finditer(shown):
        parts.append(escape(shown[end : found.start()]))
        parts.append(Markup('<span class="j-{}">{}</span>').format(found.lastgroup, found[0]))
        end = found.end()
    parts.append(escape(shown[end:]))
    if len(text) > len(shown):
        more = len(text) - len(shown)
        parts.append(Markup('\n<span class="muted">… {:,} characters more</span>').format(more))
    return Markup("").join(parts)
