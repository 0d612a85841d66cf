"""The command as a process of its own: signals, pipes, terminals."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pgqueue import Client, JobState

Start = Callable[..., "subprocess.Popen[str]"]
ON_TERMINAL = {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40"}


@pytest.fixture
def environment(pgqueue_dsn: str) -> dict[str, str]:
    """This process's, with the test's database in it."""
    inherited = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    return {**inherited, "PGQUEUE_DSN": pgqueue_dsn}


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Start:
    """Start `python -m pgqueue` in a folder of its own."""

    def run(*args: str, **settings: object) -> subprocess.Popen[str]:
        given: dict[str, object] = {
            "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL,
            "text": True, "env": environment, "cwd": tmp_path, **settings,
        }  # fmt: skip
        return subprocess.Popen([sys.executable, "-m", "pgqueue", *args], **given)  # type: ignore[call-overload,no-any-return]

    return run


@pytest.fixture
def on_terminal(environment: dict[str, str]) -> Callable[..., tuple[int, str]]:
    """Run `python -m pgqueue` on a terminal of 80 columns, typing `typed`."""

    def run(*args: str, typed: str = "") -> tuple[int, str]:
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "pgqueue", *args], stdin=theirs, stdout=theirs, stderr=theirs,
            env={**environment, **ON_TERMINAL},
        )  # fmt: skip
        os.close(theirs)
        os.write(ours, typed.encode())
        shown = b""
        while chunk := _read(ours):
            shown += chunk
        os.close(ours)
        return process.wait(timeout=20), shown.decode()

    return run


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux's end of a terminal
        return b""


def test_installed_command_and_module_are_the_same(start: Start) -> None:
    """`pgqueue` stands beside Python's own programs; `python -m pgqueue` is it."""
    out, err = start("--version").communicate(timeout=20)
    assert err == ""
    script = Path(sys.executable).with_name("pgqueue")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == out


def test_exit_code_reaches_the_shell(start: Start) -> None:
    """With one line on stderr and nothing on stdout."""
    process = start("job", "99")
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (6, "")
    assert err.startswith("pgqueue: there is no job 99")
    assert len(err.splitlines()) == 1


def test_jobs_go_through_a_pipe(start: Start, pgqueue_client: Client) -> None:
    """Enqueue from standard input, list as JSON lines."""
    process = start("enqueue", "mail", "-", stdin=subprocess.PIPE)
    process.communicate('{"to": "ä"}', timeout=20)
    out, _ = start("jobs", "--json").communicate(timeout=20)
    assert json.loads(out)["kind"] == "mail"
    assert pgqueue_client.get(1).payload == {"to": "ä"}


def test_closed_pipe_ends_the_command_quietly(start: Start, pgqueue_client: Client) -> None:
    """As with `pgqueue jobs | head -1`."""
    pgqueue_client.enqueue_many([("mail", None)] * 2000)
    process = start("jobs", "--json", "--limit", "2000")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=20) == 141


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_stream_is_an_empty_one(
    environment: dict[str, str], pgqueue_client: Client, closed: str
) -> None:
    """The command does its work all the same."""
    script = f'exec "$0" -m pgqueue enqueue mail --json {closed}'
    done = subprocess.run(
        ["/bin/sh", "-c", script, sys.executable],
        env=environment, capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert [job.kind for job in pgqueue_client.list()] == ["mail"]


def test_closed_standard_input_has_no_payload(environment: dict[str, str]) -> None:
    """As an empty one has none."""
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -m pgqueue enqueue mail - <&-', sys.executable],
        env=environment, capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    assert (done.returncode, "is not JSON" in done.stderr) == (2, True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("command", ["stats", "jobs --json"])
def test_full_disk_is_one_line(start: Start, pgqueue_client: Client, command: str) -> None:
    """And an exit code of its own; Python adds nothing at its end."""
    pgqueue_client.enqueue("mail")
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        process = start(*command.split(), stdout=full)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 74
    assert err == "pgqueue: cannot write: No space left on device\n"


def test_output_that_the_encoding_lacks_is_no_error(
    start: Start, environment: dict[str, str], pgqueue_client: Client
) -> None:
    """What it is depends on who prints it: an escape, or UTF-8 all the same."""
    pgqueue_client.enqueue("mail", "ä", ref="ü")
    ascii_only = {**environment, "PYTHONIOENCODING": "ascii"}
    for args in (["job", "1", "--json"], ["job", "1"], ["jobs"]):
        process = start(*args, env=ascii_only)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, err) == (0, "")
        assert any(shown in out for shown in ("\\u00fc", "\\xfc", "ü"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_worker_ends_in_order_on_a_signal(
    start: Start, pgqueue_client: Client, tmp_path: Path, number: signal.Signals
) -> None:
    """The job that runs is finished first, and the exit code is 0."""
    (tmp_path / "app_jobs.py").write_text(
        "import sys, time, pgqueue\n"
        "handlers = pgqueue.Handlers()\n"
        "@handlers.register('slow')\n"
        "def slow(job):\n"
        "    print('begun', flush=True)\n"
        "    time.sleep(0.5)\n"
    )
    pgqueue_client.enqueue("slow")
    process = start("worker", "app_jobs:handlers")
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Traceback" not in err
    assert pgqueue_client.get(1).state is JobState.SUCCEEDED


def test_worker_may_have_processes(start: Start, pgqueue_client: Client, tmp_path: Path) -> None:
    """Each of them runs jobs until none is ready."""
    (tmp_path / "app_jobs.py").write_text(
        "import pgqueue\n"
        "handlers = pgqueue.Handlers()\n"
        "handlers.register('quick')(lambda job: None)\n"
    )
    pgqueue_client.enqueue_many([("quick", None)] * 50)
    process = start("worker", "app_jobs", "--processes", "2", "--drain")
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert {job.state for job in pgqueue_client.list()} == {JobState.SUCCEEDED}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_upkeep_ends_in_order_on_a_signal(start: Start, number: signal.Signals) -> None:
    """As a service should."""
    process = start("maintain", "--every", "10s", "-v")
    assert process.stderr is not None
    assert "upkeep every 10s" in process.stderr.readline()
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_purge_asks_on_a_terminal(
    on_terminal: Callable[..., tuple[int, str]], pgqueue_client: Client
) -> None:
    """No is the default, and yes does it."""
    pgqueue_client.enqueue("mail")
    code, shown = on_terminal("purge", "default", typed="\n")
    assert (code, "Delete 1 waiting job of queue 'default' for good? [y/N]" in shown) == (1, True)
    assert "nothing was done" in shown
    code, shown = on_terminal("purge", "default", typed="\x04")
    assert (code, "\r\npgqueue: nothing was done" in shown) == (1, True)
    code, shown = on_terminal("purge", "default", typed="y\n")
    assert (code, "1 job deleted" in shown) == (0, True)


def test_table_fits_a_terminal_and_is_coloured(
    on_terminal: Callable[..., tuple[int, str]], pgqueue_client: Client
) -> None:
    """Long names are cut, states stand out, no line is wider than 80 columns."""
    pgqueue_client.enqueue("a.kind.of.job." * 5, queue="a-queue-" * 8, tags=["tag"] * 20)
    for _ in range(2):
        pgqueue_client.enqueue("mail", max_attempts=1)
    pgqueue_client.fail(pgqueue_client.claim())
    code, shown = on_terminal("jobs", "-n", "3")
    assert code == 0
    assert "\x1b[" in shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown).replace("\r", "")
    assert max(map(len, plain.splitlines())) <= 80
    assert "…" in plain
    code, shown = on_terminal("stats")
    assert re.search(r"\x1b\[1;31m *1\x1b\[0m", shown)


def test_demo_has_a_bar_on_a_terminal(
    on_terminal: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """With what is done."""
    (tmp_path / "one.py").write_text("")
    code, shown = on_terminal("demo", "--path", str(tmp_path))
    assert code == 0
    assert "━" in shown
    assert "1/1" in shown


def test_completion_knows_the_commands(start: Start, environment: dict[str, str]) -> None:
    """What the shell asks is answered."""
    asked = {"_PGQUEUE_COMPLETE": "bash_complete", "COMP_WORDS": "pgqueue re", "COMP_CWORD": "1"}
    out, _ = start(env={**environment, **asked}).communicate(timeout=20)
    assert sorted(out.split()) == ["plain,redrive", "plain,resume", "plain,retry"]
    source, _ = start(env={**environment, "_PGQUEUE_COMPLETE": "bash_source"}).communicate(
        timeout=20
    )
    assert "_pgqueue_completion" in source
