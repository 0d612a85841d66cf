"""What an endpoint can be told, checked."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import attrs

from pgqueue.errors import ConfigurationError
from pgqueue.worker.options import Options, whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgqueue.events import Observer

LEASE_BEYOND = timedelta(seconds=35)
"""How much longer than the budget a lease is by default."""


@attrs.frozen(kw_only=True)
class Limits:
    """See `Endpoint` for what each means."""

    worker: Options
    """Queues, concurrency and lease, as of a worker."""
    limit: int
    batch: int
    budget: timedelta
    window: timedelta
    most_at_once: int
    max_body: int
    keep: bool
    show_errors: bool
    private_health: bool


def checked(
    *,
    queues: str | Sequence[str] | Mapping[str, float],
    limit: int,
    batch: int | None,
    concurrency: int,
    budget: timedelta,
    lease: timedelta | None,
    window: timedelta,
    most_at_once: int,
    max_body: int,
    reply_timeout: timedelta,
    name: str | None,
    keep: bool,
    show_errors: bool,
    private_health: bool,
    observers: Sequence[Observer],
) -> Limits:
    """The limits.

    Raises:
        ConfigurationError: one cannot be.
    """
    _span(budget, "budget")
    lease = budget + LEASE_BEYOND if lease is None else lease
    worker = Options(
        queues=queues,
        concurrency=concurrency,
        lease=lease,
        poll_interval=budget,
        shutdown_timeout=budget,
        reply_timeout=reply_timeout,
        name=name,
        observers=observers,
    )
    if lease <= budget:
        raise ConfigurationError(
            f"lease is {lease} and budget {budget}; pass a longer lease, since one that ends "
            "before the poke does lets a job run twice"
        )
    return Limits(
        worker=worker,
        limit=whole(limit, "limit", 1),
        batch=whole(concurrency if batch is None else batch, "batch", 1),
        budget=budget,
        window=_span(window, "replay_window"),
        most_at_once=whole(most_at_once, "most_at_once", 1),
        max_body=whole(max_body, "max_body", 2),
        keep=bool(keep),
        show_errors=bool(show_errors),
        private_health=bool(private_health),
    )


def _span(value: object, what: str) -> timedelta:
    if not isinstance(value, timedelta) or value <= timedelta(0):
        raise ConfigurationError(f"{what} is {value!r}; pass a timedelta of more than zero")
    return value
