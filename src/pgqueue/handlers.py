"""The registry of handlers: kind -> function, payload type and options."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, overload

import attrs

from pgqueue import models
from pgqueue.codec import Codec, PlainCodec
from pgqueue.errors import ConfigurationError, UnknownKind
from pgqueue.statements import checked_name, checked_span

if TYPE_CHECKING:
    from pgqueue.aclient import AsyncClient
    from pgqueue.client import Client
    from pgqueue.events import AttemptEnded
    from pgqueue.models import DedupeUntil, EnqueueResult, Job, NewJob, OnConflict
    from pgqueue.retry import RetryPolicy

P = TypeVar("P")
Middleware: TypeAlias = "Callable[[Job[Any]], AbstractContextManager[object]]"
"""Called with each job before its handler; the context is entered around it, in its thread or task."""

logger = logging.getLogger("pgqueue")


@attrs.frozen(eq=False)
class Kind(Generic[P]):
    """A registered kind: what runs it, and the options its jobs are enqueued with.

    Calling it calls the handler itself.
    """

    name: str
    function: Callable[..., object]
    payload: type[P] | None
    queue: str
    priority: int
    retry: RetryPolicy | None
    max_attempts: int | None
    timeout: timedelta | None
    dedupe: Callable[[P], str] | None
    dedupe_until: DedupeUntil
    on_conflict: OnConflict
    batch: int | None
    """The most jobs that one call takes; None: one at a time, not as a list."""
    is_async: bool
    codec: Codec = attrs.field(repr=False)

    def __call__(self, job: Any) -> Any:  # noqa: ANN401 - whatever the handler takes and returns
        return self.function(job)

    def new(self, payload: P | None = None, **options: Any) -> NewJob:  # noqa: ANN401 - those of NewJob
        """A job of this kind, with the kind's options where `options` (those of `Client.enqueue`) say nothing."""
        if self.dedupe is not None and "dedupe_key" not in options and payload is not None:
            options["dedupe_key"] = self.dedupe(payload)
        defaults: dict[str, Any] = {
            "queue": self.queue, "priority": self.priority, "retry": self.retry,
            "max_attempts": self.max_attempts, "dedupe_until": self.dedupe_until, "on_conflict": self.on_conflict,
        }  # fmt: skip
        encoded = {} if payload is None else self.codec.encode(payload)
        return models.NewJob(self.name, encoded, **{**defaults, **options})

    @overload
    def enqueue(self, client: Client, payload: P | None = None, **options: Any) -> EnqueueResult: ...  # noqa: ANN401
    @overload
    def enqueue(
        self, client: AsyncClient, payload: P | None = None, **options: Any  # noqa: ANN401
    ) -> Awaitable[EnqueueResult]: ...
    def enqueue(self, client: Client | AsyncClient, payload: P | None = None, **options: Any) -> Any:
        """Enqueues a job of this kind on `client`; `options` are those of `Client.enqueue`. Await it on an AsyncClient."""
        conn = options.pop("conn", None)
        job = self.new(payload, **options)
        return client.enqueue(**attrs.asdict(job, recurse=False), conn=conn)

    def decoded(self, job: Job[Any]) -> Job[P]:
        """`job` with its payload as the kind's type.

        Raises:
            PayloadError: it does not fit (or what the codec raises).
        """
        if self.payload is None:
            return job
        return attrs.evolve(job, payload=self.codec.decode(job.payload, self.payload))


class Handlers:
    """Maps kinds to handlers. A worker claims only the kinds that its handlers know.

    Args:
        codec: how payloads with a declared type are stored.
    """

    def __init__(self, *, codec: Codec | None = None) -> None:
        self.codec: Codec = codec or PlainCodec()
        self._kinds: dict[str, Kind[Any]] = {}
        self._middleware: list[Middleware] = []
        self._observers: list[Callable[[AttemptEnded], object]] = []

    def register(  # noqa: PLR0913 - each is an option of a kind
        self,
        kind: str,
        *,
        payload: type[P] | None = None,
        queue: str = models.DEFAULT_QUEUE,
        priority: int = models.DEFAULT_PRIORITY,
        retry: RetryPolicy | None = None,
        max_attempts: int | None = None,
        timeout: timedelta | None = None,
        dedupe: Callable[[P], str] | None = None,
        dedupe_until: DedupeUntil = "finish",
        on_conflict: OnConflict = "return",
        batch: int | None = None,
    ) -> Callable[[Callable[..., object]], Kind[P]]:
        """A decorator that registers a handler, sync or async: `handler(job)`, or `handler(jobs)` with `batch`.

        What it returns is the job's result, or one of the outcomes `Retry`, `Snooze`, `Skip`, `Cancel`; an
        exception is a fail. A batch handler returns None, or one value or outcome per job, in order; its
        exception fails them all. The decorated name becomes a `Kind`, which enqueues: `send.enqueue(client, ...)`.

        Args:
            kind: the name; without the decorator: `handlers.register("a")(function)`.
            payload: a class (attrs, dataclass, TypedDict, or what the codec knows); `job.payload` is of it.
            queue: where `Kind.enqueue` puts its jobs; likewise priority, retry, max_attempts and on_conflict.
            priority: 0 (first) to 9.
            retry: the policy between attempts.
            max_attempts: after so many a job is dead.
            timeout: the longest an attempt may take. An async handler is cancelled, a sync one only told
                (`job.cancel_requested`): its thread cannot be stopped. Either way the attempt has failed.
            dedupe: makes the dedupe key from a payload.
            dedupe_until: "start" or "finish".
            on_conflict: "return", "replace" or "raise".
            batch: the most jobs in one call.

        Raises:
            ConfigurationError: the kind has a handler already, or an option cannot be.
        """
        checked_name(kind, "kind")
        checked_name(queue, "queue")
        if timeout is not None:
            checked_span(timeout, "timeout", zero=False)
        if batch is not None and batch < 1:
            raise ConfigurationError(f"batch is {batch!r}; pass 1 or more")

        def decorate(function: Callable[..., object]) -> Kind[P]:
            if kind in self._kinds:
                raise ConfigurationError(f"kind {kind!r} has a handler already; register each kind once")
            registered = Kind(
                kind, function, payload, queue, priority, retry, max_attempts, timeout, dedupe, dedupe_until,
                on_conflict, batch, _is_async(function), self.codec,
            )  # fmt: skip
            self._kinds[kind] = registered
            return registered

        return decorate

    def middleware(self, middleware: Middleware) -> Middleware:
        """Adds a context around every attempt: a function of the job that gives a context manager. Outermost first."""
        self._middleware.append(middleware)
        return middleware

    def on_end(self, observer: Callable[[AttemptEnded], object]) -> Callable[[AttemptEnded], object]:
        """Calls `observer` after every attempt, on the worker's event loop: it must be quick. Its errors are logged."""
        self._observers.append(observer)
        return observer

    def __getitem__(self, kind: str) -> Kind[Any]:
        try:
            return self._kinds[kind]
        except KeyError:
            raise UnknownKind(kind, self._kinds) from None

    def __contains__(self, kind: str) -> bool:
        return kind in self._kinds

    @property
    def kinds(self) -> Sequence[Kind[Any]]:
        """All that is registered."""
        return tuple(self._kinds.values())

    @overload
    def enqueue(self, client: Client, kind: str, payload: Any = None, **options: Any) -> EnqueueResult: ...  # noqa: ANN401
    @overload
    def enqueue(
        self, client: AsyncClient, kind: str, payload: Any = None, **options: Any  # noqa: ANN401
    ) -> Awaitable[EnqueueResult]: ...
    def enqueue(self, client: Client | AsyncClient, kind: str, payload: Any = None, **options: Any) -> Any:
        """Enqueues a job of a registered kind with that kind's options; see `Kind.enqueue`.

        Raises:
            UnknownKind: it has no handler here, so that a misspelt kind is found at once.
        """
        return self[kind].enqueue(client, payload, **options)

    def around(self, job: Job[Any]) -> AbstractContextManager[object] | None:
        """All middleware for `job` as one context; None if there is none."""
        if not self._middleware:
            return None
        return _Around(self._middleware, job)

    def tell(self, event: AttemptEnded) -> None:
        """Calls the observers."""
        for observer in self._observers:
            try:
                observer(event)
            except Exception:
                logger.exception("an observer failed on %s", event)

    @property
    def observed(self) -> bool:
        """Whether anyone wants to know how attempts end."""
        return bool(self._observers)


class _Around(AbstractContextManager[None]):
    """Contexts that are made and entered one after another, so that a later one sees the earlier ones."""

    def __init__(self, middleware: Sequence[Middleware], job: Job[Any]) -> None:
        self._middleware = middleware
        self._job = job
        self._stack = ExitStack()

    def __enter__(self) -> None:
        with ExitStack() as stack:
            for middleware in self._middleware:
                stack.enter_context(middleware(self._job))
            self._stack = stack.pop_all()

    def __exit__(self, *details: Any) -> bool | None:
        return self._stack.__exit__(*details)


def _is_async(function: Callable[..., object]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object with an async __call__
    )
