"""Runs the handler of claimed jobs, and reads its return value or exception as an ending.

Used by the worker's pools, and by `pgqueue.testing` inline.
"""

from __future__ import annotations

import inspect
import time
from typing import TYPE_CHECKING, Any

import attrs

from pgqueue import jsontext
from pgqueue.errors import ConfigurationError, InvalidJob
from pgqueue.events import Outcome
from pgqueue.outcomes import Cancel, Retry, Skip, Snooze

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from pgqueue.handlers import Handlers, Kind
    from pgqueue.models import Job


@attrs.define(eq=False)
class Ending:
    """How one attempt ended, to be reported to the database."""

    job: Job[Any]
    outcome: Outcome
    result: str | None = None
    """JSON text."""
    error: BaseException | None = None
    reason: str = ""
    delay: timedelta | None = None
    duration: float = 0.0
    """Seconds."""
    tries: int = 0
    """How often it was sent in vain."""


def run(handlers: Handlers, kind: Kind[Any], jobs: Sequence[Job[Any]]) -> list[Ending]:
    """Runs a sync handler in this thread, on one job or on a batch. Never raises an `Exception`."""
    started = time.perf_counter()
    jobs, decoded, endings = _decode(kind, jobs)
    if jobs:
        returned: object = None  # also where middleware swallows the handler's exception
        try:
            around = handlers.around(decoded[0], None if kind.batch is None else decoded)
            argument = decoded[0] if kind.batch is None else list(decoded)
            if around is None:
                returned = kind.function(argument)
            else:
                with around:
                    returned = kind.function(argument)
            endings += _read(kind, jobs, returned)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a handler raises
            endings += failed(jobs, error)
    return _timed(endings, started)


async def arun(handlers: Handlers, kind: Kind[Any], jobs: Sequence[Job[Any]]) -> list[Ending]:
    """Runs an async handler in this task; a cancellation passes through, no `Exception` does."""
    started = time.perf_counter()
    jobs, decoded, endings = _decode(kind, jobs)
    if jobs:
        returned: object = None
        try:
            around = handlers.around(decoded[0], None if kind.batch is None else decoded)
            argument = decoded[0] if kind.batch is None else list(decoded)
            if around is None:
                returned = await kind.function(argument)  # type: ignore[misc] # is_async says so
            else:
                with around:
                    returned = await kind.function(argument)  # type: ignore[misc]
            endings += _read(kind, jobs, returned)
        except (Exception, SystemExit) as error:  # noqa: BLE001
            endings += failed(jobs, error)
    return _timed(endings, started)


def _decode(
    kind: Kind[Any], jobs: Sequence[Job[Any]]
) -> tuple[Sequence[Job[Any]], Sequence[Job[Any]], list[Ending]]:
    """Those of `jobs` whose payloads fit, as stored and as decoded, and how the others end."""
    if not kind.decodes:
        return jobs, jobs, []
    fit: list[Job[Any]] = []
    decoded: list[Job[Any]] = []
    endings: list[Ending] = []
    for job in jobs:
        try:
            decoded.append(kind.decoded(job))
            fit.append(job)
        except Exception as error:  # noqa: BLE001, PERF203 - one misfit must not fail the batch
            endings += failed([job], error)
    return fit, decoded, endings


def failed(jobs: Sequence[Job[Any]], error: BaseException) -> list[Ending]:
    """The endings of attempts that raised `error`."""
    return [Ending(job, Outcome.FAILED, error=error) for job in jobs]


def _read(kind: Kind[Any], jobs: Sequence[Job[Any]], returned: object) -> list[Ending]:
    if kind.batch is None:
        return [_ending(jobs[0], returned)]
    if returned is None:
        return [Ending(job, Outcome.SUCCEEDED) for job in jobs]
    if not isinstance(returned, (list, tuple)) or len(returned) != len(jobs):
        raise ConfigurationError(
            f"the batch handler of {kind.name!r} returned neither None nor a list of "
            f"{len(jobs)} values; return one per job, in order"
        )
    return [_ending(job, value) for job, value in zip(jobs, returned, strict=True)]


def _ending(job: Job[Any], returned: object) -> Ending:
    if returned is None:
        return Ending(job, Outcome.SUCCEEDED)
    return _chosen(job, returned) or _succeeded(job, returned)


def _chosen(job: Job[Any], returned: object) -> Ending | None:
    """The ending that a handler asked for by returning an outcome."""
    if isinstance(returned, Retry):
        return Ending(job, Outcome.FAILED, reason=returned.reason, delay=returned.delay)
    if isinstance(returned, Snooze):
        return Ending(job, Outcome.SNOOZED, delay=returned.delay)
    if isinstance(returned, Skip):
        return Ending(job, Outcome.SKIPPED, reason=returned.reason)
    if isinstance(returned, Cancel):
        return Ending(job, Outcome.CANCELLED, reason=returned.reason)
    return None


def _succeeded(job: Job[Any], returned: object) -> Ending:
    """A good ending with a result, if that can be stored."""
    if inspect.isawaitable(returned):
        if inspect.iscoroutine(returned):
            returned.close()
        raise ConfigurationError(
            f"the handler of {job.kind!r} returned an awaitable that nobody awaits; "
            "register a function made with `async def`, and let decorators keep it one"
        )
    try:
        return Ending(job, Outcome.SUCCEEDED, result=jsontext.dumps(returned, "result"))
    except InvalidJob as error:
        return Ending(job, Outcome.FAILED, error=error)


def _timed(endings: list[Ending], started: float) -> list[Ending]:
    seconds = time.perf_counter() - started
    for ending in endings:
        ending.duration = seconds
    return endings
