"""Spans of OpenTelemetry for enqueues and attempts (extra `otel`: the API alone).

    pgqueue.otel.instrument(client)
    pgqueue.otel.instrument(handlers)

The context of an enqueue travels in the job's metadata, as W3C's `traceparent` and `tracestate`.
Names and attributes follow the semantic conventions for messaging.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import attrs

from pgqueue.aclient import AsyncClient
from pgqueue.client import Client
from pgqueue.errors import ConfigurationError
from pgqueue.handlers import Handlers
from pgqueue.models import Job, NewJob
from pgqueue.version import __version__

try:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:  # pragma: no cover - the tests have it
    raise ImportError(
        "pgqueue.otel needs opentelemetry-api; install pgqueue's extra `otel`"
    ) from error

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from opentelemetry.trace import TracerProvider

    from pgqueue.copytext import BulkJob
    from pgqueue.jsontext import Json

__all__ = ["instrument", "uninstrument"]

SYSTEM = "pgqueue"
MOST_LINKS = 128
"""What the SDK keeps of a span by default."""
_PAIR = 2
_W3C = TraceContextTextMapPropagator()
_instrumented: WeakSet[Handlers] = WeakSet()


def instrument(
    target: Client | AsyncClient | Handlers,
    *,
    tracer_provider: TracerProvider | None = None,
    links: bool = False,
    messages: bool = False,
) -> None:
    """Makes spans: of a client's enqueues, or of the attempts that handlers make.

    Nothing is patched: a client gets a hook, handlers a middleware; add it before others that are
    to see its span. As long as no SDK is set up, no span is made and no metadata added. Jobs
    without a context, of SQL or of schedules, begin a trace of their own.

    - An enqueue is a span of kind PRODUCER, `enqueue QUEUE`; a bulk is one span for all its jobs,
      which then go into the database as `NewJob`s, about half as fast as pairs do.
    - An attempt is one of kind CONSUMER, `run QUEUE`, child of its enqueue; a call of a batch
      handler is one with links to all of them. An exception sets its status and `error.type`.

    Args:
        target: a client, or handlers.
        tracer_provider: where spans are made; the global one by default.
        links: attempts begin traces of their own that link to their enqueue, rather than to be
            children of it: for jobs that run hours later, or millions from one enqueue.
        messages: whether a failed span has the text of the error, redacted as in the log. It may
            still hold what your handlers put there.

    Raises:
        ConfigurationError: it is instrumented already, or is neither.
    """
    tracer = trace.get_tracer("pgqueue", __version__, tracer_provider)
    if isinstance(target, (Client, AsyncClient)):
        if target.enqueue_hook is not None:
            raise ConfigurationError("this client has an enqueue_hook already; take it out first")
        target.enqueue_hook = _Producer(tracer)
        return
    given: object = target
    if not isinstance(given, Handlers):
        raise ConfigurationError(f"got a {type(given).__qualname__}; pass a client or Handlers")
    if given in _instrumented:
        raise ConfigurationError("these handlers are instrumented already; do it once")
    _instrumented.add(given)
    given.middleware(_Consumer(tracer, given, links=links, messages=messages))


def uninstrument(client: Client | AsyncClient) -> None:
    """Makes no more spans of a client's enqueues; handlers stay as they are."""
    client.enqueue_hook = None


# Producers


@attrs.frozen
class _Enqueuing:
    span: Span

    def done(self, job_id: int | None, count: int, duplicates: int) -> None:
        """Notes what came of it."""
        if job_id is not None:
            self.span.set_attribute("messaging.message.id", str(job_id))
        else:
            self.span.set_attribute("messaging.batch.message_count", count)
        if duplicates:
            self.span.set_attribute("pgqueue.duplicates", duplicates)


@attrs.frozen
class _Producer:
    """See `EnqueueHook`."""

    tracer: Tracer

    @contextmanager
    def one(self, job: NewJob) -> Iterator[tuple[NewJob, _Enqueuing]]:
        """A span around one enqueue."""
        with self._span(job.queue, {"pgqueue.job.kind": job.kind}) as span:
            yield _carrying(job, _carrier()), _Enqueuing(span)

    @contextmanager
    def many(
        self, jobs: Iterable[BulkJob], queue: str
    ) -> Iterator[tuple[Iterable[BulkJob], _Enqueuing]]:
        """One span around a bulk; `queue` is the destination, though a NewJob may have another."""
        with self._span(queue, {}) as span:
            carrier = _carrier()
            made = _Bulk.of(jobs, queue, carrier) if carrier else jobs
            yield made, _Enqueuing(span)

    def _span(self, queue: str, more: Mapping[str, str]) -> AbstractContextManager[Span]:
        return _failing(
            self.tracer.start_as_current_span(
                f"enqueue {queue}",
                kind=SpanKind.PRODUCER,
                attributes={**_attributes(queue, "send", "enqueue"), **more},
                record_exception=False,
                set_status_on_exception=False,
            )
        )


@attrs.frozen
class _Bulk:
    """Jobs with a context; it can be begun anew if what was given can."""

    jobs: Iterable[BulkJob]
    queue: str
    carrier: Mapping[str, str]

    @classmethod
    def of(
        cls, jobs: Iterable[BulkJob], queue: str, carrier: Mapping[str, str]
    ) -> Iterable[BulkJob]:
        made = cls(jobs, queue, carrier)
        return iter(made) if iter(jobs) is jobs else made

    def __iter__(self) -> Iterator[BulkJob]:
        job: Any  # anything at all
        for job in self.jobs:
            if isinstance(job, NewJob):
                yield _carrying(job, self.carrier)
            elif isinstance(job, tuple) and len(job) == _PAIR:  # else it is refused
                yield NewJob(*job, queue=self.queue, metadata=self.carrier)
            else:
                yield job


def _carrier() -> dict[str, str]:
    """The current context as W3C writes it; empty if there is none."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return carrier


def _carrying(job: NewJob, carrier: Mapping[str, str]) -> NewJob:
    if not carrier or not isinstance(job.metadata, (Mapping, type(None))):
        return job
    merged: dict[str, Json] = {**(job.metadata or {}), **carrier}
    return attrs.evolve(job, metadata=merged)


# Consumers


@attrs.frozen
class _Consumer:
    """A middleware, of batches as well."""

    tracer: Tracer
    handlers: Handlers
    links: bool = attrs.field(kw_only=True)
    messages: bool = attrs.field(kw_only=True)

    def __call__(self, job: Job[Any]) -> AbstractContextManager[object]:
        """A span around an attempt."""
        context = _context(job)
        attributes = {
            **_attributes(job.queue, "process", "run"),
            "messaging.message.id": str(job.id),
            "pgqueue.job.kind": job.kind,
            "pgqueue.job.attempt": job.attempt,
            "pgqueue.job.max_attempts": job.max_attempts,
        }
        return self._span(job, attributes, None if self.links else context, _links([context], self))

    def around_batch(self, jobs: Sequence[Job[Any]]) -> AbstractContextManager[object]:
        """One span around a call of a batch handler."""
        attributes = {
            **_attributes(jobs[0].queue, "process", "run"),
            "messaging.batch.message_count": len(jobs),
            "pgqueue.job.kind": jobs[0].kind,
        }
        contexts = [_context(job) for job in jobs[:MOST_LINKS]]
        return self._span(jobs[0], attributes, None, _links(contexts))

    def _span(
        self,
        job: Job[Any],
        attributes: Mapping[str, str | int],
        parent: Context | None,
        links: Sequence[Link],
    ) -> AbstractContextManager[Span]:
        return _failing(
            self.tracer.start_as_current_span(
                f"run {job.queue}",
                # Without a parent, a root: the worker itself may run within a span.
                context=Context() if parent is None else parent,
                kind=SpanKind.CONSUMER,
                attributes=attributes,
                links=links,
                record_exception=False,
                set_status_on_exception=False,
            ),
            lambda text: self.handlers.redacted(job, text) if self.messages else None,
        )


def _context(job: Job[Any]) -> Context | None:
    """Where the job was enqueued; None if nobody said, or what they said is none."""
    metadata = job.metadata or {}
    carrier = {
        name: value
        for name in ("traceparent", "tracestate")
        if isinstance(value := metadata.get(name), str)
    }
    if "traceparent" not in carrier:
        return None
    found = _W3C.extract(carrier, context=Context())
    return found if trace.get_current_span(found).get_span_context().is_valid else None


def _links(contexts: Iterable[Context | None], consumer: _Consumer | None = None) -> list[Link]:
    if consumer is not None and not consumer.links:
        return []
    found = [trace.get_current_span(c).get_span_context() for c in contexts if c is not None]
    # By their ids: a TraceState has no hash.
    once = {(context.trace_id, context.span_id): context for context in found}
    return [Link(context) for context in once.values()]


# Both


def _attributes(queue: str, kind: str, name: str) -> dict[str, str | int]:
    return {
        "messaging.system": SYSTEM,
        "messaging.destination.name": queue,
        "messaging.operation.type": kind,
        "messaging.operation.name": name,
    }


@contextmanager
def _failing(
    made: AbstractContextManager[Span],
    text: Any = lambda _: None,  # noqa: ANN401
) -> Iterator[Span]:
    """The span, with its status and error.type where an exception passes; no text of it, unless."""
    with made as span:
        try:
            yield span
        except BaseException as error:
            span.set_attribute("error.type", type(error).__qualname__)
            try:
                said = text(str(error))
            except Exception:  # noqa: BLE001 - somebody's __str__
                said = None
            span.set_status(Status(StatusCode.ERROR, said))
            raise
