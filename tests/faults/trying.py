"""Trying inputs: what has to come back, and what is an error of pgqueue's."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections import Counter
from collections.abc import Callable, Iterable
from random import Random
from typing import Any, TypeVar, cast

import attrs
from tests.faults.curated import Group

from pgqueue import AsyncClient, Client, PgqueueError, jsontext

T = TypeVar("T")
SHOWN = 5
"""So many of what went wrong are spelt out."""


class Blocking:
    """An `AsyncClient` as a synchronous one, on an event loop of its own."""

    def __init__(self, dsn: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = AsyncClient(dsn)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        if not inspect.iscoroutinefunction(value):
            return value
        return lambda *args, **kwargs: self._loop.run_until_complete(value(*args, **kwargs))

    def close(self) -> None:
        """Closes its connections and its loop."""
        self._loop.run_until_complete(self._client.close())
        self._loop.close()


def both_clients(dsn: str) -> tuple[Client, Client]:
    """A sync and an async client, which can be called alike."""
    return Client(dsn), cast("Client", Blocking(dsn))


@attrs.define
class Tally:
    """How often inputs were tried, and with what result."""

    rng: Random
    share: float
    """Of the inputs: so many are tried, by chance."""
    tried: int = 0
    refused: int = 0
    wrong: list[str] = attrs.field(factory=list)
    by_error: Counter[str] = attrs.field(factory=Counter)

    def some(self, values: Iterable[T]) -> list[T]:
        """A share of them, or all."""
        return [value for value in values if self.share == 1 or self.rng.random() < self.share]

    def values(self, groups: Iterable[Group]) -> list[Any]:
        """Some values of the groups."""
        return self.some(value for group in groups for value in group.values)

    def try_(self, what: str, call: Callable[[], Any]) -> Any:
        """What `call` returns; None if it is refused. Any error but pgqueue's own is wrong."""
        self.tried += 1
        try:
            return call()
        except PgqueueError as error:
            self.refused += 1
            self.by_error[type(error).__name__] += 1
            str(error).encode()  # to be logged and sent on
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            self.wrong.append(f"{what}: {type(error).__name__}: {error!s:.200}")
        return None

    def expect(self, what: str, found: object, wanted: object) -> None:
        """Both are to be the same."""
        if not same(found, wanted):
            self.wrong.append(f"{what}: {shown(found)} instead of {shown(wanted)}")

    def check(self, what: str, *, holds: bool) -> None:
        """It is to be so."""
        if not holds:
            self.wrong.append(what)


def shown(value: object) -> str:
    """Its repr, or the beginning of it; some have none."""
    try:
        return f"{value!r:.80}"
    except Exception as error:  # noqa: BLE001 - too many digits, too deep, or no fun
        return f"a {type(value).__name__} without a repr ({type(error).__name__})"


def as_json(value: object) -> tuple[bool, Any]:
    """Whether Python has JSON for `value`, and what comes back of it."""
    try:
        text = json.dumps(value, allow_nan=False)
        return True, jsontext.loads(text)
    except (TypeError, ValueError, RecursionError):
        return False, None


def same(one: Any, other: Any) -> bool:
    """Equal at any depth; True is not 1. 1.0 is 1, and 1e16 its decimal, as Postgres has it."""
    pairs = [(one, other)]
    while pairs:
        a, b = pairs.pop()
        if isinstance(a, dict) and isinstance(b, dict):
            if a.keys() != b.keys():
                return False
            pairs += [(a[key], b[key]) for key in a]
        elif isinstance(a, list) and isinstance(b, list):
            if len(a) != len(b):
                return False
            pairs += zip(a, b, strict=True)
        elif isinstance(a, int) and isinstance(b, float):
            pairs.append((float(a), b))
        elif isinstance(a, bool) is not isinstance(b, bool) or a != b:
            return False
    return True
