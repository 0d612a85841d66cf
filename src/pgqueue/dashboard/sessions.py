"""Signed cookies: who has logged in until when, and what to say on the next page.

Nothing is stored on the server but the sessions that were logged out of. A session is signed with a
key that the user's hash is part of: with a new token, or without the user, it is over.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import secrets
import threading
import time
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pgqueue.dashboard.users import StoredUser

LONGEST = 4000
"""Characters of a cookie."""
_MOST_ENDED = 10_000


class Signer:
    """Signs texts with a secret; each purpose has a key of its own."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def digest(self, purpose: str, *parts: bytes) -> bytes:
        """The signature of some bytes."""
        key = hmac.digest(self._secret, purpose.encode(), "sha256")
        # Each part hashed: no two lists of parts give the same text.
        return hmac.digest(key, b"".join(hmac.digest(key, p, "sha256") for p in parts), "sha256")

    def sign(self, purpose: str, value: object, *more: bytes) -> str:
        """A value as text that can be read by all, and made by nobody else."""
        body = _encode(json.dumps(value, separators=(",", ":")).encode())
        return f"{body}.{_encode(self.digest(purpose, body.encode(), *more))}"

    def verify(self, purpose: str, text: str, *more: bytes) -> Any:  # noqa: ANN401 - JSON
        """The value of a text that `sign` made; None if it did not."""
        body, dot, signature = text[:LONGEST].partition(".")
        good = _encode(self.digest(purpose, body.encode("utf-8", "replace"), *more))
        if not dot or not hmac.compare_digest(signature.encode("utf-8", "replace"), good.encode()):
            return None
        return peek(text)


def peek(text: str) -> Any:  # noqa: ANN401 - JSON
    """What a signed text says, unchecked."""
    body = text[:LONGEST].partition(".")[0]
    try:
        return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return None


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@attrs.frozen
class Session:
    """A login."""

    name: str
    number: str
    """Random."""
    expires: float


class Sessions:
    """Makes and reads sessions."""

    def __init__(
        self, signer: Signer, lifetime: float, clock: Callable[[], float] = time.time
    ) -> None:
        """`lifetime` in seconds."""
        self.lifetime = lifetime
        self._signer = signer
        self._clock = clock
        self._ended: dict[str, float] = {}
        self._lock = threading.Lock()

    def begin(self, known: StoredUser) -> str:
        """A cookie for a user who has just shown the token."""
        value = [known.user.name, secrets.token_urlsafe(18), self._clock() + self.lifetime]
        return self._signer.sign("session", value, known.digest)

    def read(self, cookie: str, users: Mapping[str, StoredUser]) -> Session | None:
        """The session of a cookie, if it is one of ours and goes on."""
        match peek(cookie):
            case [str(name), str(), float() | int()] if name in users:
                pass
            case _:
                return None
        value = self._signer.verify("session", cookie, users[name].digest)
        if value is None:
            return None
        session = Session(*value)
        if session.expires <= self._clock() or session.number in self._ended:
            return None
        return session

    def end(self, session: Session) -> None:
        """Ends a session before its time, in this process."""
        with self._lock:
            now = self._clock()
            self._ended = {n: t for n, t in self._ended.items() if t > now}
            if len(self._ended) >= _MOST_ENDED:
                self._ended.pop(next(iter(self._ended)))
            self._ended[session.number] = session.expires
