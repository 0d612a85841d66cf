"""Runs the command line in this process, on a database of the test's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Protocol

import attrs
import psycopg
import pytest
from click.testing import CliRunner

from pgqueue.cli.app import app

GREETINGS = (
    "pgqueue: serving ",
    "pgqueue: upkeep every ",
    "pgqueue: firing schedules",
    "pgqueue: serving metrics",
    "pgqueue: watching every ",
)


@attrs.frozen
class Ran:
    """What a run of the command line left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on stdout."""
        (line,) = self.lines
        assert isinstance(line, dict)
        return line

    @property
    def lines(self) -> list[Any]:
        """The JSON objects on stdout, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


class Run(Protocol):
    """Runs `pgqueue` with arguments."""

    def __call__(
        self, *args: object, stdin: str | bytes | None = None, env: dict[str, str] | None = None
    ) -> Ran:
        """Run it and check that no traceback was shown."""


def invoke(
    *args: object, stdin: str | bytes | None = None, env: dict[str, str] | None = None
) -> Ran:
    """Run `pgqueue` without any database being named, and check that no traceback was shown."""
    done = CliRunner().invoke(app, [str(arg) for arg in args], input=stdin, env=env)
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert "Traceback" not in done.stderr
    told = [line for line in done.stderr.splitlines() if not line.startswith(GREETINGS)]
    assert len(told) <= 1
    return Ran(done.exit_code, done.stdout, done.stderr)


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable leads to another database."""
    for name in (
        "PGQUEUE_DSN",
        "PGQUEUE_DEBUG",
        "PGHOST",
        "PGDATABASE",
        "PGSERVICE",
        "FORCE_COLOR",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(pgqueue_dsn: str) -> Run:
    """Run `pgqueue --dsn ...` with arguments."""

    def on_database(
        *args: object, stdin: str | bytes | None = None, env: dict[str, str] | None = None
    ) -> Ran:
        return invoke("--dsn", pgqueue_dsn, *args, stdin=stdin, env=env)

    return on_database


@pytest.fixture
def no_server() -> str:
    """A DSN where no server is, with a password in it."""
    return "postgresql://someone:hush-hush@/nowhere?host=/nonexistent"


@pytest.fixture
def role(pgqueue_dsn: str) -> Iterator[str]:
    """A role that may log in and nothing else."""
    name = f"pgqueue_cli_{psycopg.conninfo.conninfo_to_dict(pgqueue_dsn)['dbname']}"
    with psycopg.connect(pgqueue_dsn, autocommit=True) as conn:
        conn.execute(f"create role {name} login".encode())
        yield name
        conn.execute(f"drop owned by {name}".encode())
        conn.execute(f"drop role {name}".encode())
