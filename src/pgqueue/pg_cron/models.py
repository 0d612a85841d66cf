"""What is given to the adapter, and what it tells."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import attrs

from pgqueue.arguments import checked_name
from pgqueue.errors import ConfigurationError
from pgqueue.models import DEFAULT_QUEUE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pgqueue.jsontext import Json

SECRET = "pgqueue_endpoint"  # noqa: S105 - its name
_NAME = re.compile(r"[A-Za-z0-9_.:/@-]{1,128}")
_URL = re.compile(r"https?://[!-~]{1,1990}")
_HEADER = re.compile(r"[A-Za-z0-9-]{1,100}")
_SHORTEST, _LONGEST = timedelta(milliseconds=100), timedelta(minutes=10)


def plain_name(name: object, what: str) -> str:
    """`name`, if it is 1 to 128 letters, digits and `_ . : / @ -`.

    Raises:
        ConfigurationError: it is not.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{what} is {name!r:.200}; use 1 to 128 of the characters A-Z a-z 0-9 _ . : / @ -"
        )
    return name


@attrs.frozen(kw_only=True)
class Poke:
    """What is poked: an HTTP endpoint that works off a queue, while jobs of it are ready.

    `name` tells endpoints apart; the same name again replaces the settings.

    Raises:
        ConfigurationError: one of the settings cannot be.
    """

    name: str = DEFAULT_QUEUE
    url: str
    """http:// or https://. Whoever may read the schema may read it, so put no secret in it."""
    queue: str = DEFAULT_QUEUE
    secret: str | None = SECRET
    """The name of the secret it is called with, which `PgCron.sync_secret` puts; None: none."""
    header: str = "Authorization"
    """Which header has the secret; in `Authorization` it stands behind "Bearer"."""
    body: Mapping[str, Json] = attrs.field(factory=dict)
    timeout: timedelta = timedelta(seconds=30)
    """How long pg_net waits for the answer, from 0.1 seconds to 10 minutes."""

    def __attrs_post_init__(self) -> None:
        plain_name(self.name, "the endpoint's name")
        checked_name(self.queue, "queue")
        if self.secret is not None:
            plain_name(self.secret, "the secret's name")
        url: object = self.url
        if not isinstance(url, str) or not _URL.fullmatch(url):
            raise ConfigurationError(
                f"the endpoint's URL is {url!r:.200}; pass one as https://host/path, without spaces"
            )
        header: object = self.header
        if not isinstance(header, str) or not _HEADER.fullmatch(header):
            raise ConfigurationError(
                f"header is {header!r:.200}; pass the name of one, such as 'X-Api-Key'"
            )
        timeout: object = self.timeout
        if not isinstance(timeout, timedelta) or not _SHORTEST <= timeout <= _LONGEST:
            raise ConfigurationError(
                f"timeout is {timeout!r:.200}; pass a timedelta from 0.1 seconds to 10 minutes"
            )


@attrs.frozen
class CronJob:
    """A job of pg_cron that the adapter made."""

    name: str
    """`upkeep`, `history`, or `poke:` and the endpoint's name."""
    id: int
    """Its number in `cron.job`."""
    schedule: str
    command: str
    active: bool
    database: str
    """Where the command runs."""
    user: str
    """As whom."""


@attrs.frozen
class CronRun:
    """One run of such a job, from `cron.job_run_details`."""

    id: int
    job: str
    status: str
    """As pg_cron has it: starting, running, succeeded, failed and others."""
    message: str
    """What the command returned, or the error."""
    started_at: datetime | None
    ended_at: datetime | None


@attrs.frozen
class CronFailure:
    """A run of pg_cron, or a request of pg_net, that failed."""

    job: str
    """The job of pg_cron; for requests `poke:` and the endpoint's name."""
    at: datetime | None
    request_id: int | None
    """Of pg_net; None: the run itself failed."""
    status: int | None
    """Of HTTP, if there was an answer."""
    error: str
    advice: str
    """What to do; empty if the error says all."""


@attrs.frozen
class CronFinding:
    """One thing that was verified."""

    check: str
    seen: str
    advice: str
    """What to do; empty where nothing is."""
    ok: bool
