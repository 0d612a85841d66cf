"""Payloads of a declared type, on their way from `enqueue` to the handler."""

from __future__ import annotations

import dataclasses
from typing import Any, TypedDict

import attrs
import pytest

from pgqueue import Client, Handlers, Job, Json, PayloadError

from .helpers import drain, state


@attrs.frozen
class Mail:
    """With attrs."""

    to: str
    copies: int = 1
    _hidden: str = "s"


@dataclasses.dataclass
class Order:
    """A dataclass."""

    number: int
    note: str = ""


class Signup(TypedDict):
    """A typed dictionary."""

    name: str


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize(
    "payload", [Mail("a@b.c", 2), Order(7, "x"), {"name": "ada"}], ids=["attrs", "data", "typed"]
)
def test_handler_gets_the_declared_type(
    client: Client, handlers: Handlers, payload: Any, way: str
) -> None:
    """What was enqueued comes out equal, whatever kind of class it is."""
    kinds: dict[type, Any] = {Mail: Mail, Order: Order, dict: Signup}
    seen: list[Any] = []
    register = handlers.register("a", payload=kinds[type(payload)])
    if way == "sync":
        kind = register(lambda job: seen.append(job.payload))
    else:

        async def handler(job: Job[Any]) -> None:
            seen.append(job.payload)

        kind = register(handler)
    kind.enqueue(client, payload)
    drain(client, handlers)
    assert seen == [payload]


def test_decoded_job_is_the_same_claim(client: Client, handlers: Handlers) -> None:
    """All but the payload is that of the job, its right to be acked included."""
    seen: list[Job[Mail]] = []
    raw: list[Job[Any]] = []
    kind = handlers.register("a", payload=Mail)(seen.append)
    handlers.register("b")(raw.append)
    kind.enqueue(client, Mail("x"), tags=["t"], metadata={"m": 1}, ref="r", priority=3)
    client.enqueue("b")
    drain(client, handlers)
    (job,) = seen
    fields = (job.tags, job.metadata, job.ref, job.priority, job.kind, job.cancel_requested)
    assert fields == (["t"], {"m": 1}, "r", 3, "a", True)  # over by now
    assert job._control is raw[0]._control


@pytest.mark.parametrize("payload", [{"wrong": 1}, {}, [1], "text", 7, {"to": 1, "more": 2}])
def test_misfit_fails_without_calling_the_handler(
    client: Client, handlers: Handlers, payload: Json
) -> None:
    """The error names the type and says what to do about it."""

    async def never(_: Job[Any]) -> None:
        pytest.fail("called")

    handlers.register("a", payload=Mail)(pytest.fail if isinstance(payload, dict) else never)
    job_id = client.enqueue("a", payload, max_attempts=1).id
    drain(client, handlers)
    attempt = client.get(job_id).history[0]
    assert attempt.error_class == "PayloadError"
    assert "does not fit Mail" in (attempt.error or "")


def test_misfit_in_a_batch_fails_alone(client: Client, handlers: Handlers) -> None:
    """The others of its batch are run."""
    seen: list[str] = []

    @handlers.register("a", payload=Mail, batch=10)
    def send(jobs: list[Job[Mail]]) -> list[str]:
        seen.extend(job.payload.to for job in jobs)
        return [job.payload.to for job in jobs]

    good = [client.enqueue("a", {"to": name}).id for name in "xy"]
    bad = client.enqueue("a", {"no": 1}, max_attempts=1).id
    drain(client, handlers)
    assert seen == ["x", "y"]
    assert [client.get(job).result for job in good] == ["x", "y"]
    assert state(client, bad) == "dead"


class Upper:
    """A codec of the user's own."""

    def encode(self, value: Any) -> Json:
        """Text in capitals."""
        return str(value).upper()

    def decode(self, payload: Json, wanted: type[Any]) -> Any:
        """An instance of what is wanted."""
        if payload == "BAD":
            raise KeyError("no such thing")
        return wanted(payload)


def test_codec_of_ones_own_encodes_and_decodes(client: Client) -> None:
    """Both ways go through it, and its errors fail the attempt."""
    handlers = Handlers(codec=Upper())
    seen: list[object] = []
    kind = handlers.register("a", payload=bytearray)(lambda job: seen.append(job.payload))
    text = handlers.register("b", payload=str, max_attempts=1)(lambda job: seen.append(job.payload))
    text.enqueue(client, "mild")
    bad = text.enqueue(client, "bad").id
    failing = kind.enqueue(client, bytearray(b"x"), max_attempts=1).id
    drain(client, handlers)
    assert seen == ["MILD"]
    assert client.get(bad).history[0].error_class == "KeyError"
    assert client.get(failing).history[0].error_class == "TypeError"


def test_payload_error_is_raised_by_decoded(client: Client, handlers: Handlers) -> None:
    """Those who call the codec themselves get the same error."""
    kind = handlers.register("a", payload=Order)(pytest.fail)
    plain = handlers.register("b")(pytest.fail)
    client.enqueue("a", {"number": 1, "extra": 2})
    (job,) = client.claim()
    assert plain.decoded(job) is job
    with pytest.raises(PayloadError, match="does not fit Order"):
        kind.decoded(job)
