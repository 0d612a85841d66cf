"""Who may look, and who may act: names with the hashes of their tokens."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import attrs

from pgqueue.errors import ConfigurationError

Role = Literal["viewer", "operator"]
ROLES = ("viewer", "operator")

SHORTEST = 12
"""Characters of a token."""
# 32 MB and some 0.2 s of one core for each attempt: what OWASP asks of scrypt, with less memory.
_COST = (2**15, 8, 3)
_MOST_MEMORY = 2**26
_NAME = re.compile(r"[A-Za-z0-9_.@+-]{1,100}")
_AT_ONCE = threading.BoundedSemaphore(2)
"""Attempts that are computed at the same time; the others wait, and with them who guesses."""


@attrs.frozen
class User:
    """Somebody who is let in."""

    name: str
    """Stands in the audit log."""
    role: Role = "viewer"
    """A viewer sees all, an operator also retries, cancels, pauses and edits."""

    def __attrs_post_init__(self) -> None:
        if self.role not in ROLES:
            raise ConfigurationError(
                f"the role of user {self.name!r} is {self.role!r}; pass 'viewer' or 'operator'"
            )

    @property
    def operates(self) -> bool:
        """Whether this user may act."""
        return self.role == "operator"


@attrs.frozen
class StoredUser:
    """A user, and what a token must hash to."""

    user: User
    cost: tuple[int, int, int] = attrs.field(repr=False)
    salt: bytes = attrs.field(repr=False)
    digest: bytes = attrs.field(repr=False)

    def accepts(self, token: str) -> bool:
        """Whether this is the user's token; takes its time on purpose."""
        return hmac.compare_digest(_hash(token, self.salt, self.cost), self.digest)


def user_line(name: str, token: str, role: Role = "viewer") -> str:
    """The line of a file of users that lets `name` in with `token`: name, role and a scrypt hash.

    Raises:
        ConfigurationError: the name, the role or the token cannot be.
    """
    _check_name(name)
    User(name, role)
    if len(token) < SHORTEST:
        raise ConfigurationError(
            f"the token has {len(token)} characters; pass {SHORTEST} or more, "
            "such as secrets.token_urlsafe(24) makes"
        )
    salt = secrets.token_bytes(16)
    parts = (*map(str, _COST), _text(salt), _text(_hash(token, salt, _COST)))
    return f"{name}:{role}:scrypt:{':'.join(parts)}"


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"a user's name is {name!r:.200}; use 1 to 100 of A-Z a-z 0-9 _ . @ + -"
        )


def _hash(token: str, salt: bytes, cost: tuple[int, int, int]) -> bytes:
    n, r, p = cost
    with _AT_ONCE:
        return hashlib.scrypt(
            token.encode("utf-8", "surrogatepass"),
            salt=salt, n=n, r=r, p=p, maxmem=_MOST_MEMORY, dklen=32,
        )  # fmt: skip


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _parsed(line: str) -> StoredUser:
    try:
        # What is of another scheme has another number of parts, or no numbers.
        name, role, _, n, r, p, salt, digest = line.split(":")
        cost = (int(n), int(r), int(p))
        known = StoredUser(User(name, role), cost, _bytes(salt), _bytes(digest))  # type: ignore[arg-type] # checked there
        hashlib.scrypt(b"", salt=known.salt, n=min(cost[0], 2), r=cost[1], p=1, dklen=32)
    except (ValueError, binascii.Error):
        raise ConfigurationError(
            f"a line of users begins {line[:20]!r} and cannot be read; "
            "make one with `pgqueue dashboard-user NAME`"
        ) from None
    _check_name(name)
    return known


class Users(Mapping[str, StoredUser]):
    """Users by name, read from the lines that `user_line` makes.

    Empty lines and those that begin with # do not count.

    Raises:
        ConfigurationError: a line cannot be read, or two have one name.
    """

    def __init__(self, lines: Iterable[str] = ()) -> None:
        self._known: dict[str, StoredUser] = {}
        texts = (line.strip() for line in lines)
        for known in (_parsed(text) for text in texts if text and not text.startswith("#")):
            if known.user.name in self._known:
                raise ConfigurationError(f"two users are named {known.user.name!r}; rename one")
            self._known[known.user.name] = known
        self._nobody = StoredUser(User("nobody"), _COST, secrets.token_bytes(16), bytes(32))

    def __getitem__(self, name: str) -> StoredUser:
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def check(self, name: str, token: str) -> User | None:
        """The user of this name and token; None takes as long, whether the name is known or not."""
        known = self._known.get(name)
        right = (known or self._nobody).accepts(token)
        return known.user if known and right else None
