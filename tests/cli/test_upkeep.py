"""`maintain`."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from pgqueue import Client, DatabaseUnavailable, Maintenance

from .conftest import Run


def test_one_round_promotes_what_is_due(run: Run, pgqueue_client: Client) -> None:
    """And says when the next job is."""
    pgqueue_client.enqueue("mail", delay=timedelta(hours=3))
    done = run("maintain")
    assert done.code == 0
    assert done.out.startswith("promoted 0 jobs, ended 0 expired claims; the next is due in ")


def test_round_in_json(run: Run) -> None:
    """The keys of `Maintenance`."""
    assert run("maintain", "--json").json == {"promoted": 0, "reaped": 0, "next_run_at": None}


def test_rounds_go_on_until_a_signal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM ends them in order; an outage does not; a round without work is silent."""
    rounds: list[Callable[[], Maintenance]] = [
        lambda: Maintenance(2, 1, None),
        lambda: Maintenance(0, 0, None),
        lambda: _raise(DatabaseUnavailable("the server is gone")),
    ]

    def maintain(_: Client) -> Maintenance:
        if not rounds:
            os.kill(os.getpid(), signal.SIGTERM)
            return Maintenance(0, 0, None)
        return rounds.pop(0)()

    monkeypatch.setattr(Client, "maintain", maintain)
    before = signal.getsignal(signal.SIGTERM)
    done = run("maintain", "--every", "1ms")
    assert (done.code, done.out) == (0, "promoted 2 jobs, ended 1 expired claim\n")
    assert done.err.splitlines() == [
        "pgqueue: upkeep every 0.001s",
        "pgqueue: the server is gone; trying again",
    ]
    assert signal.getsignal(signal.SIGTERM) is before
    assert threading.current_thread() is threading.main_thread()


def _raise(error: Exception) -> Maintenance:
    raise error


def test_rounds_do_not_begin_on_a_missing_schema(run: Run) -> None:
    """Rather an error than a service that does nothing."""
    assert run("maintain", "--every", "1s", "--schema", "missing").code == 4
