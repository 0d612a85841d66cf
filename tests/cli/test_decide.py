"""`retry`, `redrive`, `cancel`."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pgqueue import Client, JobState

from .conftest import Run


def kill(client: Client, count: int = 1, queue: str = "default", kind: str = "mail") -> None:
    """Enqueue jobs and let them die."""
    for _ in range(count):
        client.enqueue(kind, queue=queue, max_attempts=1)
    client.fail(client.claim(queue, limit=count))


def test_retry_brings_dead_jobs_back(run: Run, pgqueue_client: Client) -> None:
    """They are ready, and each gets its line."""
    kill(pgqueue_client, 2)
    done = run("retry", 1, 2)
    assert (done.code, done.out) == (0, "job 1 runs again\njob 2 runs again\n")
    assert pgqueue_client.get(1).state is JobState.READY


def test_retry_says_why_not(run: Run, pgqueue_client: Client) -> None:
    """Running, ready already, key held: the answer is no, and the exit code 1."""
    pgqueue_client.enqueue("mail")
    pgqueue_client.claim()
    pgqueue_client.enqueue("mail")
    pgqueue_client.enqueue("mail", dedupe_key="k")
    pgqueue_client.cancel(3)
    pgqueue_client.enqueue("mail", dedupe_key="k")
    done = run("retry", 1, 2, 3)
    assert done.code == 1
    assert done.out.splitlines() == [
        "job 1 is running; it was left alone",
        "job 2 is ready already",
        "job 3 stays cancelled: another job holds its dedupe key",
    ]


def test_retry_of_an_unknown_job_is_not_found(run: Run, pgqueue_client: Client) -> None:
    """The others are retried all the same."""
    kill(pgqueue_client)
    done = run("retry", 1, 99, "--json")
    assert done.code == 6
    assert done.lines == [
        {"id": 1, "done": True, "state": "ready"},
        {"id": 99, "done": False, "state": None},
    ]
    assert run("retry", 99).out == "there is no job 99\n"


def test_retry_needs_ids(run: Run) -> None:
    """None are given, or what is no id."""
    assert run("retry").code == 2
    assert run("retry", 0).code == 2


def test_redrive_takes_the_dead_by_queue_and_kind(run: Run, pgqueue_client: Client) -> None:
    """Only as many as asked for; none left is a no."""
    kill(pgqueue_client, 2)
    kill(pgqueue_client, 1, "slow", "report")
    assert run("redrive", "--queue", "slow", "--kind", "report", "--json").json == {"retried": 1}
    one = run("redrive", "--limit", 1)
    assert one.out == "1 dead job will run again; there may be more: repeat the command\n"
    assert run("redrive").out == "1 dead job will run again\n"
    none = run("redrive")
    assert (none.code, none.out) == (1, "no dead jobs\n")


def test_cancel_ends_waiting_jobs_and_asks_running_ones(run: Run, pgqueue_client: Client) -> None:
    """Each id has its answer; a finished job is left as it is."""
    pgqueue_client.enqueue("mail")
    pgqueue_client.claim(lease=timedelta(minutes=5))
    pgqueue_client.enqueue("mail")
    done = run("cancel", 1, 2, "--reason", "not wanted")
    assert done.code == 0
    assert done.out.splitlines() == ["job 1 is running and was asked to stop", "job 2 is cancelled"]
    assert pgqueue_client.get(2).history[0].error == "not wanted"
    again = run("cancel", 2)
    assert (again.code, again.out) == (1, "job 2 is finished already: cancelled\n")
    assert run("cancel", 1, 99, "--json").lines == [
        {"id": 1, "done": True, "state": "claimed"},
        {"id": 99, "done": False, "state": None},
    ]


def test_cancel_by_ref_takes_all_of_them(run: Run, pgqueue_client: Client) -> None:
    """Such as those of a user who has gone."""
    for _ in range(2):
        pgqueue_client.enqueue("mail", ref="user:7")
    assert run("cancel", "--ref", "user:7").out == "2 jobs cancelled, or asked to stop\n"
    none = run("cancel", "--ref", "user:7", "--json")
    nothing = {"action": "cancel", "matched": 0, "affected": 0, "audit_id": None}
    assert (none.code, none.json) == (1, nothing)
    assert run("cancel").code == run("cancel", 1, "--ref", "x").code == 2


def test_all_that_fit_are_retried_or_cancelled(run: Run, pgqueue_client: Client) -> None:
    """After a look at how many they are, and an answer; the audit log says who did it."""
    kill(pgqueue_client, 3)
    for _ in range(2):
        pgqueue_client.enqueue("mail", queue="slow")
    dry = run("retry", "--state", "dead", "--dry-run")
    assert (dry.code, dry.out) == (0, "3 jobs would be tried\n")
    assert run("retry", "--queue", "default").code == 2  # nobody is there to be asked
    done = run("retry", "--queue", "default", "--yes", "--reason", "fixed")
    assert (done.code, done.out) == (0, "3 jobs will run again\n")
    done = run("cancel", "--queue", "slow", "--yes", "--json", env={"PGQUEUE_ACTOR": "ada"})
    assert (done.json["matched"], done.json["affected"]) == (2, 2)
    assert run("cancel", "--queue", "slow", "--yes").code == 1
    assert run("retry", "--state", "claimed", "--yes").code == 2
    cancelled, retried = run("audit", "--json").lines
    assert (cancelled["actor"], cancelled["via"], cancelled["affected"]) == ("ada", "cli", 2)
    assert retried["filter"] == {"state": ["dead"], "queue": "default"}
    assert retried["detail"] == {"reason": "fixed"}


@pytest.mark.parametrize("args", [(), (1, "--ref", "user:7")])
def test_cancel_takes_ids_or_a_ref(run: Run, args: tuple[object, ...]) -> None:
    """One of them."""
    assert run("cancel", *args).code == 2
