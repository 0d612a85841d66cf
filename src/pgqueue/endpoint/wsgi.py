"""An endpoint as a WSGI app."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pgqueue.endpoint.messages import Response, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pgqueue.endpoint.endpoint import Endpoint


class WsgiApp:
    """PEP 3333. It answers at whatever path it is reached by."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., object]
    ) -> Iterable[bytes]:
        """Answers a request."""
        answer = self._answer(environ)
        reason = HTTPStatus(answer.status).phrase
        start_response(f"{answer.status} {reason}", list(answer.headers.items()))
        return [answer.body] if answer.body else []

    def _answer(self, environ: dict[str, Any]) -> Response:
        desk = self._endpoint.desk
        method = environ["REQUEST_METHOD"]
        headers = _headers(environ)
        given = headers.get("content-length") or "0"
        if not (given.isascii() and given.isdigit()):
            return refusal(400, "Content-Length is no number")
        length = int(given[:20])
        if method == "POST" and "transfer-encoding" in headers:
            if not environ.get("wsgi.input_terminated"):
                return refusal(411, "send a Content-Length")
            length = self._endpoint.limits.max_body + 1
            known = False
        else:
            known = True
        early = desk.before_body(method, headers, length if known else 0)
        if early is not None:
            return early
        body = environ["wsgi.input"].read(length) if length else b""
        return self._endpoint.respond(method, headers, body)


def _headers(environ: dict[str, Any]) -> dict[str, str]:
    headers = {
        key[5:].replace("_", "-").lower(): value
        for key, value in environ.items()
        if key.startswith("HTTP_")
    }
    for key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(key):
            headers[key.replace("_", "-").lower()] = environ[key]
    return headers
