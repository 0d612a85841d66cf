"""`doctor`."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta

import pytest

from pgqueue import Client
from pgqueue.cli import doctor
from pgqueue.doctor import Finding, Level
from pgqueue.testing import travel

from .conftest import Run

FOUND = [
    Finding("schema", Level.OK, "it is at version 1"),
    Finding("horizon", Level.WARNING, "pid 7 holds a \x1b[31msnapshot", "end it  -- soon"),
    Finding("upkeep", Level.CRITICAL, "nobody does it " * 8, "run a worker"),
]


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """What the examination gives; a test may change it."""
    findings = list(FOUND)

    async def examined(*_: object, **__: object) -> list[Finding]:
        return findings

    monkeypatch.setattr(doctor, "aexamine", examined)
    return findings


def test_worst_comes_first_with_its_advice_below(run: Run, found: list[Finding]) -> None:
    """In a pipe each is on one line, whatever its length; nothing steers a terminal."""
    assert found
    done = run("doctor")
    assert done.code == 1
    assert done.out.splitlines() == [
        f"critical  upkeep   {'nobody does it ' * 8}".rstrip(),
        "                   -> run a worker",
        r"warning   horizon  pid 7 holds a \x1b[31msnapshot",
        "                   -> end it -- soon",
        "1 critical, 1 warning; 1 check well",
    ]


def test_what_is_well_is_shown_on_request(run: Run, found: list[Finding]) -> None:
    """Then the exit code is 0, as with a notice."""
    del found[1:]
    assert run("doctor").out == "all 1 checks are well\n"
    found.append(Finding("role", Level.NOTICE, "it is a superuser"))
    done = run("doctor", "--all")
    assert done.code == 0
    assert done.out.splitlines() == [
        "notice    role    it is a superuser",
        "ok        schema  it is at version 1",
        "1 notice; 1 check well",
    ]


def test_doctor_in_json_has_all_findings(run: Run, pgqueue_client: Client) -> None:
    """One a line, with the advice; the exit code is the same."""
    pgqueue_client.enqueue("a")
    travel(pgqueue_client, timedelta(hours=1))
    done = run("doctor", "--json", "--interval", "10ms")
    assert done.code == 1
    assert all(set(line) == {"check", "level", "seen", "advice"} for line in done.lines)
    found = {line["check"]: line for line in done.lines}
    assert found["waiting"]["level"] == "critical"
    assert found["trend"]["level"] == "ok"
    assert found["schema"]["level"] == "ok"


def test_doctor_of_a_missing_schema(run: Run) -> None:
    """It says so, and looks at the rest."""
    done = run("doctor", "--schema", "other")
    assert done.code == 1
    assert "pgqueue is not installed in schema 'other'" in done.out
    assert "-> pgqueue migrate --schema other" in done.out


def test_doctor_without_a_server(run: Run, no_server: str) -> None:
    """The exit code of an unavailable database, and one line."""
    done = run("--dsn", no_server, "doctor")
    assert done.code == 3
    assert "cannot be reached" in done.err
    assert "hush-hush" not in done.err


@pytest.fixture
def on_terminal(pgqueue_dsn: str) -> Callable[[int], str]:
    """Runs `pgqueue doctor` on a terminal of so many columns, without colours."""

    def shown(columns: int, **environment: str) -> str:
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "pgqueue", "doctor"], stdout=theirs, stderr=theirs,
            env={**os.environ, "PGQUEUE_DSN": pgqueue_dsn, "TERM": "xterm-256color",
                 "COLUMNS": str(columns), "LINES": "40", **environment},
        )  # fmt: skip
        os.close(theirs)
        told = b""
        try:
            while chunk := os.read(ours, 65536):
                told += chunk
        except OSError:
            pass  # the other end is closed
        os.close(ours)
        assert process.wait(timeout=20) == 1
        return told.decode()

    return shown


def test_doctor_on_a_terminal_is_wrapped(
    on_terminal: Callable[..., str], pgqueue_client: Client
) -> None:
    """Each line fits, and what goes on stands below what began; levels are coloured."""
    pgqueue_client.enqueue("a", queue="somewhere-far-away")
    travel(pgqueue_client, timedelta(hours=1))
    plain = on_terminal(80, NO_COLOR="1", TERM="dumb")
    lines = plain.replace("\r", "").splitlines()
    assert max(map(len, lines)) <= 80
    first = next(i for i, line in enumerate(lines) if line.startswith("critical  waiting"))
    indent = " " * lines[first].index("1 job")
    assert lines[first + 1].startswith(indent)
    assert lines[first + 1].strip()
    assert "\x1b[" in on_terminal(120)
