"""The OpenAPI document, held against the endpoint by schemathesis."""

from __future__ import annotations

import json
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import sampled_from

from pgqueue import Client
from pgqueue.endpoint import Endpoint, sign

from .conftest import SECRET, Make

PATH = "/openapi.json"
BEARER = {"Authorization": f"Bearer {SECRET}"}


@pytest.fixture
def endpoint(make: Make, client: Client) -> Endpoint:
    """An endpoint with both ways in and some jobs."""
    client.enqueue_many([(kind, {}) for kind in ("sync", "async", "other") * 20])
    return make(hmac_secrets=SECRET, header="X-Api-Key", queues=["default", "b"])


def served_by_wsgi(endpoint: Endpoint) -> Any:
    """The endpoint, and beside it its document."""

    def app(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] != PATH:
            return endpoint.wsgi(environ, start_response)
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(endpoint.openapi()).encode()]

    return app


def served_by_asgi(endpoint: Endpoint) -> Any:
    """The same by ASGI."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope.get("path") != PATH:
            await endpoint.asgi(scope, receive, send)
            return
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(endpoint.openapi()).encode()})

    return app


SERVED = {
    "wsgi": (schemathesis.openapi.from_wsgi, served_by_wsgi),
    "asgi": (schemathesis.openapi.from_asgi, served_by_asgi),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("protocol", sorted(SERVED))
@pytest.mark.parametrize("method", ["get", "head", "options", "post"])
def test_endpoint_answers_as_its_document_says(
    endpoint: Endpoint, protocol: str, method: str
) -> None:
    """Whatever is sent, good and bad, with the secret and without."""
    load, served = SERVED[protocol]
    operation = load(PATH, served(endpoint))["/"][method]

    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(), headers=sampled_from([{}, BEARER]))
    def send(case: Any, headers: dict[str, str]) -> None:
        case.call_and_validate(headers=headers)

    send()


def test_document_names_the_ways_in(make: Make) -> None:
    """Those that are set, and none for an insecure one."""
    assert make(secrets=None, insecure=True).openapi()["components"]["securitySchemes"] == {}
    signed = make(secrets=None, hmac_secrets=SECRET).openapi()
    names = {each["name"] for each in signed["components"]["securitySchemes"].values()}
    assert names == {name.lower() for name in sign(SECRET)}
    bearer = make(header="X-Key").openapi()["components"]["securitySchemes"]
    assert set(bearer) == {"bearer", "header"}
