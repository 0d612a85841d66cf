"""What an endpoint can be told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pgqueue import AsyncClient, Client, ConfigurationError, Handlers, InvalidJob
from pgqueue.endpoint import Endpoint

SECRET = "a-secret-of-this-test"  # noqa: S105 - of a test


def test_without_a_secret_none_is_made(handlers: Handlers) -> None:
    """Neither with none, nor with a list of none; unless it is asked for in so many words."""
    nothing: list[Any] = [None, [], ()]
    for given in nothing:
        with pytest.raises(ConfigurationError, match="anybody could run jobs"):
            Endpoint("", handlers, secrets=given)
    with Endpoint("", handlers, insecure=True) as endpoint:
        assert endpoint.respond("GET", {}).status == 200


@pytest.mark.parametrize("name", ["secrets", "hmac_secrets"])
@pytest.mark.parametrize(
    "secret, words",
    [
        ("", "has 0 characters"),
        ("short", "has 5 characters"),
        (None, "is a NoneType"),
        (b"bytes-of-a-secret-key", "is a bytes"),
        ("a-secret-from-a-file\n", "line break"),
        (" a-secret-with-a-space", "begins or ends"),
        ("ein-Schlüssel-aus-Umlauten", "beyond ASCII"),
    ],
)
def test_bad_secret_is_refused_unquoted(
    handlers: Handlers, name: str, secret: Any, words: str
) -> None:
    """The message says what is wrong with it, not what it is."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        Endpoint("", handlers, **{name: [SECRET, secret]})  # type: ignore[arg-type]
    assert not secret or str(secret).strip() not in str(caught.value)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"secrets": 1}, "secrets is a int"),
        ({"header": "no header"}, "header is 'no header'"),
        ({"limit": 0}, "limit is 0"),
        ({"batch": 0}, "batch is 0"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"most_at_once": 0}, "most_at_once is 0"),
        ({"max_body": 1}, "max_body is 1"),
        ({"queues": []}, "queues is empty"),
        ({"budget": 25}, "budget is 25"),
        ({"budget": timedelta(0)}, "more than zero"),
        ({"replay_window": timedelta(0)}, "replay_window"),
        ({"lease": timedelta(seconds=25)}, "pass a longer lease"),
        ({"reply_timeout": timedelta(0)}, "reply_timeout"),
    ],
)
def test_bad_option_is_refused(handlers: Handlers, options: dict[str, Any], words: str) -> None:
    """With what to pass instead."""
    with pytest.raises(ConfigurationError, match=words):
        Endpoint("", handlers, **{"secrets": SECRET, **options})


def test_handlers_and_a_target_are_needed(handlers: Handlers) -> None:
    """An endpoint that could run nothing is not made."""
    with pytest.raises(ConfigurationError, match="no handlers"):
        Endpoint("", Handlers(), secrets=SECRET)
    with pytest.raises(ConfigurationError, match="got a int"):
        Endpoint(1, handlers, secrets=SECRET)  # type: ignore[arg-type]


def test_client_says_where_the_queue_is(client: Client, handlers: Handlers) -> None:
    """Its DSN is used, not its connections."""
    job_id = client.enqueue("sync").id
    other = AsyncClient(client.dsn)
    with Endpoint(client, handlers, secrets=SECRET) as endpoint:
        assert endpoint.process()["results"][0]["id"] == job_id
    with Endpoint(other, handlers, secrets=SECRET) as endpoint:
        assert endpoint.process()["processed"] == 0


def test_process_takes_no_more_than_the_endpoint_allows(handlers: Handlers) -> None:
    """A limit above its own and a queue that is not its own are refused before any connection."""
    endpoint = Endpoint("host=/nowhere", handlers, secrets=SECRET, limit=5)
    with pytest.raises(InvalidJob, match="limit is 6"):
        endpoint.process(limit=6)
    with pytest.raises(InvalidJob, match="queue is 'other'"):
        endpoint.process(queue="other")
