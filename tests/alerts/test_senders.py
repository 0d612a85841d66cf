"""Webhooks against a server that misbehaves, and Sentry without its server."""

from __future__ import annotations

import sys
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import attrs
import pytest
import sentry_sdk

from pgqueue import Client, ConfigurationError
from pgqueue.alerts import Alarm, Notice, Sentry, Watch, Webhook
from pgqueue.alerts import watch as watch_module
from pgqueue.alerts.senders import SendFailed

from .helpers import Given, Hook

NOTICE = Notice(
    rule="queue_latency", key="mail", firing=True, schema="pgqueue", database="app", token=1,
    since=datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc), value=301.0,
    summary="the oldest ready job of queue mail has waited for 6m, over 5m",
)  # fmt: skip
SHORT = timedelta(seconds=0.4)


def test_webhook_posts_what_slack_takes(hook: Hook) -> None:
    """A text that says it all, and the facts as fields of an attachment."""
    Webhook(hook.url, headers={"Authorization": "Bearer x"})(NOTICE)
    title = (
        "[FIRING] pgqueue queue_latency mail: "
        "the oldest ready job of queue mail has waited for 6m, over 5m"
    )
    (body,) = hook.taken
    (attachment,) = body["attachments"]
    assert (body["text"], attachment["fallback"]) == (title, title)
    assert {field["title"]: field["value"] for field in attachment["fields"]} == {
        "rule": "queue_latency",
        "key": "mail",
        "since": "2026-01-02T03:04:05+00:00",
        "database": "app, schema pgqueue",
    }
    assert hook.headers[0]["Content-Type"] == "application/json"
    assert hook.headers[0]["Authorization"] == "Bearer x"


@pytest.mark.parametrize(
    "how, said",
    [
        ("500", "answered 500"),
        ("404", "answered 404"),
        ("redirect", "answered 307"),
        ("shut", "did not answer|no HTTP"),
        ("garbage", "no HTTP|did not answer"),
        ("hang", "did not answer"),
        ("drip", "did not answer within 0.4 s"),
    ],
)
def test_misbehaving_webhook_is_an_error_in_time_and_without_its_url(
    hook: Hook, how: str, said: str
) -> None:
    """Whatever it does, after the time-out it is given up."""
    hook.behave = [how]
    began = time.monotonic()
    with pytest.raises(SendFailed, match=said) as caught:
        Webhook(hook.url, timeout=SHORT)(NOTICE)
    assert time.monotonic() - began < 5
    assert "s3cret" not in f"{caught.value!r} {caught.value}"
    assert hook.requests == 1


def test_answer_without_end_counts_as_taken(hook: Hook) -> None:
    """Its status is enough."""
    hook.behave = ["endless"]
    Webhook(hook.url, timeout=timedelta(seconds=5))(NOTICE)
    assert len(hook.taken) == 1


def test_watch_tries_a_webhook_again_and_keeps_its_secret(
    client: Client,
    hook: Hook,
    given: type[Given],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Twice it fails, the third time it takes the notice; the URL is nowhere in the log."""
    monkeypatch.setattr(watch_module, "FIRST_PAUSE", 0.001)
    hook.behave = ["503", "hang"]
    given.alarms = [Alarm("mail", "it is wrong", 1.0)]
    webhook = Webhook(hook.url, timeout=SHORT)
    watch = Watch(client, senders=[webhook], rules=[Given()])
    assert watch.look() == 1
    assert (hook.requests, len(hook.taken)) == (3, 1)
    assert watch.look() == 0
    assert "answered 503" in caplog.text
    assert "s3cret" not in caplog.text + repr(webhook) + repr(vars(watch))


@pytest.mark.parametrize("url", ["ftp://x/s3cret", "s3cret", "http://", "file:///etc/passwd", 7])
def test_url_that_is_none_is_refused_without_being_shown(url: Any) -> None:
    """Only http and https."""
    with pytest.raises(ConfigurationError) as caught:
        Webhook(url)
    assert "s3cret" not in str(caught.value)


def test_sentry_gets_an_issue_for_each_rule_and_key() -> None:
    """Through the SDK that the application has set up."""
    events: list[Any] = []

    def keep(event: Any, _: Any) -> None:
        events.append(event)

    sentry_sdk.init("http://key@127.0.0.1:1/1", before_send=keep, default_integrations=False)
    try:
        # What before_send drops has no id, so that Sentry seems to have refused it.
        for notice in (NOTICE, attrs.evolve(NOTICE, firing=False)):
            with pytest.raises(SendFailed):
                Sentry()(notice)
    finally:
        sentry_sdk.get_client().close(timeout=0)
        sentry_sdk.init(default_integrations=False)
    fingerprint = ["pgqueue", "app", "pgqueue", "queue_latency", "mail"]
    assert [event["fingerprint"] for event in events] == [fingerprint] * 2
    assert [event["level"] for event in events] == ["error", "info"]
    assert events[0]["tags"]["pgqueue.rule"] == "queue_latency"
    assert events[0]["message"] == NOTICE.title


def test_sentry_that_is_not_set_up_says_so() -> None:
    """Rather than to lose the notice."""
    sentry_sdk.init(default_integrations=False)
    with pytest.raises(SendFailed, match=r"sentry_sdk\.init"):
        Sentry()(NOTICE)


def test_sentry_without_its_sdk_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is made, not when something is wrong."""
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)
    with pytest.raises(ConfigurationError, match="extra `sentry`"):
        Sentry()
