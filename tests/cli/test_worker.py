"""`worker`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgqueue import Client, JobState

from .conftest import Run

MODULE = """
import pgqueue

handlers = pgqueue.Handlers()
empty = pgqueue.Handlers()
number = 7


class holder:
    inner = handlers


@handlers.register("mail")
def send(job):
    return {"sent": job.payload}


@handlers.register("bad")
def fail(job):
    raise ValueError("no luck")
"""


@pytest.fixture(autouse=True)
def _app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module with handlers in the current folder, forgotten afterwards."""
    (tmp_path / "app_jobs.py").write_text(MODULE)
    (tmp_path / "app_broken.py").write_text("import nonexistent_module\n")
    (tmp_path / "app_exits.py").write_text("raise SystemExit('not today')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in ("app_jobs", "app_broken", "app_exits"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("where", ["app_jobs", "app_jobs:handlers", "app_jobs:holder.inner"])
def test_drain_runs_what_is_ready(run: Run, pgqueue_client: Client, where: str) -> None:
    """Handlers are found in the current folder, under their name or the usual one."""
    pgqueue_client.enqueue("mail", 1)
    done = run("worker", where, "--drain")
    assert done.code == 0
    assert done.err == "pgqueue: serving default; kinds bad, mail\n"
    assert pgqueue_client.get(1).result == {"sent": 1}


def test_only_the_queues_named_are_served(run: Run, pgqueue_client: Client) -> None:
    """With weights or without."""
    for queue in ("a", "b", "c"):
        pgqueue_client.enqueue("mail", queue=queue)
    done = run("worker", "app_jobs", "-q", "a=3", "-q", "b", "--drain")
    assert "serving a=3, b;" in done.err
    states = {job.queue: job.state for job in pgqueue_client.list()}
    assert states == {"a": JobState.SUCCEEDED, "b": JobState.SUCCEEDED, "c": JobState.READY}


def test_options_reach_the_worker(run: Run, pgqueue_client: Client) -> None:
    """The name, for one, is seen on the job."""
    pgqueue_client.enqueue("mail")
    done = run(
        "worker", "app_jobs", "--drain", "--name", "here", "--concurrency", 2, "--lease", "5s",
        "--prefetch", 0, "--poll-interval", "100ms", "--shutdown-timeout", "1s", "--processes", 1,
        "--watchdog", "1m",
    )  # fmt: skip
    assert done.code == 0
    assert str(pgqueue_client.get(1).worker).startswith("here:")


@pytest.mark.parametrize(
    "args,why",
    [
        (("nonexistent_module",), "cannot import 'nonexistent_module': ModuleNotFoundError"),
        (("app_broken",), "app_broken.py, line 1"),
        (("app_exits",), "cannot import 'app_exits': SystemExit: not today"),
        (("app_jobs.py",), "is a file, not a module; write app_jobs:handlers"),
        (("./app/jobs:mine",), "write app.jobs:mine"),
        (("app_jobs:missing",), "has no pgqueue.Handlers named 'missing'"),
        (("app_jobs:number",), "has no pgqueue.Handlers named 'number'"),
        (("app_jobs:empty",), "there are no handlers"),
        ((":handlers",), "cannot import ''"),
        (("app_jobs", "--lease", "0s"), "more than zero"),
        (("app_jobs", "--concurrency", "0"), "x>=1"),
        (("app_jobs", "-q", "a=x"), "has no weight"),
        (("app_jobs", "-q", "a=0"), "weight"),
        (("app_jobs", "-q", "no such queue"), "is no name"),
        ((), "missing argument"),
    ],
)
def test_worker_that_cannot_be_is_one_line_and_exit_2(
    run: Run, args: tuple[str, ...], why: str
) -> None:
    """Whether the module, its handlers or an option is wrong."""
    done = run("worker", *args, "--drain")
    assert done.code == 2
    assert why in done.err


def test_worker_without_a_schema_does_not_start(run: Run) -> None:
    """It says what to do instead."""
    done = run("worker", "app_jobs", "--drain", "--schema", "missing")
    assert done.code == 4


def test_uvloop_runs_it_if_asked(run: Run, pgqueue_client: Client) -> None:
    """The jobs are run as ever."""
    pytest.importorskip("uvloop", reason="the extra `uvloop` is not installed")
    pgqueue_client.enqueue("mail", 1)
    assert run("worker", "app_jobs", "--drain", "--uvloop").code == 0
    assert pgqueue_client.get(1).state is JobState.SUCCEEDED


def test_uvloop_that_is_missing_is_named_with_its_extra(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything begins."""
    monkeypatch.setitem(sys.modules, "uvloop", None)
    done = run("worker", "app_jobs", "--drain", "--uvloop")
    assert done.code == 2
    assert "extra `uvloop`" in done.err
