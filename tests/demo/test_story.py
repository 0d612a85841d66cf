"""The demo as a whole, on a small tree."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from pgqueue import Client, ConfigurationError
from pgqueue.demo import Demo, crew, files, story
from pgqueue.demo.audit import Auditor
from pgqueue.demo.stage import MARK

from .conftest import BROKEN, FILES, Recorder

Start = Callable[..., "subprocess.Popen[str]"]
pytestmark = pytest.mark.timeout(90)  # two interpreters are started, and a lease runs out


@pytest.fixture
def start(pgqueue_dsn: str, tree: Path) -> Iterator[Start]:
    """Start `pgqueue demo` on the small tree, and kill it if the test has not ended it."""
    started: list[subprocess.Popen[str]] = []

    def run(*args: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "pgqueue", "demo", "--path", str(tree), *args],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PGQUEUE_DSN": pgqueue_dsn, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def workers(process: subprocess.Popen[str]) -> list[int]:
    """The processes that the demo says it has started."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("worker-1"):
            return [int(pid) for pid in re.findall(r"process (\d+)", line)]
    raise AssertionError("no workers were started")


def test_killed_worker_loses_nothing(
    pgqueue_dsn: str, tree: Path, screen: Recorder, wait_for_end: Callable[[int], None]
) -> None:
    """One of two workers is killed; every job is done all the same, and no process is left."""
    audit = Demo(lambda: pgqueue_dsn, screen, tree).run()
    assert audit.passed
    assert (audit.enqueued, audit.dead) == (FILES, BROKEN)
    assert audit.succeeded == FILES - BROKEN
    assert audit.recovery is not None
    assert audit.recovery.jobs >= 1
    assert audit.expired >= audit.recovery.jobs
    (failure,) = audit.failures
    assert (failure.error, failure.jobs) == ("SyntaxError", BROKEN)
    assert screen.ended
    assert screen.total == FILES
    assert screen.seen[-1].done == FILES
    told = "\n".join(screen.said)
    assert f"{FILES} jobs enqueued" in told
    assert f"0 added, {FILES} known by their dedupe keys" in told
    assert "killed with SIGKILL" in told
    pids = [int(pid) for pid in re.findall(r"process (\d+)", told)]
    assert len(pids) == 3
    for pid in pids:
        wait_for_end(pid)


def test_demo_can_be_played_again_and_leaves_other_schemas_alone(
    pgqueue_dsn: str, tmp_path: Path, screen: Recorder
) -> None:
    """Each run starts from an empty schema; a tree of one file leaves no time to kill anybody."""
    (tmp_path / "one.py").write_text("x = 1\n")
    with Client(pgqueue_dsn) as client:
        client.enqueue("mine")
        for _ in range(2):
            audit = Demo(lambda: pgqueue_dsn, screen, tmp_path).run()
            assert (audit.passed, audit.enqueued, audit.recovery) == (True, 1, None)
        assert len(client.list()) == 1


def test_schema_that_is_not_the_demo_s_is_not_touched(
    pgqueue_dsn: str, tree: Path, screen: Recorder
) -> None:
    """It could have anybody's tables in it."""
    with pytest.raises(ConfigurationError, match="is not the demo's"):
        Demo(lambda: pgqueue_dsn, screen, tree, "pgqueue").run()
    with Client(pgqueue_dsn) as client:
        assert client.schema_state().current


def test_two_demos_do_not_share_a_schema(pgqueue_dsn: str, tree: Path, screen: Recorder) -> None:
    """The second would drop what the first works on."""
    with psycopg.connect(pgqueue_dsn, autocommit=True) as conn:
        conn.execute("select pg_advisory_lock(hashtextextended('pgqueue demo pgqueue_demo', 0))")
        with pytest.raises(ConfigurationError, match="another demo plays"):
            Demo(lambda: pgqueue_dsn, screen, tree).run()


def test_folder_without_python_files_is_refused(tmp_path: Path, screen: Recorder) -> None:
    """Before any server is started."""
    with pytest.raises(ConfigurationError, match="no Python files"):
        Demo(lambda: pytest.fail("not asked for"), screen, tmp_path).run()


def test_nobody_is_killed_who_holds_nothing(
    pgqueue_dsn: str, tree: Path, screen: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There would be nothing to recover."""
    monkeypatch.setattr(Auditor, "held", lambda *_: 0)
    audit = Demo(lambda: pgqueue_dsn, screen, tree).run()
    assert (audit.passed, audit.recovery) == (True, None)


def test_standard_library_is_the_tree_by_default() -> None:
    """That of this interpreter."""
    assert (files.standard_library() / "ast.py").is_file()


def test_worker_that_fails_ends_the_demo(
    pgqueue_dsn: str, tree: Path, screen: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the last line that it wrote."""
    monkeypatch.setattr(crew, "LEASE", "soon")
    with pytest.raises(crew.WorkerFailed, match=r"worker-. ended with 2: .*'soon' is no duration"):
        Demo(lambda: pgqueue_dsn, screen, tree).run()
    assert screen.ended


def test_workers_that_do_nothing_end_the_demo(
    pgqueue_dsn: str, tree: Path, screen: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not wait for ever."""
    monkeypatch.setattr(crew, "QUEUE", "other")
    monkeypatch.setattr(story, "PATIENCE_SECONDS", 0.2)
    with pytest.raises(story.DemoStuck, match="with 0 of 60 done"):
        Demo(lambda: pgqueue_dsn, screen, tree).run()


def test_worker_that_will_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while."""
    monkeypatch.setattr(crew, "STOP_SECONDS", 0.05)
    with crew.Crew("", "x") as stubborn:
        member = stubborn.hire()
        member.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, member.pid, os.WSTOPPED | os.WNOWAIT)
    assert member.process.returncode == -signal.SIGKILL
    assert stubborn.members == []


@pytest.mark.parametrize(
    "number,code", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_interrupted_demo_leaves_no_process(
    start: Start, wait_for_end: Callable[[int], None], number: signal.Signals, code: int
) -> None:
    """Ctrl-C, a polite end, or a closed terminal."""
    process = start()
    pids = workers(process)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, "Traceback" in err) == (code, False)
    for pid in pids:
        wait_for_end(pid)


def test_killed_demo_leaves_no_process(start: Start, wait_for_end: Callable[[int], None]) -> None:
    """Its workers notice that it is gone."""
    process = start()
    pids = workers(process)
    process.kill()
    process.communicate(timeout=30)
    for pid in pids:
        wait_for_end(pid)


def test_schema_says_whose_it_is(pgqueue_dsn: str, tmp_path: Path, screen: Recorder) -> None:
    """In its comment."""
    (tmp_path / "one.py").write_text("")
    Demo(lambda: pgqueue_dsn, screen, tmp_path, "other_demo").run()
    with psycopg.connect(pgqueue_dsn) as conn:
        row = conn.execute("select obj_description('other_demo'::regnamespace)").fetchone()
    assert row == (MARK,)
