"""What a dashboard can be told, checked."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Collection, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import attrs
from starlette.requests import Request

from pgqueue.dashboard.users import User, Users
from pgqueue.errors import ConfigurationError
from pgqueue.models import JobDetail

if TYPE_CHECKING:
    from typing import TypeAlias

Auth: TypeAlias = "Callable[[Request], User | Awaitable[User | None] | None]"
"""Says who sends a request: the host application's own logins."""
Redact: TypeAlias = "Callable[[JobDetail], JobDetail]"
"""Gets a job and returns it as it may be seen, such as `attrs.evolve(job, payload=...)`."""

SHORTEST_SECRET = 16
_LONGEST_SESSION = timedelta(days=30)


@attrs.frozen(kw_only=True)
class Options:
    """See `Dashboard` for what each means."""

    users: Users
    auth: Auth | None
    secret: bytes = attrs.field(repr=False)
    login_url: str | None
    title: str
    redact: Redact | None
    search_payloads: bool
    origins: frozenset[str]
    session: timedelta
    deadline: timedelta
    secure: bool | None


def checked(
    *,
    users: Iterable[str] | Users | None,
    auth: Auth | None,
    secret: str | None,
    login_url: str | None,
    title: str,
    redact: Redact | None,
    search_payloads: bool | None,
    origins: Collection[str],
    session: timedelta,
    deadline: timedelta,
    secure: bool | None,
) -> Options:
    """The options.

    Raises:
        ConfigurationError: nobody could be kept out, or one cannot be.
    """
    if isinstance(users, str):
        raise ConfigurationError("users is a str; pass a list of lines, or pgqueue.dashboard.Users")
    known = users if isinstance(users, Users) else Users(users or ())
    if (auth is None) is (len(known) == 0):
        raise ConfigurationError(
            "a dashboard needs to know who may see it; pass either users (lines that "
            "`pgqueue dashboard-user NAME` makes) or auth (a function from a request to a User)"
        )
    if auth is not None and not callable(auth):
        raise ConfigurationError("auth is no function; pass one from a request to a User or None")
    return Options(
        users=known,
        auth=auth,
        secret=_secret(secret),
        login_url=login_url,
        title=str(title),
        redact=redact,
        search_payloads=redact is None if search_payloads is None else bool(search_payloads),
        origins=frozenset(_origin(each) for each in origins),
        session=_span(session, "session", _LONGEST_SESSION),
        deadline=_span(deadline, "deadline", timedelta(minutes=1)),
        secure=secure,
    )


def _secret(secret: object) -> bytes:
    if secret is None:
        return secrets.token_bytes(32)
    if not isinstance(secret, str) or len(secret) < SHORTEST_SECRET:
        raise ConfigurationError(
            f"secret is too short or no str; pass {SHORTEST_SECRET} characters or more, "
            "such as secrets.token_urlsafe(32) makes"
        )
    return secret.encode()


def _origin(origin: str) -> str:
    parts = urlsplit(origin)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path not in ("", "/"):
        raise ConfigurationError(
            f"one of origins is {origin!r:.200}; pass some such as 'https://ops.example.org'"
        )
    return f"{parts.scheme}://{parts.netloc}".lower()


def _span(value: object, what: str, most: timedelta) -> timedelta:
    if not isinstance(value, timedelta) or not timedelta(0) < value <= most:
        raise ConfigurationError(f"{what} is {value!r}; pass a timedelta up to {most}")
    return value
