"""What the audience sees."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from pgqueue.demo import screen
from pgqueue.demo.audit import Counts


def test_terminal_has_a_bar_with_numbers() -> None:
    """Done, rate, retried, dead, on one line of 80 columns."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, color_system=None)
    shown = screen.Terminal(console)
    shown.say("[before]")
    shown.begin(1000)
    shown.progress(Counts(succeeded=997, dead=3, retried=5))
    shown.end()
    text = out.getvalue()
    assert "[before]" in text
    assert "1,000/1,000 0 jobs/s 5 retried 3 dead 0:00:00" in text
    assert max(len(line) for line in text.splitlines() if "━" in line) <= 90


def test_pipe_gets_a_line_now_and_then_and_at_the_end() -> None:
    """The first, none soon after it, and the last."""
    out = io.StringIO()
    shown = screen.Plain(Console(file=out))
    shown.begin(10)
    for done in (0, 5, 10):
        shown.progress(Counts(done, 0, 0))
    shown.end()
    assert [line.split()[0] for line in out.getvalue().splitlines()] == ["0/10", "10/10"]


def test_nothing_is_shown_where_only_the_audit_is_wanted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """For --json."""
    shown = screen.Silent()
    shown.say("x")
    shown.begin(1)
    shown.progress(Counts(1, 0, 0))
    shown.end()
    assert capsys.readouterr() == ("", "")


def test_rate_is_that_of_the_last_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was long ago does not count."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    rate = screen.Rate()
    assert rate.update(0) == 0
    now = 101.0
    assert rate.update(500) == 500
    now = 104.0
    assert rate.update(500) == 0
