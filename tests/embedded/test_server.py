"""A server's life: start, reuse, crash, stop."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from pgqueue import embedded
from pgqueue.embedded import _server
from pgqueue.embedded._account import Account
from pgqueue.embedded._folder import Folder
from pgqueue.errors import EmbeddedServerError

FAST = {"fsync": "off"}
Python = Callable[..., "subprocess.Popen[str]"]
WaitForEnd = Callable[[int], None]


def ask(server: embedded.Server | str, query: str) -> object:
    """The one value that `query` gives."""
    dsn = server if isinstance(server, str) else server.dsn
    with psycopg.connect(dsn, connect_timeout=10) as connection:
        row = connection.execute(query.encode()).fetchone()
        return row[0] if row else None


def do(server: embedded.Server, command: str) -> None:
    """Run and commit a command that gives no rows."""
    with psycopg.connect(server.dsn, connect_timeout=10) as connection:
        connection.execute(command.encode())


def setting(server: embedded.Server | str, name: str) -> object:
    """The value of one of the server's settings."""
    return ask(server, f"show {name}")


def test_new_server_is_utf8_checksummed_and_off_the_network(server: embedded.Server) -> None:
    """A new cluster has checksums, UTF-8 and the C locale, and listens on no address."""
    assert setting(server, "data_checksums") == "on"
    assert setting(server, "server_encoding") == "UTF8"
    assert ask(server, "select datcollate from pg_database where datname = 'postgres'") == "C"
    assert setting(server, "listen_addresses") == ""
    assert ask(server, "select current_user") == "postgres"
    assert str(setting(server, "server_version")).startswith(f"{server.version}.")


def test_dsn_is_complete_whatever_the_environment_says(
    server: embedded.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables meant for another server do not lead away from this one."""
    for name, value in {"PGPORT": "1", "PGUSER": "x", "PGDATABASE": "x", "PGHOST": "x"}.items():
        monkeypatch.setenv(name, value)
    assert ask(server, "select 1") == 1


def test_running_server_is_reused(server: embedded.Server) -> None:
    """A second start finds the first one's server."""
    assert embedded.start(server.data) == server
    assert embedded.dsn(str(server.data)) == server.dsn
    assert embedded.status(server.data) == server


def test_processes_that_start_at_once_get_one_server(place: Path, python: Python) -> None:
    """Of many processes that call `start` together one makes the server and all get it."""
    script = "print(embedded.start(Path(sys.argv[1]), settings={'fsync': 'off'}).pid)"
    processes = [python(script, place / "data") for _ in range(6)]
    pids = {process.communicate(timeout=25)[0] for process in processes}
    found = embedded.status(place / "data")
    assert found
    assert pids == {f"{found.pid}\n"}


def test_server_outlives_its_starter_and_holds_none_of_its_files(
    place: Path, python: Python
) -> None:
    """The starter's output closes when it ends, and the server is in no session of its."""
    starter = python("embedded.start(Path(sys.argv[1])); print(os.getsid(0))", place / "data")
    told, _ = starter.communicate(timeout=25)
    found = embedded.status(place / "data")
    assert found
    assert os.getsid(found.pid) != int(told)
    assert ask(found, "select 1") == 1


def test_interrupt_of_the_starters_terminal_does_not_reach_the_server(
    place: Path, python: Python
) -> None:
    """Ctrl-C signals the starter's process group; the server is not in it."""
    script = "print(embedded.start(Path(sys.argv[1])).pid, flush=True); sys.stdin.read()"
    starter = python(f"try:\n  {script}\nexcept KeyboardInterrupt: pass", place / "data")
    assert starter.stdout
    pid = int(starter.stdout.readline())
    os.killpg(starter.pid, signal.SIGINT)
    starter.communicate(timeout=10)
    found = embedded.status(place / "data")
    assert found
    assert found.pid == pid


def test_data_is_kept_between_runs(server: embedded.Server) -> None:
    """What was committed before a stop is there after the next start."""
    do(server, "create table kept as select 7 as n")
    assert embedded.stop(server.data) is True
    again = embedded.start(server.data, settings=FAST)
    assert again.pid != server.pid
    assert ask(again, "select n from kept") == 7


def test_killed_server_starts_again_with_its_data(
    server: embedded.Server, wait_for_end: WaitForEnd
) -> None:
    """SIGKILL leaves a pid file and sessions that are still ending; the next start copes."""
    do(server, "create table kept as select 7 as n")
    with psycopg.connect(server.dsn), psycopg.connect(server.dsn):
        os.kill(server.pid, signal.SIGKILL)
        wait_for_end(server.pid)
        assert (server.data / "cluster" / "postmaster.pid").exists()
        assert embedded.status(server.data) is None
        again = embedded.start(server.data, settings=FAST)
    assert ask(again, "select n from kept") == 7


@pytest.fixture
def named_in_pid_file(
    server: embedded.Server,
) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Stop the server, and name in its pid file a new process that is called as the caller says."""
    embedded.stop(server.data)
    account = Account.owning(server.data / "cluster")
    with contextlib.ExitStack() as processes:

        def run(name: str) -> subprocess.Popen[bytes]:
            program = server.data / name
            shutil.copy("/bin/sleep", program)
            program.chmod(0o755)
            user = account.uid if account.is_other else None
            process = processes.enter_context(subprocess.Popen([program, "60"], user=user))
            processes.callback(process.kill)
            pid_file = server.data / "cluster" / "postmaster.pid"
            pid_file.write_text(f"{process.pid}\n{pid_file.parent}\n1\n5432\n\n\n  1  1\nready\n")
            pid_file.chmod(0o644)
            return process

        yield run


def test_zombie_of_a_killed_server_is_no_server(
    server: embedded.Server, named_in_pid_file: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    """In a container whose first process reaps nothing, a killed server starts again."""
    zombie = named_in_pid_file("postgres")
    zombie.kill()
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    assert ask(embedded.start(server.data), "select 1") == 1


def test_number_that_another_program_has_now_is_no_server(
    server: embedded.Server, named_in_pid_file: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    """After a restart of the machine any process may have the number in the pid file."""
    named_in_pid_file("cat")
    assert ask(embedded.start(server.data), "select 1") == 1


def test_number_that_another_postgres_has_now_is_explained(
    server: embedded.Server,
    named_in_pid_file: Callable[[str], subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What may be a server of this data is left to Postgres, and the error says what to check."""
    other = named_in_pid_file("postgres")
    monkeypatch.setattr(_server, "LEFTOVERS_TIMEOUT", 0.0)
    with pytest.raises(EmbeddedServerError, match=f"PID {other.pid}.*(?s:.*)delete .*pid"):
        embedded.start(server.data)


def test_fresh_throws_the_data_away(server: embedded.Server) -> None:
    """`fresh` replaces even a server that is running, and leaves other files alone."""
    do(server, "create table gone (n int)")
    (server.data / "notes.txt").touch()
    again = embedded.dsn(server.data, fresh=True)
    assert ask(again, "select to_regclass('gone') is null") is True
    assert (server.data / "notes.txt").exists()


def test_stop_ends_sessions_and_says_whether_a_server_ran(
    server: embedded.Server, wait_for_end: WaitForEnd
) -> None:
    """The first stop does not wait for sessions to end by themselves; the second finds nothing."""
    with psycopg.connect(server.dsn):
        assert embedded.stop(server.data) is True
    wait_for_end(server.pid)
    assert embedded.status(server.data) is None
    assert embedded.stop(server.data) is False


def test_looking_at_a_folder_makes_nothing(place: Path) -> None:
    """`status` and `stop` leave a folder that does not exist as it is."""
    assert embedded.status(place / "data") is None
    assert embedded.stop(place / "data") is False
    assert not (place / "data").exists()


def test_default_folder_is_in_the_home(place: Path) -> None:
    """Without `data` everything is below PGQUEUE_HOME."""
    dsn = embedded.dsn()
    found = embedded.status()
    assert found
    assert found.dsn == dsn
    assert found.data == place / "data"


def test_settings_hold_for_one_start(server: embedded.Server) -> None:
    """A setting is Postgres's to understand, and unknown to the next start without it."""
    embedded.stop(server.data)
    awkward = {"work_mem": "7MB", "pgqueue.note": 'it\'s \\ "here"\nand there', **FAST}
    with_settings = embedded.start(server.data, settings=awkward)
    assert setting(with_settings, "work_mem") == "7MB"
    assert setting(with_settings, "pgqueue.note") == awkward["pgqueue.note"]
    embedded.stop(server.data)
    assert setting(embedded.start(server.data), "work_mem") == "4MB"


@pytest.mark.parametrize("name", ["port", "LISTEN_ADDRESSES", "a = 1\nb", ""])
def test_settings_that_are_not_the_callers_are_refused(place: Path, name: str) -> None:
    """The address is pgqueue's own to decide, and a name cannot smuggle in a line."""
    with pytest.raises(EmbeddedServerError, match="cannot set"):
        embedded.start(place / "data", settings={name: "1"})


def test_refused_start_shows_what_postgres_said(server: embedded.Server) -> None:
    """Of a setting that Postgres does not take the error has Postgres's own words."""
    embedded.stop(server.data)
    with pytest.raises(EmbeddedServerError, match='invalid value for parameter "work_mem"'):
        embedded.start(server.data, settings={"work_mem": "much"})


def test_failed_start_shows_the_end_of_the_log(server: embedded.Server) -> None:
    """What goes wrong after the log file is open is in the error, too."""
    embedded.stop(server.data)
    for segment in (server.data / "cluster" / "pg_wal").glob("0*"):
        segment.unlink()
    with pytest.raises(EmbeddedServerError, match=r"checkpoint record(?s:.*)fresh=True"):
        embedded.start(server.data)


def test_data_of_another_version_is_refused_until_fresh(server: embedded.Server) -> None:
    """The error names both versions and the ways on; `fresh` is one of them."""
    embedded.stop(server.data)
    (server.data / "cluster" / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedServerError, match=rf"made by Postgres 9.*{server.version}.*fresh"):
        embedded.start(server.data)
    assert embedded.start(server.data, fresh=True, settings=FAST).version == server.version


def test_half_made_cluster_is_made_again(place: Path) -> None:
    """An init that was killed leaves a draft, which the next start replaces."""
    folder = Folder.of(place / "data")
    folder.make()
    draft = folder.path / "cluster.new-1"
    draft.mkdir()
    (draft / "PG_VERSION").touch()
    assert ask(embedded.start(folder.path, settings=FAST), "select 1") == 1
    assert not draft.exists()


def test_failed_init_shows_its_output_and_leaves_no_cluster(
    place: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `initdb` printed is in the error, and nothing passes for a cluster."""
    fake = place / "bin"
    fake.mkdir()
    fake.chmod(0o755)
    initdb = """#!/bin/sh
    [ "$1" = --version ] && echo "initdb (PostgreSQL) 18.6" && exit
    echo half > "$2/half"; echo the disk is full; exit 1
    """
    (fake / "initdb").write_text(initdb)
    (fake / "initdb").chmod(0o755)
    monkeypatch.setenv("PGQUEUE_PG_BIN", str(fake))
    with pytest.raises(EmbeddedServerError, match="the disk is full"):
        embedded.start(place / "data")
    monkeypatch.setenv("PGQUEUE_PG_BIN", str(programs))
    assert ask(embedded.start(place / "data", settings=FAST), "select 1") == 1
    assert sorted(path.name for path in (place / "data").glob("cluster*")) == ["cluster"]


def test_log_is_a_file_of_its_own_for_each_weekday(server: embedded.Server) -> None:
    """The log's size has a bound: a day's file is emptied a week later."""
    assert setting(server, "log_truncate_on_rotation") == "on"
    assert list((server.data / "log").glob("postgres-???.log"))


def test_stuck_stop_is_an_error(server: embedded.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not end in time is reported, not forgotten."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        monkeypatch.setattr(_server, "STOP_TIMEOUT", 1.0)
        with pytest.raises(EmbeddedServerError, match="did not stop"):
            embedded.stop(server.data)
    finally:
        os.kill(server.pid, signal.SIGCONT)


def test_hung_program_is_an_error(place: Path) -> None:
    """Every program that is run has a deadline."""
    with pytest.raises(EmbeddedServerError, match=r"sleep took longer than 0\.1 s"):
        Account.default().run(Path("/bin/sleep"), ["60"], cwd=place, timeout=0.1)
