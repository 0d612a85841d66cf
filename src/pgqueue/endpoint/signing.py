"""Who may poke: shared secrets as they are, or signatures made with them."""

from __future__ import annotations

import hashlib
import hmac
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pgqueue.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

TIMESTAMP, SIGNATURE = "x-pgqueue-timestamp", "x-pgqueue-signature"
SHORTEST = 16
"""Characters of a secret; whoever can guess it can run jobs."""
MOST_REMEMBERED = 10_000
"""Signatures. More within one replay window would be a flood: the oldest are forgotten first."""
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_TIMESTAMP = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")


def sign(secret: str, body: bytes = b"", *, timestamp: float | None = None) -> dict[str, str]:
    """The two headers that sign a request with this body.

    The signature is the HMAC-SHA256, in hex, of the timestamp as sent, a full stop, and the body.

    Args:
        secret: one of the endpoint's `hmac_secrets`.
        body: exactly what is sent.
        timestamp: in seconds since 1970; None: now, by this host's clock.
    """
    at = f"{time.time() if timestamp is None else timestamp:.6f}"
    signature = _signature(secret.encode(), at, body).hex()
    return {"X-Pgqueue-Timestamp": at, "X-Pgqueue-Signature": signature}


def _signature(secret: bytes, timestamp: str, body: bytes) -> bytes:
    return hmac.digest(secret, timestamp.encode() + b"." + body, "sha256")


def checked_secrets(secrets: object, what: str) -> tuple[bytes, ...]:
    """Secrets as bytes.

    Raises:
        ConfigurationError: one is empty, too short, or cannot be sent in a header. The message does
            not say what it is.
    """
    given = [secrets] if isinstance(secrets, (str, bytes)) else secrets
    if given is None:
        return ()
    if not isinstance(given, Iterable):
        raise ConfigurationError(f"{what} is a {type(given).__name__}; pass a list of str")
    return tuple(_checked_secret(secret, what) for secret in given)


def _checked_secret(secret: object, what: str) -> bytes:
    if not isinstance(secret, str):
        raise ConfigurationError(
            f"one of {what} is a {type(secret).__name__}; pass str, and leave out what is not set"
        )
    if len(secret) < SHORTEST:
        raise ConfigurationError(
            f"one of {what} has {len(secret)} characters; pass {SHORTEST} or more, "
            "such as secrets.token_urlsafe(32) makes"
        )
    if not secret.isascii() or not secret.isprintable() or secret.strip() != secret:
        raise ConfigurationError(
            f"one of {what} cannot be sent in a header: it begins or ends with a space or a line "
            "break, or holds characters beyond ASCII; strip it, or make another"
        )
    return secret.encode()


def checked_header(name: object) -> str | None:
    """A header's name in small letters, or None.

    Raises:
        ConfigurationError: it is no such name.
    """
    if name is None:
        return None
    if not isinstance(name, str) or not _HEADER.fullmatch(name):
        raise ConfigurationError(f"header is {name!r}; pass a header's name, such as X-Api-Key")
    return name.lower()


class Guard:
    """Compares in constant time, and with all secrets, whichever is right."""

    def __init__(
        self,
        secrets: Sequence[bytes],
        hmac_secrets: Sequence[bytes],
        header: str | None,
        window: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`window` and `clock` in seconds."""
        # Digests, since the comparison of two lengths takes its time, too.
        self._digests = [hashlib.sha256(secret).digest() for secret in secrets]
        self._hmac_secrets = hmac_secrets
        self.header = header
        """In small letters; beside Authorization."""
        self._window = window
        self._clock = clock
        self._used: OrderedDict[bytes, float] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def open(self) -> bool:
        """Whether anybody may poke."""
        return not (self._digests or self._hmac_secrets)

    @property
    def bearer(self) -> bool:
        """Whether a shared secret lets somebody in."""
        return bool(self._digests)

    @property
    def signed(self) -> bool:
        """Whether a signature, which needs the body, lets somebody in."""
        return bool(self._hmac_secrets)

    @property
    def challenge(self) -> str:
        """What a 401 asks for."""
        return "Bearer" if self._digests else "HMAC-SHA256"

    def presents(self, headers: Mapping[str, str]) -> bool:
        """Whether a request comes with anything that is to prove who sent it."""
        named = self.header is not None and self.header in headers
        return named or "authorization" in headers or SIGNATURE in headers

    def knows(self, headers: Mapping[str, str]) -> bool:
        """Whether a request carries one of the secrets."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = [token.strip()] if scheme.lower() == "bearer" else []
        if self.header is not None and self.header in headers:
            given.append(headers[self.header].strip())
        right = False
        for each in given:
            digest = hashlib.sha256(each.encode("utf-8", "replace")).digest()
            for known in self._digests:
                right |= hmac.compare_digest(digest, known)
        return right

    def verifies(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether a request is signed, lately, and for the first time."""
        at = headers.get(TIMESTAMP, "").strip()
        given = headers.get(SIGNATURE, "").strip().lower().encode("utf-8", "replace")
        if not _TIMESTAMP.fullmatch(at):
            return False
        right = False
        for secret in self._hmac_secrets:
            right |= hmac.compare_digest(given, _signature(secret, at, body).hex().encode())
        now = self._clock()
        return right and abs(now - float(at)) <= self._window and self._is_new(given, now)

    def _is_new(self, signature: bytes, now: float) -> bool:
        with self._lock:
            while self._used and (
                next(iter(self._used.values())) < now or len(self._used) >= MOST_REMEMBERED
            ):
                self._used.popitem(last=False)
            if signature in self._used:
                return False
            # A timestamp may lie a window ahead, and is good for a window after that.
            self._used[signature] = now + 2 * self._window
            return True
