"""Retry policies: data that is stored with each job, so that the database computes the delays.

A crashed worker and a worker in another language therefore back off as well. Every policy is capped
first and then spread by `jitter` (0 to 1): a delay of 60 s with the default 0.25 is one of 45 to 60
s.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

import attrs

from pgqueue.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgqueue.jsontext import Json


_LONGEST = timedelta(days=365)
_MOST_FACTOR = 100
"""Beyond it every delay but the first is the cap."""


class RetryPolicy(Protocol):
    """What `retry=` takes."""

    def policy(self) -> dict[str, Json]:
        """The policy as the SQL function `_backoff` reads it; times in seconds."""


def _positive(_: object, attribute: attrs.Attribute[timedelta], value: object) -> None:
    if not isinstance(value, timedelta) or not timedelta(0) < value <= _LONGEST:
        raise ConfigurationError(
            f"{attribute.name} is {value!r}; pass a timedelta of more than zero, at most 365 days"
        )


def _fraction(_: object, attribute: attrs.Attribute[float], value: object) -> None:
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ConfigurationError(f"{attribute.name} is {value!r}; pass 0 to 1")


def _growing(_: object, attribute: attrs.Attribute[float], value: object) -> None:
    if not isinstance(value, (int, float)) or not 1 <= value <= _MOST_FACTOR:
        raise ConfigurationError(f"{attribute.name} is {value!r}; pass 1 to {_MOST_FACTOR}")


@attrs.frozen(kw_only=True)
class Exponential:
    """Delays of base, base x factor, base x factor^2 ..., at most `cap`.

    The defaults are those of a job without a policy: with 20 attempts it gives up after some 9
    hours.
    """

    base: timedelta = attrs.field(default=timedelta(seconds=2), validator=_positive)
    cap: timedelta = attrs.field(default=timedelta(hours=1), validator=_positive)
    factor: float = attrs.field(default=2.0, validator=_growing)
    jitter: float = attrs.field(default=0.25, validator=_fraction)

    def policy(self) -> dict[str, Json]:
        """See `RetryPolicy`."""
        return {
            "base": self.base.total_seconds(),
            "factor": self.factor,
            "cap": self.cap.total_seconds(),
            "jitter": self.jitter,
        }


@attrs.frozen
class Constant:
    """The same delay before every attempt."""

    delay: timedelta = attrs.field(validator=_positive)
    jitter: float = attrs.field(default=0.25, validator=_fraction, kw_only=True)

    def policy(self) -> dict[str, Json]:
        """See `RetryPolicy`."""
        return {"delays": [self.delay.total_seconds()], "jitter": self.jitter}


def _delays(_: object, attribute: attrs.Attribute[tuple[timedelta, ...]], value: object) -> None:
    if not isinstance(value, tuple) or not value:
        raise ConfigurationError(f"{attribute.name} is empty; pass at least one timedelta")
    for delay in value:
        if not isinstance(delay, timedelta) or not timedelta(0) <= delay <= _LONGEST:
            raise ConfigurationError(
                f"{attribute.name} has {delay!r}; pass timedeltas from zero to 365 days"
            )


def _as_tuple(value: Sequence[timedelta]) -> tuple[timedelta, ...]:
    return tuple(value)


@attrs.frozen
class Delays:
    """Listed delays, one after each attempt; the last one repeats."""

    delays: tuple[timedelta, ...] = attrs.field(converter=_as_tuple, validator=_delays)
    jitter: float = attrs.field(default=0.25, validator=_fraction, kw_only=True)

    def policy(self) -> dict[str, Json]:
        """See `RetryPolicy`."""
        return {"delays": [d.total_seconds() for d in self.delays], "jitter": self.jitter}
