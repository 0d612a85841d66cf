"""Who is told: a webhook, Sentry, or any function. One that fails raises, and is tried again."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from datetime import timedelta
from http.client import HTTPMessage
from typing import IO, TYPE_CHECKING, Any, TypeAlias, cast

import attrs

from pgqueue.alerts.notices import Notice
from pgqueue.errors import ConfigurationError

if TYPE_CHECKING:
    from sentry_sdk._types import LogLevelStr

Sender: TypeAlias = "Callable[[Notice], object]"
"""Tells somebody; raises if it could not."""

COLORS = {True: "#d73a49", False: "#28a745"}


class SendFailed(Exception):
    """A notice was not taken. The message has no secret: a webhook's URL is one."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A POST that is redirected would become a GET, and its secret might go to another host."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        """None: it is an error."""


def _checked_url(_: object, __: object, url: Any) -> None:  # noqa: ANN401
    parts = urllib.parse.urlsplit(url) if isinstance(url, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        # Without the URL itself.
        raise ConfigurationError("the webhook's URL is none; pass one of http:// or https://")


@attrs.frozen
class Webhook:
    """Posts a notice as JSON, in the shape that Slack, Mattermost and the like take.

    `text` says it all; `attachments` has a color and the facts as fields. Neither has payloads or
    texts of errors. The URL is taken for a secret, since theirs are: it is not in the log, in
    errors, or in the repr. A redirect is an error; proxies of the environment are used.
    """

    url: str = attrs.field(repr=False, validator=_checked_url)
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False, kw_only=True)
    """More of them, an Authorization say; they are secrets as well."""
    timeout: timedelta = attrs.field(default=timedelta(seconds=5), kw_only=True)
    """Of each try, from the first byte to the answer's last header."""

    def __call__(self, notice: Notice) -> None:
        """Posts it once.

        Raises:
            SendFailed: any answer but 2xx, or none in time.
        """
        request = urllib.request.Request(  # noqa: S310 - the operator's own, http or https
            self.url,
            data=json.dumps(body(notice)).encode(),
            headers={"Content-Type": "application/json", **self.headers},
            method="POST",
        )
        _within(self.timeout.total_seconds(), lambda seconds: _post(request, seconds))


def body(notice: Notice) -> dict[str, object]:
    """What is posted."""
    facts = {
        "rule": notice.rule,
        "key": notice.key or "-",
        "since": notice.since.isoformat(timespec="seconds"),
        "database": f"{notice.database}, schema {notice.schema}",
    }
    return {
        "text": notice.title,
        "attachments": [
            {
                "color": COLORS[notice.firing],
                "fallback": notice.title,
                "fields": [
                    {"title": title, "value": value, "short": True}
                    for title, value in facts.items()
                ],
            }
        ],
    }


def _post(request: urllib.request.Request, seconds: float) -> None:
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        with opener.open(request, timeout=seconds):
            pass  # its body is nobody's business, and may have no end
    except urllib.error.HTTPError as error:
        error.close()
        raise SendFailed(f"the webhook answered {error.code}") from None
    except (OSError, ValueError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", error)
        raise SendFailed(f"the webhook did not answer: {type(reason).__name__}") from None
    except Exception as error:  # noqa: BLE001 - http.client's own, on what is no HTTP
        raise SendFailed(f"the webhook's answer is no HTTP: {type(error).__name__}") from None


def _within(seconds: float, post: Callable[[float], None]) -> None:
    """Calls `post`, and gives up after `seconds` whatever the other side does.

    A socket's timeout counts from byte to byte: a server that drips its answer is not bound by it.
    """
    ended: list[BaseException | None] = []

    def run() -> None:
        try:
            post(seconds)
        except BaseException as error:  # noqa: BLE001 - for the caller
            ended.append(error)
        else:
            ended.append(None)

    thread = threading.Thread(target=run, name="pgqueue-webhook", daemon=True)
    thread.start()
    thread.join(seconds)
    if not ended:
        raise SendFailed(f"the webhook did not answer within {seconds:g} s")
    if ended[0] is not None:
        raise ended[0]


@attrs.frozen(kw_only=True)
class Sentry:
    """Sends notices to Sentry, by the SDK that the application has set up (extra `sentry`).

    Each rule and key is an issue of its own, tagged with both; that one is over is an event of
    level info.

    Raises:
        ConfigurationError: sentry-sdk is not installed.
    """

    level: str = attrs.field(
        default="error", validator=attrs.validators.in_(("fatal", "error", "warning", "info"))
    )

    def __attrs_post_init__(self) -> None:
        """Finds out now, rather than when something is wrong."""
        try:
            import sentry_sdk  # noqa: F401, PLC0415 - the extra `sentry`
        except ImportError as error:
            raise ConfigurationError(
                "Sentry needs sentry-sdk; install pgqueue's extra `sentry`"
            ) from error

    def __call__(self, notice: Notice) -> None:
        """Captures one event; the SDK sends it in a thread of its own.

        Raises:
            SendFailed: the SDK is not set up (`sentry_sdk.init`), or dropped it.
        """
        import sentry_sdk  # noqa: PLC0415

        with sentry_sdk.new_scope() as scope:
            scope.fingerprint = ["pgqueue", notice.database, notice.schema, notice.rule, notice.key]
            scope.set_tag("pgqueue.rule", notice.rule)
            scope.set_tag("pgqueue.key", notice.key or "-")
            scope.set_tag("pgqueue.schema", notice.schema)
            level = self.level if notice.firing else "info"
            sent = scope.capture_message(notice.title, level=cast("LogLevelStr", level))
        if sent is None:
            raise SendFailed("sentry_sdk took no event; is sentry_sdk.init() called with a DSN?")
