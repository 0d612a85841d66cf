"""What an endpoint says to a request, before and after it is known who sent it."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

import attrs
import psycopg

from pgqueue.arguments import shown, whole
from pgqueue.endpoint.messages import (
    METHODS,
    NO_CONTENT,
    Response,
    is_json,
    parsed,
    refusal,
    response,
)
from pgqueue.errors import EndpointBusy, InvalidJob, SchemaError
from pgqueue.masking import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pgqueue.endpoint.options import Limits
    from pgqueue.endpoint.signing import Guard

logger = logging.getLogger("pgqueue.endpoint")

RETRY_AFTER = 5
"""Seconds, while the database cannot be reached."""


@attrs.frozen
class Order:
    """What a poke is asked to do."""

    limit: int
    queue: str | None


class Desk:
    """Header names are in small letters here."""

    def __init__(self, limits: Limits, guard: Guard, running: Callable[[], int]) -> None:
        self._limits = limits
        self.guard = guard
        self._running = running

    def before_body(self, method: str, headers: Mapping[str, str], length: int) -> Response | None:
        """A response that needs no body, or None: read one of up to `max_body` bytes."""
        if method == "OPTIONS":
            return response(NO_CONTENT, Allow=METHODS)
        if method in ("GET", "HEAD"):
            return self._health(method, headers)
        if method != "POST":
            return refusal(405, f"use one of {METHODS}", Allow=METHODS)
        if not (self.guard.open or self.guard.signed or self.guard.knows(headers)):
            return self._unauthorized()
        if length > self._limits.max_body:
            return self.too_large()
        return None

    def too_large(self) -> Response:
        """For a body beyond `max_body`; what is left of it is not read."""
        return refusal(413, f"the body is over {self._limits.max_body} bytes", Connection="close")

    def order(self, headers: Mapping[str, str], body: bytes) -> Order | Response:
        """What a POST with this body is to do."""
        if len(body) > self._limits.max_body:
            return self.too_large()
        if not self._lets_in(headers, body):
            return self._unauthorized()
        if body.strip() and not is_json(headers.get("content-type", "")):
            return refusal(415, "send the body as application/json", Accept="application/json")
        try:
            return self.checked(parsed(body))
        except InvalidJob as error:
            return refusal(400, str(error))

    def checked(self, asked: Mapping[str, Any]) -> Order:
        """The order for a body's content.

        Raises:
            InvalidJob: it asks for something unknown, or for more than the endpoint is set to do.
        """
        if unknown := sorted(asked.keys() - {"limit", "queue"}):
            raise InvalidJob(f"unknown in the body: {shown(unknown[0])}; pass limit or queue")
        limit, queue = asked.get("limit"), asked.get("queue")
        if isinstance(limit, float) and limit.is_integer():
            limit = int(limit)  # 5.0 is a whole number in JSON
        if limit is not None:
            limit = whole(limit, "limit", 1, self._limits.limit)
        if queue is not None and (
            not isinstance(queue, str) or queue not in self._limits.worker.queues
        ):
            raise InvalidJob(f"queue is {shown(queue)}; pass one that this endpoint serves")
        return Order(self._limits.limit if limit is None else limit, queue)

    def trouble(self, error: Exception) -> Response:
        """What is told of an error; more of it is in the log."""
        if isinstance(error, EndpointBusy):
            return refusal(429, "enough pokes run already", Retry_After=str(error.retry_after))
        logger.error("a poke failed: %s: %s", type(error).__qualname__, first_line(error))
        if isinstance(error, (psycopg.Error, SchemaError)):
            return refusal(503, "the queue is not available", Retry_After=str(RETRY_AFTER))
        return refusal(500, "the poke failed; the server's log says why")

    def _lets_in(self, headers: Mapping[str, str], body: bytes) -> bool:
        guard = self.guard
        return (
            guard.open or guard.knows(headers) or (guard.signed and guard.verifies(headers, body))
        )

    def _unauthorized(self) -> Response:
        return refusal(401, "the secret is missing or wrong", WWW_Authenticate=self.guard.challenge)

    def _health(self, method: str, headers: Mapping[str, str]) -> Response:
        queues = list(self._limits.worker.queues)
        content: dict[str, Any] = {"status": "ok", "queue": ",".join(queues)}
        proven = self.guard.presents(headers) or self._limits.private_health
        if proven and not self.guard.open:
            if not self._lets_in(headers, b""):
                return self._headless(method, self._unauthorized())
            content.update(
                running=self._running(),
                most_at_once=self._limits.most_at_once,
                limit=self._limits.limit,
                budget_seconds=self._limits.budget.total_seconds(),
            )
        return self._headless(method, response(200, content))

    @staticmethod
    def _headless(method: str, answer: Response) -> Response:
        return attrs.evolve(answer, body=b"") if method == "HEAD" else answer


def retry_after(seconds: float) -> int:
    """Whole seconds for a Retry-After, at least one."""
    return max(1, math.ceil(seconds))
