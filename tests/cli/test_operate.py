"""`edit`, `run`, `history`, `audit`, and the pause of everything."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from pgqueue import Client
from pgqueue.cli.operate import sparkline

from .conftest import Run

HANDLERS = """
import pgqueue

handlers = pgqueue.Handlers()


@handlers.register("good")
def good(job):
    print("runs", job.id)


@handlers.register("slow")
async def slow(job):
    import asyncio

    await asyncio.sleep(0.5)
    return {"slow": True}


@handlers.register("bad")
def bad(job):
    raise ValueError("no such user")


@handlers.register("stopped")
def stopped(job):
    raise KeyboardInterrupt
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module with handlers, in the current folder."""
    (tmp_path / "by_hand.py").write_text(HANDLERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "by_hand:handlers"
    sys.modules.pop("by_hand", None)


def test_job_is_run_by_hand_while_everything_is_paused(
    run: Run, pgqueue_client: Client, module: str
) -> None:
    """Whatever its time; its lease is renewed meanwhile, and its ending is as any worker's."""
    good = pgqueue_client.enqueue("good", delay=timedelta(hours=1)).id
    slow = pgqueue_client.enqueue("slow").id
    paused = run("pause", "--all", "--until", "2h", "--reason", "incident")
    assert paused.out.startswith("everything is paused, to go on in ")
    done = run("run", good, module)
    assert (done.code, done.out.splitlines()[0]) == (0, f"runs {good}")
    assert done.out.splitlines()[1].startswith(f"job {good} succeeded after ")
    answer = run("run", slow, module, "--lease", "300ms", "--json").json
    assert (answer["outcome"], answer["state"]) == ("succeeded", "succeeded")
    assert pgqueue_client.get(slow).result == {"slow": True}
    assert run("run", good, module).code == 1  # it is finished
    assert run("run", 99, module).code == 6
    assert run("resume", "--all").out == "everything goes on\n"
    assert run("resume", "--all").code == 1
    assert run("pause").code == run("pause", "mail", "--all").code == run("resume").code == 2


def test_job_that_fails_by_hand_backs_off(run: Run, pgqueue_client: Client, module: str) -> None:
    """The error is shown and kept; one that is interrupted is given back; both are exit codes."""
    bad = pgqueue_client.enqueue("bad").id
    stopped = pgqueue_client.enqueue("stopped").id
    unknown = pgqueue_client.enqueue("unknown").id
    done = run("run", bad, module, "--json")
    assert (done.code, done.json["outcome"], done.json["state"]) == (1, "failed", "scheduled")
    assert pgqueue_client.get(bad).history[0].error == "no such user"
    assert run("run", stopped, module).code == 130
    assert (pgqueue_client.get(stopped).state, pgqueue_client.get(stopped).attempt) == ("ready", 0)
    assert run("run", unknown, module).code == 2
    assert pgqueue_client.get(unknown).attempt == 0


def test_edit_changes_a_waiting_job(run: Run, pgqueue_client: Client) -> None:
    """By a duration or a time; nothing to change, and nothing that waits, is said."""
    job = pgqueue_client.enqueue("k").id
    assert run("edit", job, "--run-at", "2h").out == f"job {job} is scheduled\n"
    assert run("edit", job, "--run-at", "2030-01-01T00:00:00Z", "--priority", 1).code == 0
    assert pgqueue_client.get(job).priority == 1
    assert run("edit", job, "--run-at", "0s", "--json").json == {"id": job, "state": "ready"}
    assert run("edit", job).code == 2
    assert run("edit", 99, "--priority", 1).code == 6
    pgqueue_client.claim()
    assert run("edit", job, "--priority", 1).code == 1


def test_audit_lists_who_did_what(run: Run, pgqueue_client: Client) -> None:
    """The latest first; with the jobs, the filter, or the queue."""
    assert run("audit").out == "nothing was done\n"
    job = pgqueue_client.enqueue("k").id
    run("edit", job, "--priority", 1, env={"PGQUEUE_ACTOR": "ada"})
    run("pause", "mail", "--reason", "down", env={"PGQUEUE_ACTOR": "bob"})
    run("cancel", job)
    run("purge", "default", "--yes")
    run("redrive")
    heading, *rows = run("audit").out.splitlines()
    assert heading.split() == ["WHEN", "WHO", "VIA", "DID", "JOBS", "TO", "WHAT"]
    assert [row.split("cli")[1].split()[0] for row in rows] == [
        "redrive",
        "cancel",
        "pause",
        "edit",
    ]
    assert "queue mail; reason down" in rows[2]
    assert [e["action"] for e in run("audit", "--actor", "ada", "--json").lines] == ["edit"]
    assert [e["action"] for e in run("audit", "--action", "pause", "--json").lines] == ["pause"]


def test_history_shows_minutes(run: Run, pgqueue_client: Client) -> None:
    """By queue, or by interval for one; in JSON, one object for each."""
    assert run("history").out == "nothing happened, or no upkeep was there to count it\n"
    with psycopg.connect(pgqueue_client.dsn) as conn:
        conn.execute(
            "insert into pgqueue.minute (minute, queue, enqueued, started, succeeded, dead, waits, "
            "runs, ready, oldest_wait) select date_trunc('minute', now()) - interval '1 min' * n, "
            "q, 5, 4, 3, n, '{0,0,3}', '{0,3}', 7, '90 s' "
            "from generate_series(1, 3) n, unnest('{a,b}'::text[]) q"
        )
    heading, *rows = run("history").out.splitlines()
    assert heading.split()[:3] == ["QUEUE", "DONE", "ENQUEUED"]
    assert [row.split()[0] for row in rows] == ["a", "b"]
    assert rows[0].split()[2:6] == ["15", "12", "9", "0"]
    lines = run("history", "-q", "a", "--json").lines
    assert [line["dead"] for line in lines] == [3, 2, 1]
    assert lines[0]["oldest_wait_seconds"] == 90
    assert lines[0]["wait_p50_seconds"] == pytest.approx(2**-12.375, rel=0.01)
    assert len(run("history", "-q", "a").out.splitlines()) == 4
    assert run("history", "-q", "a", "--every", "365d", "--json").json["enqueued"] == 15


def test_sparkline_has_as_many_bars_as_fit() -> None:
    """The highest is full, what is not nothing is to be seen."""
    assert sparkline([0, 1, 50, 100]) in ("▁▂▅█", " .=#")
    assert len(sparkline(list(range(100)))) <= 30
    assert set(sparkline([0, 0])) <= {"▁", " "}
