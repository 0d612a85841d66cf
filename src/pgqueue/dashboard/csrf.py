"""Whether a request that changes something comes from a page of ours.

Three checks, each enough by itself in a current browser: where the browser says it comes from
(Sec-Fetch-Site), the page's origin, and a token that only our pages contain.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.requests import Request

    from pgqueue.dashboard.sessions import Signer

FIELD = "csrf"
_PORTS = {"http": 80, "https": 443}


def token(signer: Signer, subject: str) -> str:
    """The token of the pages that are shown to `subject`."""
    return signer.digest("csrf", subject.encode()).hex()


def token_fits(signer: Signer, subject: str, given: str) -> bool:
    """Whether a form has the token of `subject`."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), token(signer, subject).encode())


def foreign(request: Request, trusted: Collection[str]) -> str | None:
    """Why a request is not from a page of ours; None if it is.

    `trusted` are origins such as https://ops.example.org, for proxies that change the Host header.
    """
    site = request.headers.get("sec-fetch-site")
    if site not in (None, "same-origin"):
        return f"the browser says that it comes from elsewhere ({site})"
    origin = request.headers.get("origin")
    if origin is None:
        return None if site else "it says nothing of where it comes from (no Origin)"
    if origin.lower() in trusted or _place(origin) == _own_place(request, origin):
        return None
    return (
        f"it comes from {origin}, and this is {request.headers.get('host')}; where a proxy changes "
        "the Host header, name the origin in `origins`"
    )


def _place(origin: str) -> tuple[str, int] | None:
    try:
        parts = urlsplit(origin)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    return (parts.hostname, port) if parts.hostname and port else None


def _own_place(request: Request, origin: str) -> tuple[str, int] | None:
    # By the origin's scheme: a proxy that ends TLS need not say so.
    return _place(f"{urlsplit(origin).scheme}://{request.headers.get('host', '')}")
