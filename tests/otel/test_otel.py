"""Spans from an enqueue to its attempts, as an SDK in memory gets them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from pgqueue import (
    AsyncClient,
    Client,
    ConfigurationError,
    Constant,
    Handlers,
    Job,
    NewJob,
    Worker,
)
from pgqueue.otel import instrument, uninstrument


class Spans:
    """A provider, and what it has exported."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def of(self, kind: SpanKind) -> list[ReadableSpan]:
        """Those of one kind, in the order in which they ended."""
        return [span for span in self.exporter.get_finished_spans() if span.kind is kind]

    @property
    def enqueued(self) -> list[ReadableSpan]:
        """Of enqueues."""
        return self.of(SpanKind.PRODUCER)

    @property
    def run(self) -> list[ReadableSpan]:
        """Of attempts."""
        return self.of(SpanKind.CONSUMER)


@pytest.fixture
def spans() -> Iterator[Spans]:
    """A provider of this test's own."""
    made = Spans()
    yield made
    made.provider.shutdown()


@pytest.fixture
def client(pgqueue_client: Client, spans: Spans) -> Client:
    """A client that is instrumented."""
    instrument(pgqueue_client, tracer_provider=spans.provider)
    return pgqueue_client


@pytest.fixture
def handlers(spans: Spans) -> Handlers:
    """Handlers that are instrumented."""
    made = Handlers()
    instrument(made, tracer_provider=spans.provider)
    return made


def drain(client: Client, handlers: Handlers) -> None:
    """Runs a worker until it is idle."""
    Worker(client, handlers).run(until_idle=True)


def span_id(span: ReadableSpan) -> int:
    """Its number."""
    assert span.context is not None
    return int(span.context.span_id)


def facts(span: ReadableSpan) -> dict[str, Any]:
    """Its attributes."""
    return dict(span.attributes or {})


@pytest.mark.parametrize("way", ["sync", "async"])
def test_attempt_is_the_child_of_its_enqueue(
    client: Client, handlers: Handlers, spans: Spans, way: str
) -> None:
    """In one trace, below what was going on where it was enqueued; the handler runs within it."""
    seen: list[int] = []

    def body(_: Job[Any]) -> None:
        seen.append(trace.get_current_span().get_span_context().span_id)

    async def async_body(job: Job[Any]) -> None:
        await asyncio.sleep(0)
        body(job)

    handlers.register("email.send", queue="mail")(body if way == "sync" else async_body)
    with spans.provider.get_tracer("app").start_as_current_span("request") as request:
        job_id = client.enqueue("email.send", {"card": "4111"}, queue="mail").id
    drain(client, handlers)
    (enqueued,), (run,) = spans.enqueued, spans.run
    assert enqueued.parent is not None
    assert run.parent is not None
    assert enqueued.parent.span_id == request.get_span_context().span_id
    assert run.parent.span_id == span_id(enqueued)
    assert run.parent.trace_id == request.get_span_context().trace_id
    assert seen == [span_id(run)]
    assert (enqueued.name, run.name) == ("enqueue mail", "run mail")
    common = {
        "messaging.system": "pgqueue",
        "messaging.destination.name": "mail",
        "messaging.message.id": str(job_id),
        "pgqueue.job.kind": "email.send",
    }
    assert facts(enqueued) == {
        **common,
        "messaging.operation.type": "send",
        "messaging.operation.name": "enqueue",
    }
    assert facts(run) == {
        **common,
        "messaging.operation.type": "process",
        "messaging.operation.name": "run",
        "pgqueue.job.attempt": 1,
        "pgqueue.job.max_attempts": 20,
    }
    assert client.get(job_id).metadata is not None


def test_each_attempt_has_a_span_and_failures_their_class_alone(
    client: Client, handlers: Handlers, spans: Spans
) -> None:
    """The text of an error may quote what is to be kept."""
    left = [ValueError("canary-3"), None]

    @handlers.register("a")
    def handler(_: Job[Any]) -> None:
        error = left.pop(0)
        if error is not None:
            raise error

    client.enqueue("a", retry=Constant(timedelta(milliseconds=1)))
    drain(client, handlers)
    first, second = spans.run
    assert (facts(first)["error.type"], first.status.status_code) == (
        "ValueError",
        StatusCode.ERROR,
    )
    assert "error.type" not in facts(second)
    assert [facts(span)["pgqueue.job.attempt"] for span in (first, second)] == [1, 2]
    assert {span.parent and span.parent.span_id for span in (first, second)} == {
        span_id(spans.enqueued[0])
    }
    assert "canary-3" not in first.to_json()


def test_messages_are_redacted_where_they_are_asked_for(client: Client, spans: Spans) -> None:
    """By the rule of the handlers."""
    handlers = Handlers(redact=lambda _, text: text.replace("4111", "***"))
    instrument(handlers, tracer_provider=spans.provider, messages=True)

    @handlers.register("a")
    async def handler(_: Job[Any]) -> None:
        raise ValueError("card 4111")

    client.enqueue("a", max_attempts=1)
    drain(client, handlers)
    assert spans.run[0].status.description == "card ***"


def test_bulk_is_one_span_to_which_all_attempts_belong(
    client: Client, handlers: Handlers, spans: Spans
) -> None:
    """Pairs and NewJobs, by COPY or not, and what they have as metadata stays."""
    handlers.register("a")(lambda _: None)
    jobs = [("a", None)] * 150 + [NewJob("a", metadata={"mine": 1})]
    ids = client.enqueue_many(jobs).ids
    client.enqueue_many(iter([("a", None), ("a", None)]))
    drain(client, handlers)
    large, small = spans.enqueued
    assert facts(large)["messaging.batch.message_count"] == 151
    assert facts(small)["messaging.batch.message_count"] == 2
    parents = [run.parent.span_id for run in spans.run if run.parent]
    assert sorted((parents.count(span_id(large)), parents.count(span_id(small)))) == [2, 151]
    metadata = client.get(ids[-1]).metadata
    assert metadata is not None
    assert metadata["mine"] == 1
    assert metadata["traceparent"].startswith("00-")


def test_batch_handler_has_one_span_with_links(
    client: Client, handlers: Handlers, spans: Spans
) -> None:
    """To each enqueue, once."""
    sizes: list[int] = []
    handlers.register("a", batch=10)(lambda jobs: sizes.append(len(jobs)))
    client.enqueue("a")
    client.enqueue_many([("a", None)] * 3)
    drain(client, handlers)
    links = {link.context.span_id for run in spans.run for link in run.links}
    assert links == {span_id(span) for span in spans.enqueued}
    assert [facts(run)["messaging.batch.message_count"] for run in spans.run] == sizes
    assert all(run.parent is None for run in spans.run)


def test_with_links_an_attempt_begins_a_trace_of_its_own(client: Client, spans: Spans) -> None:
    """Which says where it comes from."""
    handlers = Handlers()
    instrument(handlers, tracer_provider=spans.provider, links=True)
    handlers.register("a")(lambda _: None)
    client.enqueue("a")
    drain(client, handlers)
    (run,) = spans.run
    assert run.parent is None
    assert [link.context.span_id for link in run.links] == [span_id(spans.enqueued[0])]


@pytest.mark.parametrize(
    "metadata",
    [
        "null",
        '{"traceparent": "nonsense"}',
        '{"traceparent": 7}',
        '{"traceparent": "00-00000000000000000000000000000000-0000000000000000-00"}',
        '{"tracestate": "a=b"}',
    ],
)
def test_job_without_a_context_begins_a_trace(
    client: Client, handlers: Handlers, spans: Spans, metadata: str
) -> None:
    """Of SQL, or with what is no context; even where the worker itself runs within a span."""
    handlers.register("a")(lambda _: None)
    with psycopg.connect(client.dsn, autocommit=True) as conn:
        conn.execute(
            "select pgqueue.enqueue('a', metadata => nullif(%s::jsonb, 'null'))", (metadata,)
        )
    with spans.provider.get_tracer("app").start_as_current_span("main"):
        drain(client, handlers)
    (run,) = spans.run
    assert (run.parent, list(run.links)) == (None, [])


def test_duplicate_and_failure_of_an_enqueue_are_in_its_span(client: Client, spans: Spans) -> None:
    """The holder's id, and the class of the error."""
    held = client.enqueue("a", dedupe_key="k").id
    client.enqueue("a", dedupe_key="k")
    with pytest.raises(Exception, match="priority"):
        client.enqueue("a", priority=99)
    _, duplicate, failed = spans.enqueued
    assert facts(duplicate)["messaging.message.id"] == str(held)
    assert facts(duplicate)["pgqueue.duplicates"] == 1
    assert facts(failed)["error.type"] == "InvalidJob"
    assert failed.status.status_code is StatusCode.ERROR


def test_async_client_makes_the_same_spans(pgqueue_client: Client, spans: Spans) -> None:
    """Of one job, and of many."""

    async def body() -> None:
        async with AsyncClient(pgqueue_client.dsn) as client:
            instrument(client, tracer_provider=spans.provider)
            job = await client.enqueue("a")
            await client.enqueue_many([("a", None)] * 3)
            assert ((await client.get(job.id)).metadata or {}).keys() == {"traceparent"}
            uninstrument(client)
            plain = await client.enqueue("a")
            assert (await client.get(plain.id)).metadata is None

    asyncio.run(body())
    assert [facts(span).get("messaging.batch.message_count") for span in spans.enqueued] == [
        None,
        3,
    ]


def test_job_that_a_handler_enqueues_continues_the_trace(
    client: Client, handlers: Handlers, spans: Spans
) -> None:
    """From one attempt to the next job's."""
    handlers.register("b")(lambda _: None)
    handlers.register("a")(lambda _: client.enqueue("b"))
    client.enqueue("a")
    drain(client, handlers)
    assert (
        len({span.context.trace_id for span in (*spans.enqueued, *spans.run) if span.context}) == 1
    )
    assert len(spans.run) == 2


def test_without_an_sdk_nothing_is_added(pgqueue_client: Client) -> None:
    """Instrumented or not, the job is the same."""
    handlers = Handlers()
    instrument(pgqueue_client)
    instrument(handlers)
    handlers.register("a")(lambda _: None)
    job = pgqueue_client.enqueue("a").id
    pgqueue_client.enqueue_many([("a", None)])
    drain(pgqueue_client, handlers)
    assert pgqueue_client.get(job).metadata is None
    assert pgqueue_client.get(job).state == "succeeded"


def test_twice_is_an_error(client: Client, handlers: Handlers) -> None:
    """Every span would be there twice."""
    with pytest.raises(ConfigurationError, match="already"):
        instrument(client)
    with pytest.raises(ConfigurationError, match="already"):
        instrument(handlers)
    with pytest.raises(ConfigurationError, match="pass a client or Handlers"):
        instrument("postgresql://x")  # type: ignore[arg-type]


def test_nothing_is_imported_until_it_is_asked_for() -> None:
    """Neither OpenTelemetry nor prometheus_client nor Sentry comes with pgqueue or a worker."""
    code = (
        "import sys, pgqueue, pgqueue.worker, pgqueue.alerts; names = "
        "('opentelemetry', 'prometheus_client', 'sentry_sdk'); "
        "print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
