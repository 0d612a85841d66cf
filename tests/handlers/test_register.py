"""The registry: what can be registered, and what its kinds enqueue."""

from __future__ import annotations

import asyncio
import functools
from datetime import timedelta
from typing import Any

import attrs
import pytest

from pgqueue import (
    AsyncClient,
    Client,
    ConfigurationError,
    Constant,
    DuplicateJob,
    Handlers,
    InvalidJob,
    Job,
    NewJob,
    UnknownKind,
)


@attrs.frozen
class Mail:
    """A payload."""

    to: str


@pytest.fixture
def handlers() -> Handlers:
    """An empty registry."""
    return Handlers()


def test_kind_enqueues_with_its_own_options(pgqueue_client: Client, handlers: Handlers) -> None:
    """Each option of a job that was given at registration."""
    send = handlers.register(
        "mail",
        payload=Mail,
        queue="post",
        priority=2,
        retry=Constant(timedelta(seconds=7)),
        max_attempts=3,
        dedupe=lambda mail: mail.to,
    )(lambda _: None)
    first = send.enqueue(pgqueue_client, Mail("ada"))
    second = send.enqueue(pgqueue_client, Mail("ada"))
    job = pgqueue_client.get(first.id)
    assert (job.queue, job.priority, job.max_attempts, job.dedupe_key) == ("post", 2, 3, "ada")
    assert (job.kind, job.payload) == ("mail", {"to": "ada"})
    assert (second.id, second.duplicate) == (first.id, True)


def test_options_of_one_enqueue_override_the_kinds(
    pgqueue_client: Client, handlers: Handlers
) -> None:
    """And add those that a kind does not have, a connection among them."""
    send = handlers.register("mail", priority=2, dedupe=lambda _: "always")(lambda _: None)
    with pgqueue_client.driver.connection() as conn:
        job_id = send.enqueue(
            pgqueue_client, {"a": 1}, priority=7, dedupe_key="other", tags=["t"], conn=conn
        ).id
    job = pgqueue_client.get(job_id)
    assert (job.priority, job.dedupe_key, job.tags) == (7, "other", ["t"])
    assert not send.enqueue(pgqueue_client, dedupe_key=None).duplicate
    assert not send.enqueue(pgqueue_client, dedupe_key=None).duplicate


def test_dedupe_key_is_made_also_without_a_payload(
    pgqueue_client: Client, handlers: Handlers
) -> None:
    """A kind of which there is to be one job at a time."""
    nightly = handlers.register("nightly", dedupe=lambda payload: f"one{payload}")(lambda _: None)
    assert not nightly.enqueue(pgqueue_client).duplicate
    assert nightly.enqueue(pgqueue_client).duplicate
    assert nightly.new().dedupe_key == "one{}"


def test_scope_and_conflict_of_the_dedupe_key_are_the_kinds(
    pgqueue_client: Client, handlers: Handlers
) -> None:
    """Until the start, and with an error."""
    strict = handlers.register(
        "a", dedupe=lambda _: "k", dedupe_until="start", on_conflict="raise"
    )(lambda _: None)
    strict.enqueue(pgqueue_client)
    with pytest.raises(DuplicateJob):
        strict.enqueue(pgqueue_client)
    pgqueue_client.claim()
    strict.enqueue(pgqueue_client)


def test_new_makes_a_job_for_enqueue_many(pgqueue_client: Client, handlers: Handlers) -> None:
    """As a value."""
    send = handlers.register("mail", payload=Mail, queue="post")(lambda _: None)
    job = send.new(Mail("x"), ref="r")
    assert job == NewJob("mail", {"to": "x"}, queue="post", ref="r")
    assert pgqueue_client.enqueue_many([job]).enqueued == 1


async def _enqueue(client: AsyncClient, handlers: Handlers) -> list[int]:
    kind = handlers["mail"]
    async with client:
        first = await kind.enqueue(client, {"n": 1})
        second = await handlers.enqueue(client, "mail", {"n": 2})
    return [first.id, second.id]


def test_async_clients_are_awaited(
    pgqueue_client: Client, pgqueue_async_client: AsyncClient, handlers: Handlers
) -> None:
    """The same methods serve both sorts of client."""
    handlers.register("mail")(lambda _: None)
    ids = asyncio.run(_enqueue(pgqueue_async_client, handlers))
    assert [pgqueue_client.get(job).payload for job in ids] == [{"n": 1}, {"n": 2}]


def test_registry_enqueues_by_name(pgqueue_client: Client, handlers: Handlers) -> None:
    """A misspelt kind is found at once, and the error lists the known ones."""
    handlers.register("mail", priority=1)(lambda _: None)
    job = handlers.enqueue(pgqueue_client, "mail", {"x": 1}).id
    assert pgqueue_client.get(job).priority == 1
    with pytest.raises(UnknownKind, match="registered: mail"):
        handlers.enqueue(pgqueue_client, "male")


def test_kind_is_still_the_function(handlers: Handlers) -> None:
    """Calling it calls the handler."""

    @handlers.register("a")
    def double(job: Job[Any]) -> int:
        return int(job.payload) * 2

    @attrs.frozen
    class Fake:
        payload: int

    assert double(Fake(4)) == 8
    assert handlers["a"] is double
    assert "a" in handlers
    assert "b" not in handlers
    assert [kind.name for kind in handlers.kinds] == ["a"]


def test_async_functions_are_told_apart(handlers: Handlers) -> None:
    """Coroutine functions, partial ones, and objects with an async call."""

    async def function(_: Any) -> None:
        """Async."""

    class Callable:
        async def __call__(self, _: Any) -> None:
            """Async."""

    assert handlers.register("a")(function).is_async
    assert handlers.register("b")(functools.partial(function)).is_async
    assert handlers.register("c")(Callable()).is_async
    assert not handlers.register("d")(lambda _: None).is_async
    assert not handlers.register("e")(Callable).is_async


def test_each_kind_has_one_handler(handlers: Handlers) -> None:
    """A second one would silently replace the first."""
    handlers.register("a")(lambda _: None)
    with pytest.raises(ConfigurationError, match="has a handler already"):
        handlers.register("a")(lambda _: None)


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "no name"},
        {"kind": ""},
        {"queue": "no name"},
        {"priority": 10},
        {"priority": -1},
        {"retry": 5},
        {"max_attempts": 0},
        {"timeout": timedelta(0)},
        {"timeout": 5},
        {"dedupe_until": "never"},
        {"on_conflict": "ignore"},
        {"batch": 0},
        {"batch": 1_001},
        {"batch": 2.5},
        {"batch": True},
    ],
)
def test_option_that_cannot_be_is_refused(handlers: Handlers, options: dict[str, Any]) -> None:
    """When the kind is registered, rather than with its first job."""
    with pytest.raises(InvalidJob, match=r"pass|use"):
        handlers.register(**{"kind": "a", **options})


def test_dedupe_and_handlers_must_be_functions(handlers: Handlers) -> None:
    """A key instead of a function of the payload is an easy slip."""
    with pytest.raises(ConfigurationError, match="pass a function"):
        handlers.register("a", dedupe="key")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="cannot be called"):
        handlers.register("a")("send")  # type: ignore[arg-type]
