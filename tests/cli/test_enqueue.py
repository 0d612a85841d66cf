"""`enqueue`."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from pgqueue import Client, JobState

from .conftest import Run


def test_job_has_every_option(run: Run, pgqueue_client: Client) -> None:
    """Each option arrives where the library would put it."""
    done = run(
        "enqueue", "mail", '{"to": "ä@b.c"}', "--queue", "out", "--priority", 2, "--delay", "5m",
        "--max-attempts", 3, "--retry", "10s", "--dedupe-key", "k", "--dedupe-until", "start",
        "--tag", "a", "--tag", "b", "--metadata", '{"trace": 1}', "--ref", "user:7",
    )  # fmt: skip
    assert (done.code, done.out) == (0, "job 1\n")
    job = pgqueue_client.get(1)
    assert (job.kind, job.payload, job.queue, job.priority) == ("mail", {"to": "ä@b.c"}, "out", 2)
    assert job.run_at - job.enqueued_at == timedelta(minutes=5)
    assert (job.max_attempts, job.dedupe_key, job.ref) == (3, "k", "user:7")
    assert (job.tags, job.metadata) == (["a", "b"], {"trace": 1})


def test_retry_policy_is_stored_with_the_job(run: Run, pgqueue_client: Client) -> None:
    """The next attempt is due when the policy says."""
    run("enqueue", "mail", "--retry", "1h,2h")
    pgqueue_client.fail(pgqueue_client.claim())
    job = pgqueue_client.get(1)
    assert timedelta(minutes=44) < job.run_at - job.enqueued_at < timedelta(minutes=61)


def test_run_at_is_a_moment(run: Run, pgqueue_client: Client) -> None:
    """With its offset."""
    run("enqueue", "mail", "--run-at", "2040-01-01T02:00:00+02:00")
    assert pgqueue_client.get(1).run_at == datetime(2040, 1, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize("stdin", ['{"a": 1}', '{"a": 1}\n'])
def test_payload_comes_from_standard_input(run: Run, pgqueue_client: Client, stdin: str) -> None:
    """With or without a line end."""
    assert run("enqueue", "mail", "-", stdin=stdin).code == 0
    assert pgqueue_client.get(1).payload == {"a": 1}


def test_payload_comes_from_a_file(run: Run, pgqueue_client: Client, tmp_path: Path) -> None:
    """As with curl: @FILE."""
    (tmp_path / "payload.json").write_text("[1, 2]")
    run("enqueue", "mail", f"@{tmp_path}/payload.json")
    assert pgqueue_client.get(1).payload == [1, 2]


def test_no_payload_is_an_empty_object_and_null_is_too(run: Run, pgqueue_client: Client) -> None:
    """As with the client."""
    run("enqueue", "mail")
    run("enqueue", "mail", "null")
    assert pgqueue_client.get(1).payload == pgqueue_client.get(2).payload == {}


def test_duplicate_is_told(run: Run) -> None:
    """The holder's id is given, in words and in JSON; neither is an error."""
    assert run("enqueue", "mail", "--dedupe-key", "k", "--json").json == {
        "id": 1, "duplicate": False,
    }  # fmt: skip
    again = run("enqueue", "mail", "--dedupe-key", "k")
    assert (again.code, again.out) == (0, "job 1 holds the dedupe key 'k'; no job was added\n")
    assert run("enqueue", "mail", "--dedupe-key", "k", "--json").json == {
        "id": 1, "duplicate": True,
    }  # fmt: skip


def test_conflict_may_replace_or_raise(run: Run, pgqueue_client: Client) -> None:
    """Replace changes the payload, raise exits with its own code."""
    run("enqueue", "mail", "1", "--dedupe-key", "k")
    replaced = run("enqueue", "mail", "2", "--dedupe-key", "k", "--on-conflict", "replace")
    assert "has the new payload" in replaced.out
    assert pgqueue_client.get(1).payload == 2
    raised = run("enqueue", "mail", "3", "--dedupe-key", "k", "--on-conflict", "raise")
    assert raised.code == 7
    assert "job 1 holds the dedupe key" in raised.err


def test_lines_become_jobs_in_one_transaction(run: Run, pgqueue_client: Client) -> None:
    """One payload a line, blank lines apart, with the options of all."""
    done = run("enqueue", "mail", "-", "--lines", "-q", "out", "--json", stdin='1\n\n{"a": "é"}\n')
    assert done.json == {"enqueued": 2, "first_id": 1, "last_id": 2}
    assert [pgqueue_client.get(i).payload for i in (1, 2)] == [1, {"a": "é"}]
    assert {job.queue for job in pgqueue_client.list()} == {"out"}


def test_only_newlines_end_a_line(run: Run, pgqueue_client: Client) -> None:
    """Other separators of Unicode may stand in a JSON string, and files may be from Windows."""
    run("enqueue", "mail", "-", "--lines", stdin='"a\u2028b\x85c"\r\n2\r\n')
    assert [job.payload for job in pgqueue_client.claim(limit=9)] == ["a\u2028b\x85c", 2]


@pytest.mark.parametrize(
    "line,why",
    [
        ("{2", "line 2 is not JSON: Expecting property name enclosed in double quotes at column 2"),
        ("NaN", "line 2: payload is not JSON: Out of range float values"),
        ('"\\u0000"', "line 2: payload has a NUL character"),
        ("[" * 100_000, "line 2 is nested too deeply"),
    ],
    ids=["broken", "nan", "nul", "deep"],
)
def test_one_bad_line_stores_nothing(run: Run, pgqueue_client: Client, line: str, why: str) -> None:
    """The message names the line."""
    done = run("enqueue", "mail", "-", "--lines", stdin=f"1\n{line}\n")
    assert done.code == 2
    assert why in done.err
    assert pgqueue_client.list() == []


def test_no_lines_are_no_jobs(run: Run) -> None:
    """An empty file is not an error."""
    assert run("enqueue", "mail", "-", "--lines", "--json", stdin="").json == {
        "enqueued": 0, "first_id": None, "last_id": None,
    }  # fmt: skip
    assert run("enqueue", "mail", "-", "--lines", stdin="1").out == "1 job enqueued\n"


@pytest.mark.parametrize(
    "args,why",
    [
        (("mail", "{to: 1}"), "not JSON"),
        (("mail", "NaN"), "not JSON"),
        (("mail", "@/nonexistent"), "cannot read /nonexistent"),
        (("no such kind",), "is no name"),
        (("mail", "--queue", ""), "is no name"),
        (("mail", "--priority", "10"), "from 0 to 9"),
        (("mail", "--priority", "high"), "not a valid integer"),
        (("mail", "--delay", "5"), "is no duration"),
        (("mail", "--run-at", "2030-01-01"), "no offset"),
        (("mail", "--run-at", "0001-01-01T00:00Z"), "run_at is out of range; pass"),
        (("mail", "--delay", "3000000d"), "run_at is out of range; pass"),
        (("mail", "--delay", "5m", "--run-at", "2030-01-01T00:00Z"), "pass one"),
        (("mail", "--max-attempts", "0"), "max_attempts is 0"),
        (("mail", "--retry", "often"), "is no backoff"),
        (("mail", "--metadata", "[]"), "not a JSON object"),
        (("mail", "--dedupe-until", "never"), "is not one of"),
        (("mail", '"\\u0000"'), "NUL"),
        (("mail", f'"{"x" * 300_000}"'), "over the limit"),
        (("mail", "--lines"), "--lines needs a PAYLOAD"),
        (("mail", "1", "--lines", "--dedupe-key", "k"), "one key, one job"),
        ((), "missing argument"),
    ],
)
def test_what_cannot_be_stored_is_one_line_and_exit_2(
    run: Run, pgqueue_client: Client, args: tuple[str, ...], why: str
) -> None:
    """Every wrong argument says what is wrong with it."""
    done = run("enqueue", *args)
    assert done.code == 2
    assert done.err.startswith("pgqueue: ")
    assert why in done.err
    assert pgqueue_client.list() == []


def test_scheduled_job_waits(run: Run, pgqueue_client: Client) -> None:
    """A delay leads to the state scheduled."""
    run("enqueue", "mail", "--delay", "1h")
    assert pgqueue_client.get(1).state is JobState.SCHEDULED
