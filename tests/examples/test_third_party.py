"""The API that misbehaves on order: what it does wrong, and what it never does twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest
from examples.third_party import ThirdParty, third_party

from .conftest import EXAMPLES

KEY = {"Idempotency-Key": "k"}


@pytest.fixture
def api() -> Iterator[ThirdParty]:
    """One that is well behaved."""
    with third_party() as served:
        yield served


@pytest.fixture
def http(api: ThirdParty) -> Iterator[httpx.Client]:
    """A client of it with little patience."""
    with httpx.Client(base_url=api.url, timeout=0.5) as client:
        yield client


@pytest.mark.parametrize("trouble,status", [("error", 500), ("busy", 429), ("refusal", 422)])
def test_refused_request_has_no_effect(
    api: ThirdParty, http: httpx.Client, trouble: str, status: int
) -> None:
    """As often as was asked for, and only at that path."""
    api.next(2, trouble, path="/people", retry_after=7)
    answers = [http.post(path) for path in ("/people", "/other", "/people/1", "/people")]
    assert [answer.status_code for answer in answers] == [status, 200, status, 200]
    assert answers[0].headers.get("Retry-After") == ("7" if trouble == "busy" else None)
    assert [call.path for call in api.effects] == ["/other", "/people"]
    assert [call.trouble for call in api.calls] == [trouble, None, trouble, None]


@pytest.mark.parametrize("trouble", ["slow", "reset", "garbage"])
def test_lost_answer_hides_an_effect_that_its_key_makes_once(
    api: ThirdParty, http: httpx.Client, trouble: str
) -> None:
    """Whoever asks again with the key gets the first answer; without one all happens twice."""
    api.next(1, trouble)
    with pytest.raises((httpx.TransportError, json.JSONDecodeError)):
        http.post("/people", json={"n": 1}, headers=KEY).json()
    assert http.post("/people", json={"n": 1}, headers=KEY).json() == {"id": 1}
    assert (len(api.calls), len(api.effects)) == (2, 1)
    assert http.post("/people").json() == {"id": 2}
    assert http.post("/people").json() == {"id": 3}


def test_content_is_what_was_put(api: ThirdParty, http: httpx.Client) -> None:
    """GET has no effect."""
    api.put("/media/7", {"kind": "image"})
    assert http.get("/media/7").json() == {"kind": "image"}
    assert http.get("/media/8").status_code == 404
    assert api.effects == []


def test_readers_serve_it_by_hand() -> None:
    """And tell it by HTTP what to do; it prints what comes in."""
    script = [sys.executable, "-W", "error", str(EXAMPLES / "third_party.py"), "--port", "0"]
    with subprocess.Popen(script, stdout=subprocess.PIPE, text=True) as served:
        assert served.stdout is not None
        url = served.stdout.readline().split()[-1]
        order = {"times": 1, "trouble": "error", "path": "/people"}
        httpx.post(f"{url}/_next", content=json.dumps(order))
        httpx.post(f"{url}/_put", content='{"path": "/media/7", "content": 1}')
        assert "garbage" in httpx.get(url + "/_").json()["troubles"]
        assert httpx.post(f"{url}/people").status_code == 500
        assert httpx.post(f"{url}/people").status_code == 200
        assert httpx.get(f"{url}/media/7").json() == 1
        assert len(httpx.get(f"{url}/_effects").json()) == 1
        served.terminate()
        printed = served.stdout.read()
    assert "POST /people  -> error\nPOST /people  -> 200\n" in printed
