"""The terminals in docs/guide-deploy.md show what is printed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner
from psycopg.conninfo import make_conninfo

from pgqueue import Client, NewJob, embedded
from pgqueue.cli.app import app
from pgqueue.doctor import Limits, examination
from pgqueue.testing import travel

PAGE = Path(__file__).parents[2] / "docs" / "guide-deploy.md"
_VARIES = re.compile(
    r"<1ms|\b\d+(?:\.\d+)?[smhd]\b|(?<=pid )\d+|(?<=backend\()\d+|[\d,]+ transactions? ago|"
    r"[\d,]+(?= of 17 conn)|\d+(?= of 3 workers)|\d+(?= functions)|[\d,]+(?= old, of)|\d+ kB"
)


def normal(text: str) -> str:
    """What is printed, apart from times, numbers of processes, sizes, and where lines end."""
    return " ".join(_VARIES.sub("#", text).split())


def shown(command: str) -> str:
    """What the page shows below a command."""
    text = PAGE.read_text("utf-8")
    (found,) = re.findall(rf"^```console\n\$ {command}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return str(found)


def matches(page: str, printed: str) -> bool:
    """Whether they are the same."""
    return normal(page) == normal(printed)


@pytest.fixture
def worker(own_server: embedded.Server) -> Iterator[Client]:
    """A client of the schema `pgqueue`, as the role jobs, with all that it should have."""
    with psycopg.connect(own_server.dsn, autocommit=True) as conn, Client(own_server.dsn) as owner:
        conn.execute("drop schema if exists pgqueue cascade")
        owner.migrate()
        conn.execute("create role jobs login; grant pg_monitor to jobs")
        conn.execute("select pgqueue.grant_access('jobs', 'worker')")
        try:
            with Client(make_conninfo(own_server.dsn, user="jobs")) as client:
                yield client
        finally:
            conn.execute("drop owned by jobs; drop role jobs; drop schema pgqueue cascade")


@pytest.fixture
def run(worker: Client) -> Callable[[str], str]:
    """Runs a command line on that database."""

    def printed(command: str) -> str:
        _, *arguments = command.split()
        return CliRunner().invoke(app, ["--dsn", worker.dsn, *arguments]).stdout

    return printed


def test_healthy_terminal(run: Callable[[str], str], worker: Client) -> None:
    """A worker is there, and one job has been done."""
    worker.enqueue("mail.send")
    worker.maintain()
    worker.ack(worker.claim())
    worker._run(worker.statements.sleep(["default"], "w", timedelta(hours=1), ["mail.send"]))
    printed = run("pgqueue doctor --all")
    assert matches(shown("pgqueue doctor --all"), printed), printed


def test_unhealthy_terminal(
    run: Callable[[str], str],
    worker: Client,
    own_server: embedded.Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A report that was forgotten, no upkeep, a kind that nobody runs, and more."""
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 7200)  # as the database travels
    monkeypatch.setattr(examination, "Limits", lambda: Limits(snapshot=timedelta(milliseconds=1)))
    worker.enqueue_many([NewJob("report.build", queue="reports")] * 38)
    worker.claim("reports", limit=2, worker="web-1:2210")
    worker.enqueue("invoice.send", queue="mail", delay=timedelta(minutes=50))
    with psycopg.connect(own_server.dsn, autocommit=True) as conn:
        conn.execute("alter role jobs set synchronous_commit = off")
        travel(own_server.dsn, timedelta(hours=2), any_database=True)
        worker.enqueue_many([NewJob("mail.send", queue="mail", max_attempts=1)] * 17)
        worker.fail(worker.claim("mail", limit=17))
        conn.execute("create table if not exists orders ()")
        with psycopg.connect(own_server.dsn, application_name="psql") as holder:
            holder.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            holder.execute("select count(*) from orders")
            worker.close()
            printed = run("pgqueue doctor")
        conn.execute("drop table orders")
    assert matches(shown("pgqueue doctor"), printed), printed
