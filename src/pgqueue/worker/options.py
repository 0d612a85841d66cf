"""What a worker can be told, checked."""

from __future__ import annotations

import os
import random
import socket
import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Union

import attrs

from pgqueue.errors import ConfigurationError
from pgqueue.statements import checked_name, checked_span


def _weights(queues: str | Sequence[str] | Mapping[str, float]) -> dict[str, float]:
    if isinstance(queues, str):
        queues = [queues]
    weights = dict(queues) if isinstance(queues, Mapping) else dict.fromkeys(queues, 1.0)
    if not weights:
        raise ConfigurationError("queues is empty; name at least one queue")
    for queue, weight in weights.items():
        checked_name(queue, "queue")
        if not weight > 0:
            raise ConfigurationError(f"the weight of queue {queue!r} is {weight!r}; pass a number above 0")
    return weights


def _positive_int(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    if not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{attribute.name} is {value!r}; pass a whole number, 1 or more")


def _span(_: object, attribute: attrs.Attribute[timedelta], value: timedelta) -> None:
    checked_span(value, attribute.name, zero=attribute.name == "shutdown_timeout")


def _name(name: str | None) -> str:
    """A name that no other worker has, not even one of the same name before or after this one."""
    return f"{name or socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


@attrs.frozen(kw_only=True)
class Options:
    """See `Worker` for what each means."""

    queues: Mapping[str, float] = attrs.field(converter=_weights)
    concurrency: int = attrs.field(validator=_positive_int)
    prefetch: Union[int, None] = None
    lease: timedelta = attrs.field(validator=_span)
    poll_interval: timedelta = attrs.field(validator=_span)
    shutdown_timeout: timedelta = attrs.field(validator=_span)
    prepare: bool = True
    name: Union[str, None] = None

    def unique_name(self) -> str:
        """A name for one process of this worker."""
        return _name(self.name)

    def order(self) -> list[str]:
        """The queues in the order in which to serve them this time: at random, by their weights."""
        if len(self.queues) == 1:
            return list(self.queues)
        # Weighted sampling without replacement: the least of exponential variates (Efraimidis, Spirakis 2006).
        keys = {queue: random.expovariate(weight) for queue, weight in self.queues.items()}  # noqa: S311 - no secret
        return sorted(self.queues, key=keys.__getitem__)
