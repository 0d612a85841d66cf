"""`schedules`, `schedule` and `scheduler`."""

from __future__ import annotations

import os
import signal
import threading
from datetime import timedelta

import pytest
from click.testing import CliRunner

from pgqueue import Client, DatabaseUnavailable, Schedule
from pgqueue.cli import scheduler
from pgqueue.cli.app import app
from pgqueue.schedules import Schedules

from .conftest import Run

HOUR = timedelta(hours=1)


@pytest.fixture
def hourly(pgqueue_client: Client) -> str:
    """The name of a schedule."""
    pgqueue_client.schedules.put(Schedule("hourly", "tick", every=HOUR))
    return "hourly"


def test_list_in_words_and_in_json(run: Run, pgqueue_client: Client, hourly: str) -> None:
    """One a line; all that is known of it, with units in the keys' names."""
    pgqueue_client.schedules.disable(hourly)
    lines = run("schedules").out.splitlines()
    assert lines[0].split() == ["NAME", "WHEN", "KIND", "NEXT", "LAST", "DECLARED", "BY"]
    assert lines[1].split() == ["hourly", "every", "60m", "tick", "disabled"]
    (found,) = run("schedules", "--json").lines
    assert (found["name"], found["every_seconds"], found["grace_seconds"]) == ("hourly", 3600, 600)
    assert (found["window"], found["retry"], found["enabled"]) == (None, None, False)
    assert (found["next_run_at"], found["id"]) == (None, 1)
    assert run("schedules", "--kind", "other").out == "no schedules\n"


def test_every_option_reaches_the_schedule(run: Run, pgqueue_client: Client) -> None:
    """And again, it is unchanged."""
    command = (
        "schedule", "add", "s", "k", '{"a": 1}', "--cron", "0 6 * * *", "--timezone", "Asia/Tokyo",
        "--window", "05:00-07:00", "--starts-at", "2026-01-01T00:00:00Z", "--ends-at",
        "2036-01-01T00:00:00Z", "--jitter", "1m", "--catch-up", "3", "--grace", "1h", "--overlap",
        "skip", "-q", "slow", "-p", "8", "--max-attempts", "3", "--retry", "2s..1h", "--tag", "t",
        "--metadata", '{"m": 1}', "--ref", "r", "--disabled",
    )  # fmt: skip
    assert run(*command, "--json").json == {"name": "s", "outcome": "added", "next_run_at": None}
    assert run(*command).out.startswith("schedule 's' unchanged: at 06:00 every day, between")
    shown = run("schedule", "show", "s", "--json").json
    assert shown["runs"] == []
    expected = {
        "payload": {"a": 1}, "cron": "0 6 * * *", "timezone": "Asia/Tokyo",
        "window": ["05:00:00", "07:00:00"], "starts_at": "2026-01-01T00:00:00+00:00",
        "ends_at": "2036-01-01T00:00:00+00:00", "jitter_seconds": 60, "catch_up": 3,
        "grace_seconds": 3600, "overlap": "skip", "queue": "slow", "priority": 8,
        "max_attempts": 3, "tags": ["t"], "metadata": {"m": 1}, "ref": "r", "enabled": False,
    }  # fmt: skip
    assert {name: shown[name] for name in expected} == expected
    assert shown["retry"]["cap"] == 3600
    assert pgqueue_client.schedules.get("s").schedule.jitter == timedelta(minutes=1)


def test_run_switch_and_remove(run: Run, pgqueue_client: Client, hourly: str) -> None:
    """Each says what it did."""
    assert run("schedule", "disable", hourly).out == "schedule 'hourly' is disabled\n"
    assert run("schedule", "run", hourly).out == "job 1\n"
    assert pgqueue_client.get(1).kind == "tick"
    assert run("schedule", "enable", hourly).out.startswith(
        "schedule 'hourly' is enabled; next: in "
    )
    assert "manual" in run("schedule", "show", hourly).out
    assert run("schedule", "remove", hourly).code == 0
    gone = run("schedule", "remove", hourly)
    assert (gone.code, gone.out) == (1, "there was no schedule 'hourly'\n")


@pytest.mark.parametrize("verb", ["show", "run", "enable", "disable", "preview"])
def test_unknown_schedule_is_not_found(run: Run, verb: str) -> None:
    """Exit code 6, as for a job."""
    done = run("schedule", verb, "unknown")
    assert done.code == 6
    assert "there is no schedule 'unknown'" in done.err


@pytest.mark.parametrize(
    "args, reason",
    [
        (("add", "s", "k"), "either cron or every"),
        (("add", "s", "k", "--cron", "61 * * * *"), "cannot be"),
        (("add", "s", "k", "--every", "1h", "--window", "9-17"), "no part of a day"),
        (("add", "s", "k", "--every", "1h", "--timezone", "Nowhere/Land"), "unknown"),
        (("add", "s", "k", "{"), "not JSON"),
        (("preview",), "give either"),
        (("preview", "s", "--every", "1h"), "give either"),
    ],
)
def test_what_cannot_be_is_refused(run: Run, args: tuple[str, ...], reason: str) -> None:
    """Exit code 2."""
    done = run("schedule", *args)
    assert done.code == 2
    assert reason in done.err


def test_preview_of_what_is_not_stored(run: Run) -> None:
    """For people and for programs."""
    command = ("schedule", "preview", "--cron", "0 6 1 1 *", "-n", "3")
    slots = run(*command, "--json").json["slots"]
    assert [slot[4:] for slot in slots] == ["-01-01T06:00:00+00:00"] * 3
    shown = run(*command).out.splitlines()
    assert [line.split("  ")[0] for line in shown] == [slot.replace("T", " ") for slot in slots]


def test_group_without_a_command_shows_its_help() -> None:
    """And exits with 2, as those of other groups do."""
    done = CliRunner().invoke(app, ["schedule"])
    assert "preview" in done.output
    assert done.exit_code == 2


def test_scheduler_fires_on_time_until_a_signal(
    run: Run, pgqueue_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM ends it in order, an outage does not."""
    pgqueue_client.schedules.put(Schedule("s", "k", every=timedelta(seconds=1)))
    tick, outages = Schedules.tick, [DatabaseUnavailable("the server is gone")]
    listed = []

    def end_after_two(self: Schedules) -> int:
        if outages:
            raise outages.pop()
        fired = tick(self)
        listed.append([(worker.scheduler, worker.pid) for worker in pgqueue_client.workers()])
        if len(pgqueue_client.schedules.runs("s")) >= 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return fired

    monkeypatch.setattr(Schedules, "tick", end_after_two)
    monkeypatch.setattr(scheduler, "LONGEST", 0.3)
    before = signal.getsignal(signal.SIGTERM)
    done = run("scheduler", "--json")
    assert done.code == 0
    assert sum(line["enqueued"] for line in done.lines) == 2
    assert done.err.splitlines() == [
        "pgqueue: firing schedules", "pgqueue: the server is gone; trying again"
    ]  # fmt: skip
    assert signal.getsignal(signal.SIGTERM) is before
    assert threading.current_thread() is threading.main_thread()
    late = [each.fired_at - each.slot for each in pgqueue_client.schedules.runs("s")]
    assert min(late) < timedelta(seconds=0.2)
    assert listed[-1] == [(True, os.getpid())]
    assert pgqueue_client.workers() == []


def test_scheduler_does_not_begin_on_a_missing_schema(run: Run) -> None:
    """Rather an error than a service that does nothing."""
    assert run("scheduler", "--schema", "missing").code == 4
