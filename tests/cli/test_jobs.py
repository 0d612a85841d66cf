"""`jobs` and `job`: looking."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import attrs
import psycopg
import pytest

from pgqueue import Attempt, Client, JobState, JobSummary
from pgqueue.cli.job import heading
from pgqueue.cli.times import Clock

from .conftest import Run

MINUTE = timedelta(minutes=1)


def fill(client: Client) -> None:
    """One job in each state that a reader may want to see: ids 1 to 5."""
    client.enqueue("mail", {"n": 1}, tags=["new"], ref="user:1")
    client.enqueue("mail", {"n": 2}, max_attempts=1)
    client.enqueue("report", queue="slow")
    client.enqueue("mail", delay=timedelta(minutes=4))
    client.enqueue("mail")
    first, second = client.claim(limit=2, worker="w1")
    client.ack(first, result={"sent": True})
    client.fail(second, ValueError("no such address"))
    client.claim("slow", worker="w2")


def test_list_shows_each_job_on_a_plain_line(run: Run, pgqueue_client: Client) -> None:
    """Into a pipe there is no colour, nothing is cut, and no line ends in spaces."""
    fill(pgqueue_client)
    done = run("jobs")
    assert done.code == 0
    heading, *rows = done.out.splitlines()
    assert heading.split() == ["ID", "STATE", "QUEUE", "KIND", "ATTEMPT", "WHEN", "ABOUT"]
    assert [row.split()[:2] for row in rows] == [
        ["3", "claimed"], ["5", "ready"], ["4", "scheduled"], ["2", "dead"], ["1", "succeeded"],
    ]  # fmt: skip
    assert "in 4m" in rows[2] or "in 3m" in rows[2]
    assert rows[-1].endswith("new user:1")
    assert all(line == line.rstrip() for line in done.out.splitlines())


def test_list_in_json_has_the_fields_of_a_summary(run: Run, pgqueue_client: Client) -> None:
    """One object a line, its keys those of `JobSummary`, times in ISO 8601."""
    fill(pgqueue_client)
    lines = run("jobs", "--json").lines
    assert [line["id"] for line in lines] == [3, 5, 4, 2, 1]
    assert list(lines[0]) == [field.name for field in attrs.fields(JobSummary)]
    assert lines[-1]["state"] == "succeeded"
    assert lines[-1]["tags"] == ["new"]
    assert lines[-1]["finished_at"].endswith("+00:00")


def test_each_filter_narrows(run: Run, pgqueue_client: Client) -> None:
    """By queue, kind, state, tag and ref."""
    fill(pgqueue_client)

    def ids(*args: object) -> list[int]:
        return [line["id"] for line in run("jobs", "--json", *args).lines]

    assert ids("--queue", "slow") == [3]
    assert ids("--kind", "report") == [3]
    assert ids("--state", "dead") == [2]
    assert ids("--tag", "new") == [1]
    assert ids("--ref", "user:1") == [1]
    assert ids("--queue", "default", "--kind", "mail", "--state", "ready") == [5]
    assert ids("--state", "skipped") == []


def test_pages_follow_each_other(run: Run, pgqueue_client: Client) -> None:
    """What the last one says on stderr starts the next."""
    fill(pgqueue_client)
    first = run("jobs", "--json", "--limit", 2)
    assert [line["id"] for line in first.lines] == [3, 5]
    place = first.err.removeprefix("pgqueue: there are more: --after ").strip()
    rest = run("jobs", "--json", "--limit", 9, "--after", place)
    assert [line["id"] for line in rest.lines] == [4, 2, 1]
    assert rest.err == ""
    assert run("jobs", "--after", "x").code == 2


def test_more_filters_narrow(run: Run, pgqueue_client: Client) -> None:
    """By worker, error, payload and times; several states; and how many there are."""
    fill(pgqueue_client)

    def ids(*args: object) -> list[int]:
        return [line["id"] for line in run("jobs", "--json", *args).lines]

    assert ids("--worker", "w2") == [3]
    assert ids("--error-class", "ValueError") == [2]
    assert ids("--error", "NO SUCH", "--finished-after", "1h") == [2]
    assert ids("--payload", '{"n": 1}') == [1]
    assert ids("--state", "ready", "--state", "dead") == [5, 2]
    assert ids("--enqueued-before", "1h") == []
    assert ids("--finished-before", "2000-01-01T00:00:00Z") == []
    assert ids("--tenant", "acme") == []
    assert run("jobs", "--count").out == "5 jobs\n"
    assert run("jobs", "--count", "--state", "dead", "--json").json == {"count": 1, "more": False}


def test_nothing_found_is_said_to_people_only(run: Run) -> None:
    """For a program, no lines are the answer."""
    assert run("jobs").out == "no jobs\n"
    assert run("jobs", "--json").out == ""


def test_times_may_be_shown_in_full(run: Run, pgqueue_client: Client) -> None:
    """In UTC, on request."""
    pgqueue_client.enqueue("mail")
    enqueued = pgqueue_client.get(1).enqueued_at.strftime("%Y-%m-%d %H:%M:%SZ")
    assert enqueued in run("jobs", "--utc").out
    assert f"enqueued  {enqueued}" in run("job", 1, "--utc").out


def test_unknown_state_lists_the_known_ones(run: Run) -> None:
    """A typo is answered with the choices."""
    done = run("jobs", "--state", "failed")
    assert done.code == 2
    assert "'succeeded'" in done.err


def test_job_shows_its_attempts_with_tracebacks(run: Run, pgqueue_client: Client) -> None:
    """The error stands at the end of its traceback, once."""
    pgqueue_client.enqueue("mail", {"to": "x"}, max_attempts=1)
    (job,) = pgqueue_client.claim(worker="w1")
    with pytest.raises(ValueError, match="address") as caught:
        raise ValueError("no such address")
    pgqueue_client.fail(job, caught.value)
    done = run("job", 1, "-v")
    assert done.out.startswith("Job 1: mail\n")
    assert "Attempt 1 failed" in done.out
    assert "on w1" in done.out
    assert "test_jobs.py" in done.out
    assert done.out.count("ValueError: no such address") == 1


def test_job_shows_what_is_stored(run: Run, pgqueue_client: Client) -> None:
    """Payload, metadata, key, tags, ref, result."""
    pgqueue_client.enqueue(
        "mail", {"to": "x" * 100}, dedupe_key="k", tags=["a", "b"], ref="user:1", metadata={"m": 1}
    )
    pgqueue_client.ack(pgqueue_client.claim()[0], result=[1, 2])
    out = run("job", 1).out
    for text in (
        "dedupe key  k",
        "a, b",
        "user:1",
        '{"m": 1}',
        "Result\n  [1, 2]",
        '\n    "to": "xx',
    ):
        assert text in out


def test_running_job_shows_its_lease_and_a_wish_to_cancel(run: Run, pgqueue_client: Client) -> None:
    """Who has it, until when, and that it should stop."""
    pgqueue_client.enqueue("mail")
    pgqueue_client.claim(worker="w1", lease=timedelta(minutes=5))
    pgqueue_client.cancel(1)
    out = run("job", 1).out
    assert "claimed, was asked to stop" in out
    assert "by w1" in out
    assert "until in" in out


def test_job_that_backs_off_says_until_when(run: Run, pgqueue_client: Client) -> None:
    """A message without a traceback is shown as it is."""
    pgqueue_client.enqueue("mail")
    pgqueue_client.fail(pgqueue_client.claim(), "no luck", retry_in=timedelta(hours=3))
    out = run("job", 1).out
    assert "scheduled, backs off until in" in out
    assert "no luck" in out


def test_job_that_never_ran_says_how_it_ended(run: Run, pgqueue_client: Client) -> None:
    """There is no start, and so no duration."""
    pgqueue_client.enqueue("mail")
    pgqueue_client.cancel(1, "not wanted")
    assert "Attempt 0 cancelled, now\n  not wanted\n" in run("job", 1).out


def test_attempt_of_which_little_is_known() -> None:
    """Such as one that another program wrote."""
    clock = Clock(datetime(2030, 1, 1, tzinfo=timezone.utc), utc=False)
    assert heading(Attempt(attempt=2, outcome="failed"), clock) == "Attempt 2 failed"


def test_job_in_json_is_the_whole_of_it(run: Run, pgqueue_client: Client) -> None:
    """Payload, result and history come on top of the summary's keys."""
    fill(pgqueue_client)
    job = run("job", 2, "--json").json
    assert job["payload"] == {"n": 2}
    assert job["result"] is None
    (attempt,) = job["history"]
    assert attempt["error"] == "no such address"
    assert attempt["error_class"] == "ValueError"
    assert attempt["outcome"] == "failed"
    assert attempt["ended"].endswith("+00:00")


def test_unknown_job_has_an_exit_code_of_its_own(run: Run) -> None:
    """Not found is not a usage error, but no number is."""
    assert run("job", 99).code == 6
    assert "there is no job 99" in run("job", 99).err
    assert run("job", "first").code == 2
    assert run("job", 2**63).code == 2


def test_wait_ends_when_the_job_does(run: Run, pgqueue_client: Client) -> None:
    """Or when the patience does, with a code of its own."""
    pgqueue_client.enqueue("mail")
    late = run("job", 1, "--wait", "50ms")
    assert (late.code, "did not finish within 0.05 s" in late.err) == (8, True)
    pgqueue_client.ack(pgqueue_client.claim())
    assert run("job", 1, "--wait", "50ms", "--json").json["state"] == JobState.SUCCEEDED


def test_escape_sequences_in_data_are_shown_not_obeyed(run: Run, pgqueue_dsn: str) -> None:
    """Whoever enqueues cannot steer the terminal of whoever looks."""
    run("enqueue", "mail", '"\\u001b[2Jgone"', "--ref", "\x1b]0;title\x07")
    with psycopg.connect(pgqueue_dsn) as conn:
        conn.execute("update pgqueue.job set worker = %s", ("\x9b31m",))
    for args in (("jobs",), ("job", 1), ("job", 1, "--json"), ("jobs", "--json")):
        assert not {"\x1b", "\x07", "\x9b"} & set(run(*args).out)
