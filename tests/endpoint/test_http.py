"""Requests and responses, by WSGI and ASGI alike."""

from __future__ import annotations

import asyncio
import io
from typing import Any
from wsgiref.validate import validator

import httpx
import psycopg
import pytest

from pgqueue import Client, Handlers
from pgqueue.endpoint import Endpoint

from .conftest import SECRET, Call, Make

BEARER = {"Authorization": f"Bearer {SECRET}"}


def test_health_needs_no_secret_and_no_database(handlers: Handlers, call: Call) -> None:
    """It says what the queue is called, and no more."""
    endpoint = Endpoint("host=/nowhere", handlers, secrets=SECRET, queues=["mail"])
    answer = call(endpoint, "GET", headers={})
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "queue": "mail"})
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_health_checks_a_secret_that_is_sent(make: Make, call: Call) -> None:
    """So that a stale one is found without running a job; with the right one it says more."""
    endpoint = make(queues=["a", "b"])
    assert call(endpoint, "GET", headers={"Authorization": "Bearer stale"}).status_code == 401
    assert call(endpoint, "GET").json() == {
        "status": "ok", "queue": "a,b", "running": 0, "most_at_once": 4, "limit": 10,
        "budget_seconds": 25.0,
    }  # fmt: skip


def test_health_is_private_if_told(make: Make, call: Call) -> None:
    """Then even the bare status needs the secret."""
    endpoint = make(private_health=True)
    assert call(endpoint, "GET", headers={}).status_code == 401
    assert call(endpoint, "GET").status_code == 200


def test_head_and_options(make: Make, call: Call) -> None:
    """HEAD is GET without a body, OPTIONS names the methods; neither needs a secret."""
    endpoint = make()
    head, get = (call(endpoint, method, headers={}) for method in ("HEAD", "GET"))
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(get.content))
    options = call(endpoint, "OPTIONS", headers={})
    assert (options.status_code, options.headers["Allow"]) == (204, "GET, HEAD, OPTIONS, POST")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "BREW"])
def test_other_methods_are_refused(make: Make, call: Call, method: str) -> None:
    """With the ones that are not."""
    answer = call(make(), method)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD, OPTIONS, POST")


def test_post_answers_what_came_of_it(make: Make, call: Call, client: Client) -> None:
    """Counts, and one result per attempt, without payloads, results and errors."""
    handlers = Handlers()
    handlers.register("good")(lambda _: "done")
    handlers.register("bad")(lambda _: 1 / 0)
    good, bad = (client.enqueue(kind, {"x": "private"}).id for kind in ("good", "bad"))
    answer = call(make(handlers)).json()
    for result in answer["results"]:
        assert isinstance(result.pop("duration_ms"), int)
    results = sorted(answer.pop("results"), key=lambda result: result["id"])
    assert answer == {"processed": 2, "succeeded": 1, "failed": 1, "skipped": 0, "more": False}
    assert results == [
        {"id": good, "kind": "good", "outcome": "succeeded", "attempt": 1},
        {"id": bad, "kind": "bad", "outcome": "failed", "attempt": 1},
    ]


@pytest.mark.parametrize("body", [b"", b" ", b"{}", b'{"limit": null, "queue": null}'])
def test_body_may_be_empty(make: Make, call: Call, client: Client, body: bytes) -> None:
    """Then the endpoint's own limits hold."""
    client.enqueue_many([("sync", {}), ("async", {})])
    headers = {**BEARER, "Content-Type": "application/json; charset=utf-8"}
    assert call(make(), content=body, headers=headers).json()["succeeded"] == 2


def test_body_asks_for_less(make: Make, call: Call, client: Client) -> None:
    """Fewer jobs, or one queue of several."""
    endpoint = make(queues=["a", "b"])
    for queue in ("a", "b", "b"):
        client.enqueue("sync", queue=queue)
    assert call(endpoint, json={"queue": "b", "limit": 1}).json()["processed"] == 1
    assert [queue.queue for queue in client.stats() if queue.ready] == ["a", "b"]
    assert call(endpoint, json={"queue": "b", "limit": 5.0}).json()["processed"] == 1
    assert call(endpoint, json={"queue": "b"}).json()["processed"] == 0


@pytest.mark.parametrize(
    "body, words",
    [
        (b"[]", "no JSON object"),
        (b"{", "no JSON object"),
        (b"\xff", "no JSON object"),
        (b"[" * 9_999, "no JSON object"),
        (b'{"limit": 11}', "limit is 11"),
        (b'{"limit": 0}', "limit is 0"),
        (b'{"limit": true}', "limit is True"),
        (b'{"limit": "1"}', "limit is '1'"),
        (b'{"limit": 1e400}', "limit is inf"),
        (b'{"queue": "other"}', "queue is 'other'"),
        (b'{"queue": ["default"]}', "queue is"),
        (b'{"limits": 1}', "unknown in the body: 'limits'"),
    ],
)
def test_bad_body_is_refused(make: Make, call: Call, body: bytes, words: str) -> None:
    """With what is wrong; nothing is run."""
    headers = {**BEARER, "Content-Type": "application/json"}
    answer = call(make(), content=body, headers=headers)
    assert answer.status_code == 400
    assert words in answer.json()["error"]


@pytest.mark.parametrize("kind", ["text/plain", "", "application/x-www-form-urlencoded", "json"])
def test_body_of_another_type_is_refused(make: Make, call: Call, kind: str) -> None:
    """So that no HTML form can send one."""
    answer = call(make(), content=b"{}", headers={**BEARER, "Content-Type": kind})
    assert answer.status_code == 415
    problem = {**BEARER, "Content-Type": "application/vnd.cron+json"}
    assert call(make(), content=b"{}", headers=problem).status_code == 200


def test_long_body_is_refused(make: Make, call: Call) -> None:
    """One byte too many is; without the secret, nobody even looks at it."""
    endpoint = make(max_body=20)
    headers = {**BEARER, "Content-Type": "application/json"}
    assert call(endpoint, content=b"{}".ljust(20), headers=headers).status_code == 200
    assert call(endpoint, content=b"{}".ljust(21), headers=headers).status_code == 413
    assert call(endpoint, content=b"{}".ljust(21), headers={}).status_code == 401


class Unreadable(io.BytesIO):
    """A body that must not be read."""

    def read(self, _: Any = -1) -> bytes:
        """Fails."""
        raise AssertionError("the body was read")


def wsgi(endpoint: Endpoint, *, valid: bool = True, **environ: Any) -> tuple[int, bytes]:
    """A request by WSGI, as a server would make it; if it is `valid`, PEP 3333 is checked."""
    told: list[str] = []
    environment: dict[str, Any] = {
        "REQUEST_METHOD": "POST", "SCRIPT_NAME": "", "PATH_INFO": "/", "QUERY_STRING": "",
        "SERVER_NAME": "e", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_AUTHORIZATION": f"Bearer {SECRET}", "CONTENT_TYPE": "application/json",
        "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(), "wsgi.multithread": True, "wsgi.multiprocess": True,
        "wsgi.run_once": False, **environ,
    }  # fmt: skip

    def start_response(status: str, *_: object) -> Any:
        told.append(status)
        return lambda _: None

    if not valid:
        body = b"".join(endpoint.wsgi(environment, start_response))
        return int(told[0][:3]), body
    found = validator(endpoint.wsgi)(environment, start_response)
    body = b"".join(found)
    found.close()  # type: ignore[attr-defined] # the validator's
    return int(told[0][:3]), body


def test_long_body_is_not_read(make: Make) -> None:
    """Its length is enough; and without the secret none is read."""
    endpoint = make()
    unread: dict[str, Any] = {"wsgi.input": Unreadable(), "CONTENT_LENGTH": "99999999999"}
    assert wsgi(endpoint, **unread)[0] == 413
    assert wsgi(endpoint, **unread, HTTP_AUTHORIZATION="")[0] == 401
    unread["CONTENT_LENGTH"] = "2"
    assert wsgi(endpoint, **unread, HTTP_AUTHORIZATION="")[0] == 401


@pytest.mark.parametrize("length", ["x", "-1", "1.0", "\u0661"])
def test_length_that_is_no_number_is_refused(make: Make, length: str) -> None:
    """Servers should see to that, but not all do."""
    assert wsgi(make(), valid=False, CONTENT_LENGTH=length)[0] == 400


def test_chunked_body_by_wsgi(make: Make) -> None:
    """It is read up to the cap where the server ends it, and refused where it does not."""
    endpoint = make(max_body=20)
    chunked: dict[str, Any] = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": io.BytesIO(b"{}")}
    assert wsgi(endpoint, **chunked)[0] == 411
    assert wsgi(endpoint, **chunked, **{"wsgi.input_terminated": True})[0] == 200
    long = {**chunked, "wsgi.input": io.BytesIO(b"{}".ljust(99)), "wsgi.input_terminated": True}
    assert wsgi(endpoint, **long)[0] == 413


async def asgi(endpoint: Endpoint, *messages: dict[str, Any], **scope: Any) -> list[Any]:
    """What an endpoint sends by ASGI when it is sent messages."""
    waiting, sent = list(messages), []

    async def receive() -> Any:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"authorization", f"Bearer {SECRET}".encode())]
    await endpoint.asgi(
        {"type": "http", "method": "POST", "headers": headers, **scope}, receive, send
    )
    return sent


def test_chunks_are_counted_by_asgi(make: Make) -> None:
    """A body in many chunks is refused as soon as it is too long."""
    endpoint = make(max_body=20)
    chunk = {"type": "http.request", "body": b" " * 15, "more_body": True}
    sent = asyncio.run(asgi(endpoint, chunk, chunk))
    assert sent[0]["status"] == 413


def test_client_that_leaves_before_its_body_gets_no_answer(make: Make) -> None:
    """Nobody is there to read it, and nothing was asked for yet."""
    assert asyncio.run(asgi(make(), {"type": "http.disconnect"})) == []


def test_client_that_leaves_while_jobs_run_does_not_stop_them(make: Make, client: Client) -> None:
    """Its answer cannot be sent, which the server hears of; the work is done."""
    job_id = client.enqueue("async").id
    endpoint = make()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(_: Any) -> None:
        raise OSError

    async def main() -> None:
        headers = [(b"authorization", f"Bearer {SECRET}".encode())]
        scope = {"type": "http", "method": "POST", "headers": headers}
        async with endpoint:
            with pytest.raises(OSError):  # noqa: PT011 - the one above
                await endpoint.asgi(scope, receive, send)

    asyncio.run(main())
    assert str(client.get(job_id).state) == "succeeded"


def test_other_asgi_scopes(make: Make) -> None:
    """The server's lifespan is heeded, a websocket is closed."""
    endpoint = make()
    messages = ({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    sent = asyncio.run(asgi(endpoint, *messages, type="lifespan"))
    assert [message["type"].partition(".")[2] for message in sent] == [
        "startup.complete", "shutdown.complete",
    ]  # fmt: skip
    assert asyncio.run(asgi(endpoint, type="websocket"))[0]["type"] == "websocket.close"
    bad = [(b"content-length", b"x")]
    assert asyncio.run(asgi(endpoint, headers=bad))[0]["status"] == 400


@pytest.mark.parametrize("dsn", ["host=/nowhere", "no-schema"])
def test_trouble_with_the_database_is_503(
    handlers: Handlers, call: Call, pgqueue_dsn: str, dsn: str
) -> None:
    """With a Retry-After, and nothing of where it is; `process` raises the error itself."""
    schema = "pgqueue" if dsn.startswith("host") else "elsewhere"
    target = dsn if dsn.startswith("host") else pgqueue_dsn
    with Endpoint(target, handlers, secrets=SECRET, schema=schema) as endpoint:
        answer: httpx.Response = call(endpoint)
        assert answer.status_code == 503
        assert answer.json() == {"error": "the queue is not available"}
        assert int(answer.headers["Retry-After"]) > 0
        assert call(endpoint, "GET").json()["running"] == 0


def test_errors_are_shown_if_asked_for_and_redacted(make: Make, call: Call, client: Client) -> None:
    """As in the job's history: with passwords masked, and by the app's own rule."""
    handlers = Handlers(redact=lambda _, text: text.replace("Ada", "***"))

    @handlers.register("bad")
    def _bad(_: object) -> None:
        raise psycopg.OperationalError("Ada at postgresql://u:hunter2@host/db failed \ud800\0")

    client.enqueue("bad")
    (result,) = call(make(handlers, show_errors=True)).json()["results"]
    assert result["error"].startswith("OperationalError: *** at postgresql://u:***@host/db failed")
