"""Metrics as apps to mount: WSGI and ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import choose_encoder

from pgqueue.metrics.server import registry

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

Wsgi: TypeAlias = "Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]"
Asgi: TypeAlias = "Callable[[Any, Any, Any], Awaitable[None]]"


def wsgi_app(*collectors: Collector) -> Wsgi:
    """A WSGI app that serves these collectors alone, at whatever path it is mounted."""
    app: Wsgi = make_wsgi_app(registry(collectors))
    return app


def asgi_app(*collectors: Collector) -> Asgi:
    """The same as an ASGI app.

    It collects in a thread: `QueueMetrics` waits for the database, and the event loop must not.
    """
    served = registry(collectors)

    async def app(scope: Any, _: Any, send: Any) -> None:  # noqa: ANN401 - ASGI's own
        if scope["type"] != "http":
            raise RuntimeError(f"metrics are served over http, not {scope['type']}")
        accept = dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
        encode, content_type = choose_encoder(accept)
        body = await asyncio.to_thread(encode, served)
        headers = [
            (b"content-type", content_type.encode()),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app
