"""`server`, and the embedded server where no DSN is given."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pgqueue import embedded

from .conftest import invoke


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder for embedded servers; the default one is there."""
    # Not tmp_path: root's is closed to the server's user.
    path = Path(tempfile.mkdtemp(prefix="pgqueue-test-", dir="/tmp"))
    if os.geteuid() == 0:
        path.chmod(0o711)
    monkeypatch.setenv("PGQUEUE_HOME", str(path))
    yield path
    embedded.stop()
    shutil.rmtree(path)


@pytest.mark.timeout(60)
def test_server_s_life(home: Path) -> None:
    """Not running, started, found, used without a DSN, emptied, stopped."""
    assert invoke("server", "status").code == 1
    assert invoke("server", "status", "--json").json == {"running": False}
    dsn = invoke("server", "dsn").out.strip()
    with psycopg.connect(dsn) as conn:
        assert conn.info.host == str(home / "data" / "socket")
    found = invoke("server", "status")
    assert (found.code, "is running" in found.out, dsn in found.out) == (0, True, True)
    facts = invoke("server", "start", "--json").json
    assert list(facts) == ["running", "pid", "version", "data", "dsn"]
    assert (facts["running"], facts["data"]) == (True, str(home / "data"))

    missing = invoke("jobs")
    assert (missing.code, str(home) in missing.err) == (4, True)
    assert invoke("migrate").code == 0
    assert invoke("enqueue", "mail").out == "job 1\n"

    asked = invoke("server", "start", "--fresh")
    assert (asked.code, "pass --yes" in asked.err) == (2, True)
    assert invoke("server", "start", "--fresh", "--yes").code == 0
    assert invoke("jobs").code == 4

    assert invoke("server", "stop").out == "stopped\n"
    again = invoke("server", "stop", "--json")
    assert (again.code, again.json) == (1, {"stopped": False})


def test_server_that_cannot_start_is_exit_3(home: Path, request: pytest.FixtureRequest) -> None:
    """The folder is somebody else's, say; the line says what to do."""
    (home / "data").mkdir()
    (home / "data").chmod(0o777)
    request.addfinalizer(lambda: (home / "data").chmod(0o711))
    for args in (("server", "start"), ("server", "dsn"), ("jobs",)):
        done = invoke(*args)
        assert done.code == 3
        assert "nobody else can write to" in done.err


def test_server_lies_where_it_is_told(home: Path) -> None:
    """The option --data names another folder."""
    assert invoke("server", "status", "--data", home / "other").code == 1
    assert invoke("server", "stop", "--data", home / "other").code == 1
