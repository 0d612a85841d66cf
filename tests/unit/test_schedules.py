"""What a schedule may be, before anything is sent; and what it is in words."""

from __future__ import annotations

import json
import sys
from datetime import datetime, time, timedelta, timezone
from typing import Any

import pytest

from pgqueue import Exponential, InvalidSchedule, PayloadError, Schedule
from pgqueue.schedules import cron
from pgqueue.schedules.arguments import checked_schedule, schedule_text, schedules_text

HOUR = timedelta(hours=1)
ANY: Any = object()


def made(**options: Any) -> Schedule:
    """A schedule with `options`."""
    given = {"name": "s", "kind": "k", **options}
    if "cron" not in given:
        given.setdefault("every", HOUR)
    return Schedule(**given)


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"name": "a b"}, "use 1 to 200 of the characters"),
        ({"name": "x" * 201}, "use 1 to 200"),
        ({"name": None}, "use 1 to 200"),
        ({"kind": ""}, "kind '' is no name"),
        ({"every": None}, "either cron or every"),
        ({"cron": "* * * * *", "every": HOUR}, "either cron or every"),
        ({"every": 60}, "every is 60"),
        ({"every": timedelta(milliseconds=999)}, "every is"),
        ({"every": timedelta(days=1001)}, "every is"),
        ({"cron": 5}, "cron is 5"),
        ({"cron": "* * * *"}, "cannot be read"),
        ({"cron": "61 * * * *"}, "cannot be"),
        ({"cron": "0 0 L * *"}, "cannot be read"),
        ({"cron": "0 0 * * 5L"}, "cannot be read"),
        ({"cron": "0 0 * * MON#2"}, "cannot be read"),
        ({"cron": "@reboot"}, "cannot be read"),
        ({"timezone": "UTC+3, please"}, "timezone is"),
        ({"timezone": timezone.utc}, "timezone is"),
        ({"window": (time(9),)}, "window is"),
        ({"window": (time(9), time(9))}, "window is"),
        ({"window": ("9:00", "17:00")}, "window is"),
        ({"window": (time(9, tzinfo=timezone.utc), time(17))}, "window is"),
        ({"window": "9-17"}, "window is"),
        ({"every": timedelta(hours=25), "window": (time(9), time(17))}, "longer than a day"),
        ({"starts_at": datetime(2026, 1, 1)}, "starts_at is"),  # noqa: DTZ001 - that is the fault
        ({"ends_at": "2026-01-01"}, "ends_at is"),
        (
            {"starts_at": datetime.max.replace(tzinfo=timezone.utc),
             "ends_at": datetime(2026, 1, 1, tzinfo=timezone.utc)}, "ends_at is not later",
        ),
        ({"jitter": timedelta(seconds=-1)}, "jitter is"),
        ({"jitter": timedelta(days=31)}, "jitter is"),
        ({"grace": None}, "grace is"),
        ({"catch_up": -1}, "catch_up is -1"),
        ({"catch_up": True}, "catch_up is True"),
        ({"catch_up": 1001}, "catch_up is 1001"),
        ({"overlap": "wait"}, "overlap is 'wait'"),
        ({"enabled": 1}, "enabled is 1"),
        ({"priority": 10}, "priority is 10"),
        ({"max_attempts": 0}, "max_attempts is 0"),
        ({"queue": "a b"}, "queue 'a b' is no name"),
        ({"tags": "a"}, "tags is a str"),
        ({"metadata": []}, "metadata is a list"),
        ({"retry": 5}, "retry is 5"),
    ],
)  # fmt: skip
def test_option_that_cannot_be_is_refused(options: dict[str, Any], reason: str) -> None:
    """With what to pass instead."""
    with pytest.raises(InvalidSchedule, match=reason):
        checked_schedule(made(**options))


@pytest.mark.parametrize("value", [None, "s", {"name": "s"}, 5])
def test_what_is_no_schedule_is_refused(value: Any) -> None:
    """Nor is what is no list of them."""
    with pytest.raises(InvalidSchedule, match="pass a"):
        checked_schedule(value)
    with pytest.raises(InvalidSchedule):
        schedules_text([value] if value is not None else ANY)


@pytest.mark.parametrize("options", [{"payload": ANY}, {"metadata": {"a": ANY}}])
def test_payload_that_is_no_json_is_refused(options: dict[str, Any]) -> None:
    """As a job's."""
    with pytest.raises(PayloadError):
        checked_schedule(made(**options))


@pytest.mark.parametrize(
    "expression",
    ["*/5 * * * *", "0 0 29 2 *", "@daily", " @Hourly ", "0 6 * jan-mar mon", "30 0 6 * * *",
     "5/20 * * * *"],
)  # fmt: skip
def test_expression_that_can_be_passes_with_the_library_and_without(
    expression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database has the last word."""
    assert cron.checked(expression) == expression
    assert cron.describe(expression) != expression
    monkeypatch.setitem(sys.modules, "cronsim", None)
    assert cron.checked(expression) == expression
    assert cron.describe(expression) == expression


def test_text_has_what_was_said_and_no_more() -> None:
    """What is left out is the database's to fill."""
    assert json.loads(schedule_text(made())) == {
        "name": "s", "kind": "k", "every": "1:0:0.000000", "timezone": "UTC",
        "jitter": "0:0:0.000000", "catch_up": 1, "grace": "0:10:0.000000", "overlap": "queue",
        "queue": "default", "priority": 5, "payload": {},
    }  # fmt: skip
    schedule = made(
        payload=["x"], window=(time(22), time(6)), enabled=False, retry=Exponential(),
        metadata={"a": 1}, tags=("t",),
    )  # fmt: skip
    full = json.loads(schedule_text(schedule))
    assert full["payload"] == ["x"]
    assert (full["window_start"], full["window_end"]) == ("22:00:00", "06:00:00")
    assert (full["enabled"], full["metadata"], full["tags"]) == (False, {"a": 1}, ["t"])
    assert full["backoff"] == Exponential().policy()


@pytest.mark.parametrize(
    "options, words",
    [
        ({"every": timedelta(minutes=15)}, "every 15m"),
        ({"every": timedelta(minutes=15), "window": (time(22), time(6)), "timezone": "Asia/Tokyo"},
         "every 15m, between 22:00 and 06:00 (Asia/Tokyo)"),
        ({"cron": "0 6 * * 1-5"}, "at 06:00 on Monday through Friday (UTC)"),
        ({"cron": "@daily"}, "at 00:00 every day (UTC)"),
        ({"cron": "no cron at all"}, "no cron at all (UTC)"),
    ],
)  # fmt: skip
def test_schedule_in_words(options: dict[str, Any], words: str) -> None:
    """For people."""
    assert made(**options).describe() == words
