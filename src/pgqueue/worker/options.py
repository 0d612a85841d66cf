"""What a worker can be told, checked."""

from __future__ import annotations

import math
import os
import random
import socket
import uuid
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

import attrs

from pgqueue.arguments import checked_name
from pgqueue.bounded import REPLY_TIMEOUT
from pgqueue.errors import ConfigurationError
from pgqueue.events import Observer

if TYPE_CHECKING:
    from collections.abc import Sequence


def _weights(queues: str | Sequence[str] | Mapping[str, float]) -> dict[str, float]:
    given: object = [queues] if isinstance(queues, str) else queues
    if not isinstance(given, Iterable):
        raise ConfigurationError(f"queues is {queues!r}; pass a name, names, or a dict of weights")
    weights = dict(given) if isinstance(given, Mapping) else dict.fromkeys(given, 1.0)
    if not weights:
        raise ConfigurationError("queues is empty; name at least one queue")
    return {checked_name(queue, "queue"): _weight(queue, weights[queue]) for queue in weights}


def _weight(queue: str, weight: object) -> float:
    if not isinstance(weight, (int, float)) or not 0 < weight < math.inf:
        raise ConfigurationError(
            f"the weight of queue {queue!r} is {weight!r}; pass a number above 0"
        )
    return weight


def whole(value: object, what: str, least: int) -> int:
    """`value` if it is a whole number of at least `least`.

    Raises:
        ConfigurationError: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigurationError(f"{what} is {value!r}; pass a whole number, {least} or more")
    return value


def _one_or_more(_: object, attribute: attrs.Attribute[int], value: object) -> None:
    whole(value, attribute.name, 1)


def _none_or_more(_: object, attribute: attrs.Attribute[int | None], value: int | None) -> None:
    if value is not None:
        whole(value, attribute.name, 0)


def _patience(options: Options, _: attrs.Attribute[timedelta | None], value: object) -> None:
    least = 5 * options.poll_interval
    if value is not None and (not isinstance(value, timedelta) or value < least):
        raise ConfigurationError(
            f"watchdog is {value!r}; pass a timedelta of at least five poll intervals, {least}"
        )


def _span(_: object, attribute: attrs.Attribute[timedelta], value: object) -> None:
    zero = attribute.name == "shutdown_timeout"
    if not isinstance(value, timedelta) or value < timedelta(0) or not (zero or value):
        least = "zero or more" if zero else "more than zero"
        raise ConfigurationError(f"{attribute.name} is {value!r}; pass a timedelta of {least}")


def _as_tuple(observers: Sequence[Observer]) -> tuple[Observer, ...]:
    return tuple(observers)


def _watching(_: object, __: object, value: tuple[object, ...]) -> None:
    for observer in value:
        if not isinstance(observer, Observer):
            raise ConfigurationError(
                f"an observer is {observer!r}; pass instances of classes made from pgqueue.Observer"
            )


@attrs.frozen(kw_only=True)
class Options:
    """See `Worker` for what each means."""

    queues: Mapping[str, float] = attrs.field(converter=_weights)
    concurrency: int = attrs.field(validator=_one_or_more)
    prefetch: int | None = attrs.field(default=None, validator=_none_or_more)
    lease: timedelta = attrs.field(validator=_span)
    poll_interval: timedelta = attrs.field(validator=_span)
    shutdown_timeout: timedelta = attrs.field(validator=_span)
    watchdog: timedelta | None = attrs.field(default=None, validator=_patience)
    prepare: bool | None = None
    reply_timeout: timedelta = attrs.field(default=REPLY_TIMEOUT, validator=_span)
    name: str | None = None
    observers: Sequence[Observer] = attrs.field(
        default=(), converter=_as_tuple, validator=_watching
    )

    def process_name(self) -> str:
        """The name of this process: how those begin under which jobs show who ran them."""
        return f"{self.name or socket.gethostname()}:{os.getpid()}"

    def unique_name(self) -> str:
        """A name that no other has, not even of a worker of the same name before or after it."""
        return f"{self.process_name()}:{uuid.uuid4().hex[:8]}"

    def order(self) -> list[str]:
        """The queues in the order in which to serve them this time: at random, by their weights."""
        if len(self.queues) == 1:
            return list(self.queues)
        # Weighted sampling without replacement: the least of exponential variates
        # (Efraimidis, Spirakis 2006).
        keys = {queue: random.expovariate(weight) for queue, weight in self.queues.items()}
        return sorted(self.queues, key=keys.__getitem__)
