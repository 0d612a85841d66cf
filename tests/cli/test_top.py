"""`top`: what it shows, and how it ends."""

from __future__ import annotations

import os
import pty
import select
import sys
import time

import pytest

from pgqueue import Client

from .conftest import Run


@pytest.fixture
def client(pgqueue_client: Client) -> Client:
    """With a queue of each sort, and a dead job."""
    pgqueue_client.enqueue("mail.send", queue="mail", max_attempts=1)
    (job,) = pgqueue_client.claim("mail")
    pgqueue_client.fail(job, "no route")
    pgqueue_client.enqueue_many([("mail.send", None)] * 3, queue="mail")
    pgqueue_client.pause("mail", reason="moving")
    return pgqueue_client


def test_queues_workers_and_deaths_are_shown(run: Run, client: Client) -> None:
    """Without a terminal, once."""
    shown = run("top").out
    (dead,) = client.list(state="dead")
    assert "3 ready  0 running  1 dead  0 workers" in shown
    assert "mail paused" in shown
    assert "no worker says that it lives" in shown
    assert f"pgqueue why {dead.id}" in shown


def test_pause_of_everything_stands_at_the_top(run: Run, client: Client) -> None:
    """With its reason."""
    client.operations.pause(reason="the provider is down")
    assert "ALL IS PAUSED since now, until it is resumed: the provider is down" in run("top").out


def test_json_is_one_object_a_look(run: Run, client: Client) -> None:
    """With the keys of the Python API."""
    seen = run("top", "--once", "--json").json
    assert seen["queues"][0]["ready"] == 3
    assert [job["kind"] for job in seen["dead"]] == ["mail.send"]
    assert client.stats()[0].ready == 3


def test_minutes_are_drawn_where_there_is_room(run: Run, client: Client) -> None:
    """A bar for the minute in which a job ended, and its times."""
    statement = (
        "insert into pgqueue.minute (minute, queue, succeeded, waits, ready) select "
        "date_trunc('minute', now()) - interval '1 min', 'mail', 120, '{0,0,120}', 3"
    )
    with client.driver.connection() as conn:
        conn.execute(statement.encode())
    wide = run("top", env={"COLUMNS": "130"}).out
    assert "█" in wide
    assert " 2.0 " in wide
    assert "█" not in run("top", env={"COLUMNS": "80"}).out


def test_q_ends_it_and_gives_the_terminal_back(pgqueue_dsn: str, client: Client) -> None:
    """On a terminal it fills the screen, look after look, until a key is pressed."""
    assert client.stats()
    child, terminal = pty.fork()
    if child == 0:  # pragma: no cover - another process
        command = [sys.executable, "-m", "pgqueue", "--dsn", pgqueue_dsn, "top", "--every", "50ms"]
        os.execve(sys.executable, command, {**os.environ, "TERM": "xterm", "COLUMNS": "120"})  # noqa: S606
    seen, deadline, pressed = b"", time.monotonic() + 30, False
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                seen += os.read(terminal, 65536)
            except OSError:  # the other end is closed
                break
        if seen.count(b"LATEST DEAD") > 2 and not pressed:
            os.write(terminal, b"q")
            pressed = True
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert (pressed, status) == (True, 0)
    assert seen.rstrip().endswith((b"\x1b[?25h", b"\x1b[?1049l"))
