"""Whoever is called at night can paste from the playbook."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgqueue import Client
from pgqueue.cli.app import app
from pgqueue.embedded._account import Account
from pgqueue.embedded._binaries import find

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
_BLOCK = re.compile(
    r"^ *(?:<!-- sql -->\n)?```(console|sql)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL
)
_COMMAND = re.compile(r"^ *\$ (.*)$", re.MULTILINE)
JOBS = """
import pgqueue
handlers = pgqueue.Handlers()
@handlers.register("email.send")
def send(job): return None
"""


@pytest.fixture
def shell(pgqueue_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Runs a line of the page; the test's database is `app`, and `restored` one of its own."""
    programs = find(Account.default()).folder
    if not (programs / "pg_dump").exists():
        pytest.skip(f"there is no pg_dump in {programs}")
    here = conninfo_to_dict(pgqueue_dsn)
    names = {"dbname": "PGDATABASE", "host": "PGHOST", "port": "PGPORT", "user": "PGUSER"}
    for name, variable in names.items():
        if here.get(name) is not None:
            monkeypatch.setenv(variable, str(here[name]))
    for name in ("PGQUEUE_DSN", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "jobs.py").write_text(JOBS)
    restored = f"{here['dbname']}_restored"

    def execute(line: str) -> tuple[int, str]:
        words = [re.sub(r"\brestored$", restored, word) for word in shlex.split(line)]
        if words[0] == "pgqueue":
            done = CliRunner().invoke(app, words[1:])
            return done.exit_code, done.output
        out = subprocess.run(
            [programs / words[0], *words[1:]],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=30,
        )
        return out.returncode, out.stdout

    yield execute
    sys.modules.pop("jobs", None)
    with psycopg.connect(pgqueue_dsn, autocommit=True) as conn:
        conn.execute(f'drop database if exists "{restored}"'.encode())


@pytest.fixture
def night(pgqueue_client: Client) -> Client:
    """What there is to be found: dead jobs, done ones, waiting ones, and old ones."""
    client = pgqueue_client
    for error in (ConnectionError("refused"), None):
        client.enqueue("email.send", queue="mail", max_attempts=1)
        (job,) = client.claim("mail")
        client.ack(job) if error is None else client.fail(job, error)
    client.enqueue_many([("email.send", {"version": 1})] * 5, queue="mail")
    client.enqueue_many([("newsletter", None)] * 3, queue="mail")
    with client.driver.connection() as conn:
        conn.execute(
            "update pgqueue.job set enqueued_at = now() - interval '2 h' where kind = 'newsletter'"
        )
    return client


def test_every_command_works(shell: Callable[[str], tuple[int, str]], night: Client) -> None:
    """In the page's order: each has an answer, and those that act have acted."""
    text = PAGE.read_text("utf-8")
    said: dict[str, str] = {}
    for language, block in _BLOCK.findall(text):
        if language == "sql":
            with night.driver.connection() as conn:
                assert conn.execute(block.encode()).fetchone()
            continue
        for line in _COMMAND.findall(block):
            code, said[line] = shell(line)
            # 1 is an answer: something ails, or nothing fits any more.
            assert code in (0, 1), (line, code, said[line])
            assert "Traceback" not in said[line]
    assert len(said) > 30

    def of(beginning: str) -> str:
        return next(text for line, text in said.items() if line.startswith(beginning))

    assert "8 ready" in of("pgqueue top")
    assert "no_worker" in of("pgqueue why -q mail")
    assert "3" in of("pgqueue cancel -q mail --kind newsletter --enqueued-before 1h --dry-run")
    assert night.get(3).state == "succeeded"
    assert night.get(5).state == "cancelled"
    assert "ConnectionError" in of("pgqueue job 1")
    assert night.get(1).state == "ready"
    assert "reason kills workers" in of("pgqueue audit")


def test_restored_jobs_wait_for_somebody_to_decide(
    shell: Callable[[str], tuple[int, str]], night: Client
) -> None:
    """Nothing of a restored database runs by itself: that is how acked jobs do not run again."""
    chapter = PAGE.read_text("utf-8").partition("## Backup and restore")[2].partition("\n## ")[0]
    lines = [
        line
        for language, block in _BLOCK.findall(chapter)
        if language == "console"
        for line in _COMMAND.findall(block)
    ]
    assert shell(lines.pop(0))[0] == 0  # the dump
    after = night.claim("mail", limit=2)
    night.ack(after)
    for line in lines[:3]:
        code, said = shell(line)
        assert code == 0, said
    dsn = make_conninfo(night.dsn, dbname=f"{conninfo_to_dict(night.dsn)['dbname']}_restored")
    with Client(dsn) as restored:
        assert restored.get(after[0].id).state == "ready"  # the dump is the past
        assert restored.claim("mail", limit=99) == []
        restored.cancel([job.id for job in after], "ran already, after the dump")
        for line in lines[3:]:
            assert shell(line)[0] in (0, 1)
        left = {job.id for job in restored.claim("mail", limit=99)}
        assert left.isdisjoint(job.id for job in after)
    assert Path("waiting.jsonl").exists()
