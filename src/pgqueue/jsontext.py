"""JSON text that Postgres can store, or a `PayloadError` before anything is sent.

Postgres keeps JSON numbers as decimals and refuses NUL characters and lone surrogates; JSON itself
has no NaN. A float of 1e16 and above comes back as the `int` of the same decimal value.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias

from pgqueue.errors import InvalidJob, PayloadError, PayloadTooLarge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
"""What a payload, a result or metadata may be."""

HIGHEST_CAP = 64 * 1024 * 1024
"""Bytes; no schema can be set to store more in one payload, so more is not even sent."""

_encode = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode
_read = json.JSONDecoder().raw_decode  # json.loads, less the search for white space around it
_escaped_nul = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def dumps(value: object, what: str = "payload") -> str:
    """JSON text of `value`; `what` names it in errors.

    Raises:
        PayloadError: not JSON (a type, NaN, an infinity, a circle, a NUL, a lone surrogate).
        PayloadTooLarge: over 64 MiB. (The schema's own cap, 256 KiB by default, is checked there.)
    """
    try:
        text = _encode(value)
        size = len(text)
        if size <= HIGHEST_CAP and not text.isascii():
            size = len(text.encode())
    except UnicodeEncodeError as error:
        raise PayloadError(
            f"{what} has a lone surrogate, which is not text; decode it properly first"
        ) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadError(
            f"{what} is not JSON: {error}; pass None, bool, int, finite float, str, list or dict"
        ) from error
    if size > HIGHEST_CAP:
        raise PayloadTooLarge(
            f"{what} of {size} bytes is over any limit; "
            "store the data elsewhere and pass a reference"
        )
    if "\\u0000" in text and _escaped_nul.search(text):
        raise PayloadError(f"{what} has a NUL character, which Postgres cannot store; remove it")
    return text


def loads(text: str) -> Any:  # noqa: ANN401 - JSON is whatever it is
    """The value of JSON text as Postgres writes it, of any that it stores."""
    try:
        return _read(text)[0]
    except (ValueError, RecursionError):
        return _loads_any(text)


_whole = json.JSONDecoder(parse_int=lambda digits: int(Decimal(digits))).raw_decode


def _loads_any(text: str) -> Any:  # noqa: ANN401
    """The value of JSON text that Python's own reader refuses.

    That is, numbers of more than 4,300 digits, and nesting of more than a thousand levels.
    """
    outermost: list[Any] = []
    open_: list[tuple[Any, list[str]]] = [(outermost, [])]
    place = 0
    while place < len(text):
        char = text[place]
        if char in " ,:]}":
            place += 1
            if char in "]}":
                open_.pop()
            continue
        inner: Any = [] if char == "[" else {}
        value, place = (inner, place + 1) if char in "[{" else _whole(text, place)
        container, key = open_[-1]
        if isinstance(container, list):
            container.append(value)
        elif key:
            container[key.pop()] = value
        else:
            key.append(value)
        if value is inner:
            open_.append((inner, []))
    return outermost[0]


def checked_text(value: str, what: str) -> str:
    """`value` if Postgres can store it as text.

    Raises:
        InvalidJob: not a `str`, or with a NUL or a lone surrogate.
    """
    if not isinstance(value, str):
        raise InvalidJob(f"{what} is a {type(value).__name__}; pass a str")
    if not is_storable(value):
        raise InvalidJob(f"{what} has a NUL or a lone surrogate; remove it")
    return value


def storable_text(value: str) -> str:
    """`value` with what Postgres cannot store replaced: for error texts, which must never fail."""
    return value.encode("utf-8", "replace").decode().replace("\0", "\N{SYMBOL FOR NULL}")


def is_storable(value: str) -> bool:
    """Whether Postgres can store `value` as text: it has no NUL and no lone surrogate."""
    if "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
