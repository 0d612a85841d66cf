"""Fixtures of the endpoint's tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from pgqueue import Client, Handlers
from pgqueue.endpoint import Endpoint

SECRET = "a-secret-of-this-test"  # noqa: S105 - of a test
Make = Callable[..., Endpoint]
Call = Callable[..., httpx.Response]


@pytest.fixture
def client(pgqueue_client: Client) -> Client:
    """A client of this test's database."""
    return pgqueue_client


@pytest.fixture
def handlers() -> Handlers:
    """A registry with one sync and one async kind."""
    handlers = Handlers()
    handlers.register("sync")(lambda job: job.payload.get("result"))

    @handlers.register("async")
    async def _run(job: Any) -> Any:
        await asyncio.sleep(0)
        return job.payload.get("result")

    return handlers


@pytest.fixture
def make(pgqueue_dsn: str, handlers: Handlers) -> Iterator[Make]:
    """Makes endpoints with one secret; closes them."""
    with ExitStack() as stack:

        def make(registry: Handlers = handlers, **options: Any) -> Endpoint:
            endpoint = Endpoint(pgqueue_dsn, registry, **{"secrets": SECRET, **options})
            return stack.enter_context(endpoint)

        yield make


@pytest.fixture(params=["wsgi", "asgi"])
def call(request: pytest.FixtureRequest) -> Call:
    """Sends an endpoint a request, with the secret unless headers are given; by either protocol."""

    async def by_asgi(endpoint: Endpoint, method: str, **options: Any) -> httpx.Response:
        transport = httpx.ASGITransport(endpoint.asgi)
        async with httpx.AsyncClient(transport=transport, base_url="http://e") as browser, endpoint:
            return await browser.request(method, "/", **options)

    def call(endpoint: Endpoint, method: str = "POST", **options: Any) -> httpx.Response:
        options = {"headers": {"Authorization": f"Bearer {SECRET}"}, **options}
        if request.param == "asgi":
            return asyncio.run(by_asgi(endpoint, method, **options))
        transport = httpx.WSGITransport(endpoint.wsgi)
        with httpx.Client(transport=transport, base_url="http://e") as browser:
            return browser.request(method, "/", **options)

    return call
