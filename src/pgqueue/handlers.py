"""The registry of handlers: kind -> function, payload type and options."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import timedelta
from operator import attrgetter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, overload

import attrs

from pgqueue import models, redaction
from pgqueue.arguments import checked_job, checked_span, whole
from pgqueue.codec import Codec, PlainCodec
from pgqueue.errors import ConfigurationError, InvalidSchedule, UnknownKind
from pgqueue.masking import trace
from pgqueue.models import P
from pgqueue.schedules import Schedule
from pgqueue.schedules.arguments import checked_name, checked_schedule

if TYPE_CHECKING:
    from pgqueue.aclient import AsyncClient
    from pgqueue.client import Client
    from pgqueue.events import AttemptEnded
    from pgqueue.models import DedupeUntil, EnqueueResult, Job, NewJob, OnConflict
    from pgqueue.redaction import Redact
    from pgqueue.retry import RetryPolicy

Middleware: TypeAlias = "Callable[[Job[Any]], AbstractContextManager[object]]"
"""Called with each job before its handler; the context that it gives is entered around it."""

_MOST_IN_BATCH = 1_000
_NAMES = [field.name for field in attrs.fields(models.Job)]
_PAYLOAD = _NAMES.index("payload")
_all_fields = attrgetter(*_NAMES)

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
    decodes: bool = attrs.field(init=False, repr=False)
    """Whether the handler gets what the codec makes of a payload, or the payload as it is."""

    @decodes.default
    def _whether_it_decodes(self) -> bool:
        return self.payload is not None or bool(getattr(self.codec, "untyped", False))

    def __call__(self, job: Any) -> Any:  # noqa: ANN401 - whatever the handler takes and returns
        """Calls the handler."""
        return self.function(job)

    def new(self, payload: P | None = None, **options: Any) -> NewJob:  # noqa: ANN401 - those of NewJob
        """A job of this kind, with the kind's options where `options` say nothing.

        `options` are those of `Client.enqueue`.
        """
        if self.dedupe is not None and "dedupe_key" not in options:
            given: Any = {} if payload is None else payload
            options["dedupe_key"] = self.dedupe(given)
        defaults: dict[str, Any] = {
            "queue": self.queue,
            "priority": self.priority,
            "retry": self.retry,
            "max_attempts": self.max_attempts,
            "dedupe_until": self.dedupe_until,
            "on_conflict": self.on_conflict,
        }
        encoded = None if payload is None else self.codec.encode(payload)
        return models.NewJob(self.name, encoded, **{**defaults, **options})

    @overload
    def enqueue(
        self,
        client: Client,
        payload: P | None = None,
        **options: Any,  # noqa: ANN401
    ) -> EnqueueResult: ...
    @overload
    def enqueue(
        self,
        client: AsyncClient,
        payload: P | None = None,
        **options: Any,  # noqa: ANN401
    ) -> Awaitable[EnqueueResult]: ...
    def enqueue(
        self,
        client: Client | AsyncClient,
        payload: P | None = None,
        **options: Any,
    ) -> EnqueueResult | Awaitable[EnqueueResult]:
        """Enqueues a job of this kind on `client`; await it on an `AsyncClient`.

        `options` are those of `Client.enqueue`, `conn` among them.
        """
        conn = options.pop("conn", None)
        job = self.new(payload, **options)
        return client.enqueue(**attrs.asdict(job, recurse=False), conn=conn)

    def decoded(self, job: Job[Any]) -> Job[P]:
        """`job` with its payload as the kind's type.

        Raises:
            PayloadError: it does not fit (or what the codec raises).
        """
        if not self.decodes:
            return job
        # By position: attrs.evolve would take ten times as long.
        fields = _all_fields(job)
        payload = self.codec.decode(job.payload, self.payload or object)
        made: Any = models.Job
        decoded: Job[P] = made(*fields[:_PAYLOAD], payload, *fields[_PAYLOAD + 1 :])
        return decoded


class Handlers:
    """Maps kinds to handlers. A worker claims only the kinds that its handlers know.

    Args:
        codec: how payloads are stored; `EncryptedCodec` is one.
        redact: called as `redact(job, text)` with each text of an error or reason before the worker
            logs it or stores it in the job's history; what it returns is logged and stored instead.
            `mask_payload` is one. The job's payload is as the handler gets it where it can be
            decoded. It runs on the worker's event loop, so it must be quick. If it raises, the text
            is left out. Passwords in DSNs are masked always.
        declared_by: the name of the application, if it declares schedules (`schedule`): by it a
            worker knows at its start which of those in the database are these.
    """

    def __init__(
        self,
        *,
        codec: Codec | None = None,
        redact: Redact | None = None,
        declared_by: str | None = None,
    ) -> None:
        rule: Any = redact
        if rule is not None and (not callable(rule) or _is_async(rule)):
            raise ConfigurationError(
                f"redact is {rule!r}; pass a plain function of a job and a text"
            )
        self._redact = redact
        self.codec: Codec = codec or PlainCodec()
        self.declared_by = None if declared_by is None else checked_name(declared_by, "declared_by")
        self._schedules: dict[str, dict[str, Any]] = {}
        self._kinds: dict[str, Kind[Any]] = {}
        self._middleware: list[Middleware] = []
        self._observers: list[Callable[[AttemptEnded], object]] = []

    def register(
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
        """A decorator that registers a handler, sync or async, of a job or of a batch.

        It is called as `handler(job)`, or with a list as `handler(jobs)`. What it returns is the
        job's result, or one of the outcomes `Retry`, `Snooze`, `Skip`, `Cancel`; an exception is a
        fail. A batch handler returns None, or one value or outcome per job, in order; its exception
        fails them all. The decorated name becomes a `Kind`, which
        enqueues: `send.enqueue(client, ...)`.

        Args:
            kind: the name; without the decorator: `handlers.register("a")(function)`.
            payload: a class (attrs, dataclass, TypedDict, or what the codec knows), which
                `job.payload` is of. A job whose payload does not fit fails; its handler is not
                called.
            queue: where `Kind.enqueue` puts its jobs; likewise `priority`, `retry`, `max_attempts`,
                `dedupe`, `dedupe_until` and `on_conflict` are what it enqueues them with.
            priority: 0 (first) to 9.
            retry: the policy between attempts.
            max_attempts: after so many a job is dead.
            timeout: the longest an attempt may take. An async handler is cancelled, a sync one
                only told (`job.cancel_requested`): its thread cannot be stopped. Either way the
                attempt has failed, whatever the handler returns afterwards.
            dedupe: makes the dedupe key from a payload ({} where a job is enqueued without one).
            dedupe_until: "start" or "finish".
            on_conflict: "return", "replace" or "raise".
            batch: the most jobs in one call, up to 1,000.

        Raises:
            InvalidJob: an option cannot be.
            ConfigurationError: the kind has a handler already, or it is no function.
        """
        checked_job(
            models.NewJob(
                kind,
                queue=queue,
                priority=priority,
                retry=retry,
                max_attempts=max_attempts,
                dedupe_until=dedupe_until,
                on_conflict=on_conflict,
            )
        )
        if timeout is not None:
            checked_span(timeout, "timeout", zero=False)
        if batch is not None:
            whole(batch, "batch", 1, _MOST_IN_BATCH)
        if dedupe is not None and not callable(dedupe):
            raise ConfigurationError(
                f"dedupe is {dedupe!r}; pass a function from a payload to the dedupe key"
            )

        def decorate(function: Callable[..., object]) -> Kind[P]:
            if kind in self._kinds:
                raise ConfigurationError(f"kind {kind!r} has a handler already; register it once")
            if not callable(function):
                raise ConfigurationError(f"{function!r} cannot be called; register a function")
            registered = Kind(
                name=kind,
                function=function,
                payload=payload,
                queue=queue,
                priority=priority,
                retry=retry,
                max_attempts=max_attempts,
                timeout=timeout,
                dedupe=dedupe,
                dedupe_until=dedupe_until,
                on_conflict=on_conflict,
                batch=batch,
                is_async=_is_async(function),
                codec=self.codec,
            )
            self._kinds[kind] = registered
            return registered

        return decorate

    def schedule(
        self,
        name: str,
        kind: str | Kind[Any],
        payload: Any = None,  # noqa: ANN401 - of the kind's type
        **options: Any,  # noqa: ANN401 - those of Schedule
    ) -> None:
        """Declares a schedule of a registered kind.

        A worker makes it so at its start: of the schedules that this application (`declared_by`)
        declared before, it changes those that differ and removes those that are not declared any
        more. Where `options` (those of `Schedule`) say nothing, the kind's own hold.

        Args:
            name: the schedule's name.
            kind: the kind, or its name; it may be registered later.
            payload: of each job.
            options: `cron` or `every`, and whatever else `Schedule` has.

        Raises:
            InvalidSchedule: an option cannot be, or a schedule of that name is declared already.
            ConfigurationError: these handlers have no `declared_by`.
        """
        if self.declared_by is None:
            raise ConfigurationError(
                "schedules are declared in an application's name, by which they are removed again; "
                "pass one, as in Handlers(declared_by='shop')"
            )
        if name in self._schedules:
            raise InvalidSchedule(f"schedule {name!r} is declared already; choose another name")
        known = kind.name if isinstance(kind, Kind) else kind
        try:
            checked_schedule(Schedule(name, known, **options))
        except TypeError as error:
            raise InvalidSchedule(
                f"schedule {name!r}: {error}; the options are those of pgqueue.Schedule"
            ) from None
        self._schedules[name] = {"kind": known, "payload": payload, **options}

    @property
    def schedules(self) -> Sequence[Schedule]:
        """All that are declared, with the options of their kinds.

        Raises:
            UnknownKind: one is of a kind that has no handler here.
            InvalidSchedule: a payload cannot be stored.
        """
        return tuple(
            checked_schedule(self._as_schedule(name, **options))
            for name, options in self._schedules.items()
        )

    def _as_schedule(self, name: str, kind: str, payload: Any, **options: Any) -> Schedule:  # noqa: ANN401
        known = self[kind]
        encoded = None if payload is None else known.codec.encode(payload)
        defaults = {
            "queue": known.queue,
            "priority": known.priority,
            "retry": known.retry,
            "max_attempts": known.max_attempts,
        }
        return Schedule(name, kind, encoded, **{**defaults, **options})

    def middleware(self, middleware: Middleware) -> Middleware:
        """Adds a context around every attempt: a function of the job that gives a context manager.

        The first added is the outermost. It is entered in the handler's own thread or task; around
        a batch once, with the first job, or with all by a method `around_batch`, if it has one. An
        exception of its own fails the attempt; one of the handler's that it swallows does not.
        """
        self._middleware.append(middleware)
        return middleware

    def on_end(
        self, observer: Callable[[AttemptEnded], object]
    ) -> Callable[[AttemptEnded], object]:
        """Calls `observer` after every attempt, once the database knows of it.

        It runs on the worker's event loop, so it must be quick. Its errors are logged.

        Raises:
            ConfigurationError: it is async; nobody would await it.
        """
        if _is_async(observer):
            raise ConfigurationError(f"the observer {observer!r} is async; pass a plain function")
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
    def enqueue(
        self,
        client: Client,
        kind: str,
        payload: Any = None,  # noqa: ANN401
        **options: Any,  # noqa: ANN401
    ) -> EnqueueResult: ...
    @overload
    def enqueue(
        self,
        client: AsyncClient,
        kind: str,
        payload: Any = None,  # noqa: ANN401
        **options: Any,  # noqa: ANN401
    ) -> Awaitable[EnqueueResult]: ...
    def enqueue(
        self,
        client: Client | AsyncClient,
        kind: str,
        payload: Any = None,
        **options: Any,
    ) -> EnqueueResult | Awaitable[EnqueueResult]:
        """Enqueues a job of a registered kind with that kind's options; see `Kind.enqueue`.

        Raises:
            UnknownKind: it has no handler here, so that a misspelt kind is found at once.
        """
        return self[kind].enqueue(client, payload, **options)

    def around(
        self, job: Job[Any], batch: Sequence[Job[Any]] | None = None
    ) -> AbstractContextManager[object] | None:
        """All middleware for `job` as one context; None if there is none. `batch` is its batch."""
        if not self._middleware:
            return None
        return _Around(self._middleware, job, batch)

    def tell(self, event: AttemptEnded) -> None:
        """Calls the observers."""
        for observer in self._observers:
            try:
                observer(event)
            except Exception as error:  # noqa: BLE001, PERF203 - one must not silence the others
                logger.error(  # noqa: TRY400 - the traceback quotes what is to be redacted
                    "an observer of on_end failed on job %s (%s): %s",
                    event.job.id, event.job.kind, self.trace(error),
                )  # fmt: skip

    def redacted(self, job: Job[Any], text: str) -> str:
        """`text`, of an error or reason of `job`, as it may be logged and stored."""
        seen = job
        if self._redact is not None and job.kind in self._kinds:
            with contextlib.suppress(Exception):  # it does not fit, or its key is missing
                seen = self._kinds[job.kind].decoded(job)
        text, trouble = redaction.redacted(self._redact, seen, text)
        if trouble:
            logger.error("redact failed on job %s (%s): %s", job.id, job.kind, trouble)
        return text

    def trace(self, error: BaseException) -> str:
        """The traceback of an error that is of no one job, as it may be logged."""
        return trace(error, frames_only=self._redact is not None)

    @property
    def observed(self) -> bool:
        """Whether anyone wants to know how attempts end."""
        return bool(self._observers)


class _Around(AbstractContextManager[None]):
    """Contexts made and entered one after another, so that a later one sees the earlier ones."""

    def __init__(
        self, middleware: Sequence[Middleware], job: Job[Any], batch: Sequence[Job[Any]] | None
    ) -> None:
        self._middleware = middleware
        self._job = job
        self._batch = batch
        self._stack = ExitStack()

    def __enter__(self) -> None:
        with ExitStack() as stack:
            for middleware in self._middleware:
                stack.enter_context(self._made(middleware))
            self._stack = stack.pop_all()

    def _made(self, middleware: Middleware) -> AbstractContextManager[object]:
        of_batches = None if self._batch is None else getattr(middleware, "around_batch", None)
        if of_batches is None:
            return middleware(self._job)
        context: AbstractContextManager[object] = of_batches(self._batch)
        return context

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return self._stack.__exit__(exc_type, error, trace)


def _is_async(function: Callable[..., object]) -> bool:
    if inspect.iscoroutinefunction(function):
        return True
    called = None if inspect.isclass(function) else getattr(function, "__call__", None)  # noqa: B004
    return inspect.iscoroutinefunction(called)
