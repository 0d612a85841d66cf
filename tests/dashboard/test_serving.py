"""How it is served: over WSGI, streams of news, caches."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx
import pytest
from tests.dashboard.conftest import OPERATOR, token

from pgqueue import Client
from pgqueue.dashboard import Dashboard
from pgqueue.dashboard.cache import Cached


def test_it_stands_beside_a_wsgi_application(client: Client) -> None:
    """Below its path it answers, forms and all; everything else is the application's."""

    def app(_: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"the app"]

    number = client.enqueue("k").id
    seen: list[Any] = []

    def auth(request: Any) -> Any:
        seen.append(request.scope["wsgi_environ"]["SCRIPT_NAME"])
        return OPERATOR

    both = Dashboard(client, auth=auth).beside(app, "/queue")
    transport = httpx.WSGITransport(both)
    with httpx.Client(transport=transport, base_url="http://app.test") as browser:
        assert browser.get("/").text == "the app"
        assert browser.get("/queuex").text == "the app"
        page = browser.get(f"/queue/jobs/{number}")
        assert page.status_code == 200
        assert 'data-live="poll"' in page.text
        assert browser.get("/queue/live").status_code == 204
        done = browser.post(
            f"/queue/jobs/{number}/cancel",
            data={"csrf": token(page.text)},
            headers={"Origin": "http://app.test"},
        )
        assert done.headers["location"] == f"/queue/jobs/{number}"
    assert client.get(number).state == "cancelled"
    assert set(seen) == {"/queue"}


def test_stream_tells_that_something_changed(client: Client, monkeypatch: Any) -> None:
    """The version first, and another one after an enqueue; then it ends, to be asked for again."""
    monkeypatch.setattr("pgqueue.dashboard.live.EVERY", 0.05)
    monkeypatch.setattr("pgqueue.dashboard.live.STREAM", 20.0)
    dashboard = Dashboard(client, auth=lambda _: OPERATOR)
    dashboard.desk.live.version = Cached(dashboard.desk.live._look, 0.0)

    async def listen() -> list[str]:
        told = []
        async for event in dashboard.desk.live.events():
            if event.startswith("event: version"):
                told.append(event)
                if len(told) == 2:
                    break
                await asyncio.to_thread(client.enqueue, "k")
        return told

    first, second = asyncio.run(asyncio.wait_for(listen(), 10))
    assert first != second


def test_stream_says_that_the_database_is_lost() -> None:
    """Instead of ending with an error."""
    dashboard = Dashboard("host=/nonexistent dbname=x", auth=lambda _: OPERATOR)

    async def listen() -> str:
        async for event in dashboard.desk.live.events():
            if event.startswith("event"):
                return event
        raise AssertionError

    assert "data: lost" in asyncio.run(asyncio.wait_for(listen(), 30))


def test_dear_answer_is_asked_for_once_at_a_time() -> None:
    """Who comes meanwhile gets the last one, and who comes later the one that is kept."""
    now = 0.0
    asked: list[float] = []
    gate, begun = threading.Event(), threading.Event()

    def ask() -> int:
        asked.append(now)
        if len(asked) == 2:
            begun.set()
            assert gate.wait(10)
        return len(asked)

    cached = Cached(ask, 10, clock=lambda: now)
    assert cached.get().value == 1
    now = 9.0
    assert (cached.get().value, cached.get().age) == (1, 9.0)
    now = 11.0
    slow = threading.Thread(target=cached.get)
    slow.start()
    assert begun.wait(10)
    assert cached.get().value == 1  # does not wait
    gate.set()
    slow.join(10)
    assert (cached.get().value, len(asked)) == (2, 2)
    cached.forget()
    assert cached.get().value == 3


def test_slow_answer_is_asked_for_less_often() -> None:
    """One that took a second is kept for twenty."""
    now = 0.0

    def ask() -> float:
        nonlocal now
        now += 1.0
        return now

    cached = Cached(ask, 2, clock=lambda: now)
    cached.get()
    now = 20.0
    assert cached.get().value == 1.0
    now = 21.5
    assert cached.get().value > 1.0


def test_failing_question_keeps_the_last_answer() -> None:
    """Whoever asks is told of the failure; who peeks gets what is known."""
    answers: list[Any] = [1, ValueError("no")]
    now = 0.0

    def ask() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return int(answer)

    cached = Cached(ask, 1, clock=lambda: now)
    assert cached.get().value == 1
    now = 5.0
    with pytest.raises(ValueError, match="no"):
        cached.get()
    assert cached._known is not None
