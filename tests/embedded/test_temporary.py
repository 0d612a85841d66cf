"""Throw-away servers."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from pgqueue import embedded
from pgqueue.errors import EmbeddedServerError


def show(server: embedded.Server, name: str) -> object:
    """The value of one of the server's settings."""
    with psycopg.connect(server.dsn) as connection:
        row = connection.execute(f"show {name}".encode()).fetchone()
        return row and row[0]


def test_temporary_server_is_private_and_gone_afterwards(
    wait_for_end: Callable[[int], None],
) -> None:
    """Two of them share nothing, and each leaves nothing behind."""
    with embedded.temporary() as one, embedded.temporary(settings={"fsync": "on"}) as two:
        assert one.data != two.data
        assert (show(one, "fsync"), show(two, "fsync")) == ("off", "on")
    for server in (one, two):
        wait_for_end(server.pid)
        assert not server.data.exists()


def test_failed_start_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """The folder is deleted also when its server never ran."""
    monkeypatch.setattr(embedded._server, "SHORT", place)
    monkeypatch.setattr("tempfile.tempdir", str(place))
    with (
        pytest.raises(EmbeddedServerError, match="work_mem"),
        embedded.temporary(settings={"work_mem": "much"}),
    ):
        pass
    assert not list(place.glob("pgqueue-*"))


def test_killed_process_leaves_nothing_behind(
    python: Callable[..., subprocess.Popen[str]],
) -> None:
    """The files go although the process that made them had no chance to clean up."""
    script = """
with embedded.temporary() as server:
    print(server.pid, server.data, flush=True)
    sys.stdin.read()
"""
    process = python(script)
    assert process.stdout
    pid, data = process.stdout.readline().split()
    process.kill()
    process.communicate(timeout=10)
    deadline = time.monotonic() + 10
    while Path(data).exists():
        assert time.monotonic() < deadline, f"{data} is still there"
        time.sleep(0.02)
    # It would end by itself, but only within a minute.
    os.kill(int(pid), signal.SIGQUIT)
