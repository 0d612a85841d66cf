"""HTTP requests and responses as values, and what is read from and written into them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import attrs

from pgqueue.errors import InvalidJob

if TYPE_CHECKING:
    from collections.abc import Mapping

METHODS = "GET, HEAD, OPTIONS, POST"
_ALWAYS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


@attrs.frozen
class Response:
    """What to send back, for a framework that has no place to mount an app."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def response(status: int, content: object = None, **headers: str) -> Response:
    """A response with `content` as JSON; an underscore in a header's name stands for a hyphen."""
    body = b"" if content is None else json.dumps(content, allow_nan=False).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if content is not None:
        named["Content-Type"] = "application/json"
    if status != NO_CONTENT:
        named["Content-Length"] = str(len(body))
    return Response(status, {**_ALWAYS, **named}, body)


NO_CONTENT = 204


def refusal(status: int, why: str, **headers: str) -> Response:
    """A response that says what is wrong."""
    return response(status, {"error": why}, **headers)


def lowered(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers by their names in small letters."""
    return {name.lower(): value for name, value in headers.items()}


def is_json(content_type: str) -> bool:
    """Whether a Content-Type is JSON's."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (
        kind.startswith("application/") and kind.endswith("+json")
    )


def parsed(body: bytes) -> dict[str, Any]:
    """The object that a body holds; an empty body is an empty object.

    Raises:
        InvalidJob: it holds no JSON object.
    """
    if not body.strip():
        return {}
    try:
        content = json.loads(body.decode())
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise InvalidJob('the body is no JSON object; send {}, or {"limit": 5}, or nothing')
    return content
