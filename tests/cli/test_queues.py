"""`stats`, `pause`, `resume`, `purge`."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from pgqueue import Client
from pgqueue.cli import queues

from .conftest import Run


def test_stats_count_by_queue(run: Run, pgqueue_client: Client) -> None:
    """In a table for people."""
    pgqueue_client.enqueue_many([("mail", None)] * 1200, queue="bulk")
    pgqueue_client.enqueue("mail", max_attempts=1)
    pgqueue_client.fail(pgqueue_client.claim())
    heading, bulk, default = run("stats").out.splitlines()
    assert heading.split() == [
        "QUEUE", "READY", "SCHEDULED", "CLAIMED", "DEAD", "OLDEST", "PAUSED",
    ]  # fmt: skip
    assert bulk.split()[:5] == ["bulk", "1,200", "0", "0", "0"]
    assert default.split() == ["default", "0", "0", "0", "1"]


def test_stats_in_json_have_numbers(run: Run, pgqueue_client: Client) -> None:
    """One object a queue; a wait in seconds; no year 9999 for a pause without an end."""
    pgqueue_client.enqueue("mail")
    pgqueue_client.pause("default")
    (line,) = run("stats", "--json").lines
    assert 0 <= line.pop("oldest_wait_seconds") < 60
    assert line == {
        "queue": "default", "ready": 1, "scheduled": 0, "claimed": 0, "dead": 0,
        "paused": True, "paused_until": None,
    }  # fmt: skip


def test_stats_of_nothing(run: Run) -> None:
    """Words for people, no lines for programs."""
    assert run("stats").out == "no jobs\n"
    assert run("stats", "--json").out == ""


def test_paused_queue_gives_no_jobs_until_resumed(run: Run, pgqueue_client: Client) -> None:
    """Resuming twice is a no the second time."""
    pgqueue_client.enqueue("mail")
    assert run("pause", "default", "--reason", "broken").out == "queue 'default' is paused\n"
    assert pgqueue_client.claim() == []
    assert "until resumed" in run("stats").out
    assert run("resume", "default").out == "queue 'default' goes on\n"
    assert len(pgqueue_client.claim()) == 1
    again = run("resume", "default")
    assert (again.code, again.out) == (1, "queue 'default' was not paused\n")
    assert run("resume", "default", "--json").json == {"queue": "default", "was_paused": False}


def test_pause_ends_by_itself(run: Run, pgqueue_client: Client) -> None:
    """After a while, or at a time."""
    assert run("pause", "default", "--until", "2h").out == (
        "queue 'default' is paused, to go on in 2h\n"
    )
    (stats,) = pgqueue_client.stats()
    assert stats.paused_until is not None
    left = stats.paused_until - datetime.now(stats.paused_until.tzinfo)
    assert abs(left - timedelta(hours=2)) < timedelta(minutes=1)
    assert "ends in" in run("stats").out
    done = run("pause", "default", "--until", "2040-01-01T00:00:00Z", "--json")
    assert done.json == {
        "queue": "default", "paused": True, "paused_until": "2040-01-01T00:00:00+00:00",
    }  # fmt: skip
    assert run("stats", "--json").lines[0]["paused_until"] == "2040-01-01T00:00:00+00:00"


@pytest.mark.parametrize(
    "until,why", [("2020-01-01T00:00:00Z", "is past"), ("9999999d", "after the year 9999")]
)
def test_pause_must_end_in_the_future(
    run: Run, pgqueue_client: Client, until: str, why: str
) -> None:
    """One that is over already would pause nothing, and say that it had."""
    pgqueue_client.enqueue("mail")
    done = run("pause", "default", "--until", until)
    assert (done.code, why in done.err) == (2, True)
    assert [stats.paused_until for stats in pgqueue_client.stats()] == [None]


@pytest.mark.parametrize("command", ["pause", "resume", "purge"])
def test_queue_has_to_be_a_name(run: Run, command: str) -> None:
    """An impossible name is refused."""
    assert run(command, "no such queue", "--help").code == 0
    assert run("pause", "no such queue").code == 2


def test_purge_deletes_waiting_jobs_of_a_kind_or_all(run: Run, pgqueue_client: Client) -> None:
    """What runs stays; a dry run only counts; nothing left is a no."""
    pgqueue_client.enqueue("mail")
    pgqueue_client.claim()
    pgqueue_client.enqueue("mail", delay=timedelta(hours=1))
    pgqueue_client.enqueue("mail")
    pgqueue_client.enqueue("report")
    assert run("purge", "default", "--dry-run").out == "3 waiting jobs in queue 'default'\n"
    assert run("purge", "default", "--dry-run", "--kind", "report", "--json").json == {
        "queue": "default", "kind": "report", "waiting": 1,
    }  # fmt: skip
    assert run("purge", "default", "--kind", "report", "--yes").out == "1 job deleted\n"
    assert run("purge", "default", "--yes", "--json").json == {
        "queue": "default", "kind": None, "purged": 2,
    }  # fmt: skip
    none = run("purge", "default")
    assert (none.code, none.out) == (1, "0 jobs deleted\n")
    assert [job.id for job in pgqueue_client.list()] == [1]


def test_purge_goes_on_until_all_are_gone(
    run: Run, pgqueue_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch by batch, so that no transaction is long."""
    monkeypatch.setattr(queues, "BATCH", 2)
    for count in (5, 4):
        pgqueue_client.enqueue_many([("mail", None)] * count)
        assert run("purge", "default", "--yes").out == f"{count} jobs deleted\n"


def test_purge_without_a_terminal_wants_yes(run: Run, pgqueue_client: Client) -> None:
    """A script must say that it means it."""
    pgqueue_client.enqueue("mail")
    done = run("purge", "default", stdin="y\n")
    assert done.code == 2
    assert "pass --yes" in done.err
    assert len(pgqueue_client.list()) == 1
