"""An endpoint as an ASGI app."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgqueue.endpoint.messages import Response, refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from pgqueue.endpoint.endpoint import Endpoint

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]


class AsgiApp:
    """ASGI 3. It answers at whatever path it is reached by.

    An object, not a function, so that Starlette's and FastAPI's `add_route` take it for an app. A
    client that goes away does not end its poke: that job is begun. A server that cancels the
    request does, in order: async handlers are cancelled, and their jobs released.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers a request, or lives as long as the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            answer = await self._answer(scope, receive)
            if answer is not None:
                await _send(answer, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                await self._endpoint.aclose()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _answer(self, scope: Message, receive: Receive) -> Response | None:
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        given = headers.get("content-length", "0")
        if not (given.isascii() and given.isdigit()):
            return refusal(400, "Content-Length is no number")
        desk, method = self._endpoint.desk, scope["method"]
        early = desk.before_body(method, headers, int(given[:20]))
        if early is not None:
            return early
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self._endpoint.limits.max_body:
                return desk.too_large()
            if not message.get("more_body", False):
                return await self._endpoint.arespond(method, headers, body)


async def _send(answer: Response, send: Send) -> None:
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in answer.headers.items()
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
