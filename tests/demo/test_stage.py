"""The embedded server is left as it was found."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pgqueue import embedded
from pgqueue.demo.stage import stage

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder for the embedded server."""
    # Not tmp_path: root's is closed to the server's user.
    path = Path(tempfile.mkdtemp(prefix="pgqueue-test-", dir="/tmp"))
    if os.geteuid() == 0:
        path.chmod(0o711)
    monkeypatch.setenv("PGQUEUE_HOME", str(path))
    yield path
    embedded.stop()
    shutil.rmtree(path)


@pytest.mark.usefixtures("home")
def test_server_that_was_started_is_stopped_and_one_that_ran_runs_on() -> None:
    """Unless somebody else uses it meanwhile, or it has ended by itself."""
    with stage(embedded.dsn, "one") as place:
        assert place.server == embedded.status()
    assert embedded.status() is None

    with stage(embedded.dsn, "one"):
        someone_else = psycopg.connect(embedded.dsn())
    assert embedded.status() is not None
    someone_else.close()

    with stage(embedded.dsn, "one"):
        pass
    assert embedded.status() is not None

    embedded.stop()
    with stage(embedded.dsn, "one"):
        embedded.stop()
    assert embedded.status() is None


def test_other_servers_are_none_of_its_business(pgqueue_dsn: str) -> None:
    """With a DSN, the server stays as it is."""
    with stage(lambda: pgqueue_dsn, "one") as place:
        assert place.server is None
    with psycopg.connect(pgqueue_dsn) as conn:
        assert conn.execute("select 1").fetchone() == (1,)
