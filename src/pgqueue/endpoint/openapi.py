"""An OpenAPI document of an endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgqueue.endpoint.answer import RUNNING
from pgqueue.endpoint.signing import SIGNATURE, TIMESTAMP
from pgqueue.events import Outcome
from pgqueue.version import __version__

if TYPE_CHECKING:
    from pgqueue.endpoint.options import Limits
    from pgqueue.endpoint.signing import Guard

_COUNT = {"type": "integer", "minimum": 0}
_ERROR = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
    "additionalProperties": False,
}
_RETRY_AFTER = {
    "Retry-After": {"required": True, "schema": {"type": "string", "pattern": "^[1-9][0-9]*$"}}
}
_ALLOW = {"Allow": {"required": True, "schema": {"type": "string"}}}


def document(limits: Limits, guard: Guard) -> dict[str, Any]:
    """The document."""
    schemes, ways = _security(guard)
    get: dict[str, Any] = {
        "operationId": "health",
        "summary": "Say that the endpoint is there; with the secret, how busy it is",
        "security": ways if limits.private_health else [{}, *ways],
        "responses": {"200": _says("It is", _health(limits)), **_refusals(guard, "401")},
    }
    head = {
        **get,
        "operationId": "head",
        "responses": {
            status: {"description": each["description"]}
            for status, each in get["responses"].items()
        },
    }
    post = {
        "operationId": "poke",
        "summary": "Process due jobs",
        "security": ways,
        "requestBody": {
            "required": False,
            "content": {"application/json": {"schema": _order(limits)}},
        },
        "responses": {
            "200": _says("What came of it", _answer(limits)),
            **_refusals(guard, "400", "401", "413", "415", "429", "500", "503"),
        },
    }
    options = {
        "operationId": "options",
        "security": [],
        "responses": {"204": {"description": "The methods", "headers": _ALLOW}},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "pgqueue endpoint", "version": __version__},
        "paths": {"/": {"get": get, "head": head, "post": post, "options": options}},
        "components": {"securitySchemes": schemes},
    }


def _security(guard: Guard) -> tuple[dict[str, Any], list[dict[str, list[str]]]]:
    schemes: dict[str, Any] = {}
    ways: list[dict[str, list[str]]] = []
    if guard.bearer:
        schemes["bearer"] = {"type": "http", "scheme": "bearer"}
        ways.append({"bearer": []})
        if guard.header is not None:
            schemes["header"] = {"type": "apiKey", "in": "header", "name": guard.header}
            ways.append({"header": []})
    if guard.signed:
        for key, name in (("timestamp", TIMESTAMP), ("signature", SIGNATURE)):
            schemes[key] = {"type": "apiKey", "in": "header", "name": name}
        ways.append({"timestamp": [], "signature": []})
    return schemes, ways


def _order(limits: Limits) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "limit": {"type": ["integer", "null"], "minimum": 1, "maximum": limits.limit},
            "queue": {"enum": [*limits.worker.queues, None]},
        },
        "additionalProperties": False,
    }


def _answer(limits: Limits) -> dict[str, Any]:
    counts = ("processed", "succeeded", "failed", "skipped")
    result = {
        "type": "object",
        "properties": {
            "id": _COUNT,
            "kind": {"type": "string"},
            "outcome": {"enum": [*map(str, Outcome), RUNNING]},
            "attempt": {"type": "integer", "minimum": 1},
            "duration_ms": _COUNT,
            "error": {"type": "string"},
        },
        "required": ["id", "kind", "outcome", "attempt", "duration_ms"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {
            **dict.fromkeys(counts, _COUNT),
            "more": {"type": "boolean"},
            "results": {"type": "array", "items": result, "maxItems": limits.limit},
        },
        "required": [*counts, "more", "results"],
        "additionalProperties": False,
    }


def _health(limits: Limits) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "status": {"const": "ok"},
            "queue": {"const": ",".join(limits.worker.queues)},
            "running": _COUNT,
            "most_at_once": _COUNT,
            "limit": _COUNT,
            "budget_seconds": {"type": "number"},
        },
        "required": ["status", "queue"],
        "additionalProperties": False,
    }


def _refusals(guard: Guard, *statuses: str) -> dict[str, Any]:
    texts = {
        "400": "The body is not what it should be",
        "401": "The secret is missing or wrong",
        "413": "The body is too long",
        "415": "The body is not JSON",
        "429": "Enough pokes run already",
        "500": "An error of the application's or pgqueue's",
        "503": "The database cannot be reached, or its schema is missing",
    }
    found = {status: _says(texts[status], _ERROR) for status in statuses}
    for status in ("429", "503"):
        if status in found:
            found[status]["headers"] = _RETRY_AFTER
    if guard.open:
        found.pop("401", None)
    return found


def _says(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
