"""What is logged and stored of an error: its text, after the app's own rule went over it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from pgqueue.codec import PlainCodec
from pgqueue.masking import HIDDEN, masked
from pgqueue.models import Job

Redact: TypeAlias = "Callable[[Job[Any], str], str]"
"""Gets a job and a text of its error or reason, and returns the text that may be seen."""

_SHORTEST = 4
"""Characters; a shorter value may be part of any word, and to hide it would tell what it is."""
_FAILED = "<left out: redact failed>"


def mask_payload(job: Job[Any], text: str) -> str:
    """`text` with each string and number of the job's payload that has 4 characters or more as ***.

    Keys are not masked. It finds values as `str` and as `repr` write them, no other spellings.
    """
    values = set(_spellings(PlainCodec().encode(job.payload)))
    if not values:
        return text
    # The longest first: one may be part of another.
    pattern = "|".join(map(re.escape, sorted(values, key=len, reverse=True)))
    return re.sub(pattern, HIDDEN, text)


def _spellings(value: Any) -> Iterator[str]:  # noqa: ANN401 - JSON
    if isinstance(value, Mapping):
        for each in value.values():
            yield from _spellings(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _spellings(each)
    elif value is not None and not isinstance(value, bool) and len(str(value)) >= _SHORTEST:
        yield str(value)
        yield repr(value)[1:-1] if isinstance(value, str) else repr(value)


def redacted(redact: Redact | None, job: Job[Any], text: str) -> tuple[str, str]:
    """The text that may be seen, and what went wrong meanwhile; nothing of it is seen then."""
    if redact is None or not text:
        return masked(text), ""
    try:
        return masked(_checked(redact(job, text))), ""
    except Exception as error:  # noqa: BLE001 - whatever the app's rule does
        return _FAILED, type(error).__qualname__


def _checked(text: object) -> str:
    if not isinstance(text, str):
        raise TypeError
    return text
