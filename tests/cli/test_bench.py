"""`bench`, as far as the command line goes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from rich.console import Console

from pgqueue.bench import Plan, command, report

from .conftest import invoke

Asked = list[tuple[object, ...]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What is asked of a benchmark that measures nothing."""
    calls: Asked = []

    def bench(dsn: str, plan: object, *, plot_path: Path | None, console: Console) -> None:
        console.print("a table")
        calls.append((dsn, plan, plot_path))

    monkeypatch.setattr(command, "bench", bench)
    monkeypatch.setattr(report, "as_json", lambda _: '{"figures": 1}\n')
    return calls


def test_options_reach_the_benchmark(no_server: str, asked: Asked, tmp_path: Path) -> None:
    """How much is measured, where, and what is drawn."""
    plot = tmp_path / "plot.svg"
    amount = ("--scale", "0.5", "--rounds", "1", "--clients", "4")
    done = invoke("--dsn", no_server, "bench", *amount, "--plot", plot)
    assert (done.code, done.out) == (0, "a table\n")
    assert asked == [(no_server, Plan(scale=0.5, rounds=1, clients=4), plot)]


def test_bench_in_json_keeps_stdout_clean(no_server: str, asked: Asked) -> None:
    """The table goes to stderr then."""
    done = invoke("--dsn", no_server, "bench", "--json")
    assert done.json == {"figures": 1}
    assert done.err == "a table\n"
    assert asked == [(no_server, Plan(), None)]


def test_bench_takes_no_database_from_the_environment(no_server: str, asked: Asked) -> None:
    """It could be a busy one."""
    assert invoke("bench", env={"PGQUEUE_DSN": no_server}).code == 0
    assert [dsn for dsn, *_ in asked] == [None]


@pytest.mark.parametrize(
    "args,why",
    [
        (("--scale", "0"), "x>0"),
        (("--rounds", "0"), "x>=1"),
        (("--plot", "figures.txt"), "must end in .svg or .png"),
        (("--plot", "/nonexistent/figures.svg"), "cannot write into /nonexistent"),
        (("--dsn", "nonsense"), "cannot be parsed"),
    ],
)
def test_bench_that_cannot_be_is_exit_2(args: tuple[str, ...], why: str) -> None:
    """Before anything is measured."""
    done = invoke("bench", *args)
    assert (done.code, why in done.err) == (2, True)


def test_picture_needs_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the extra."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = invoke("bench", "--plot", "figures.svg")
    assert (done.code, "extra `bench`" in done.err) == (2, True)
