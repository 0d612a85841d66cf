"""Folders: whose they are, how long their names may be, and their lock."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import psycopg
import pytest

from pgqueue import embedded
from pgqueue.embedded import _folder
from pgqueue.embedded._folder import Folder
from pgqueue.errors import EmbeddedServerError

FAST = {"fsync": "off"}


def test_only_the_servers_user_can_enter_socket_and_data(server: embedded.Server) -> None:
    """Nobody else reaches the socket, which asks for no password."""
    folder = Folder.of(server.data)
    assert server.socket_dir == folder.socket
    for path in (folder.socket, folder.cluster, folder.log):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert path.stat().st_uid == folder.cluster.stat().st_uid


def test_long_path_gets_its_socket_in_a_short_one(place: Path) -> None:
    """A socket's path has about 100 bytes; a folder deeper than that has its socket elsewhere."""
    data = place / ("long " * 20) / "$HOME 'and' \"quotes\""
    server = embedded.start(data, settings=FAST)
    try:
        assert server.data == data
        assert server.socket_dir.parent == _folder.SHORT
        assert stat.S_IMODE(server.socket_dir.stat().st_mode) == 0o700
        with psycopg.connect(server.dsn) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
    finally:
        embedded.stop(data)
        server.socket_dir.rmdir()


def test_socket_folder_put_there_by_another_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder that all can write to, a symlink under our name is not followed."""
    monkeypatch.setattr(_folder, "SHORT", place)
    folder = Folder.of(place / ("x" * 100))
    (place / "elsewhere").mkdir()
    folder.socket.symlink_to(place / "elsewhere")
    with pytest.raises(EmbeddedServerError, match="must be a folder of user"):
        embedded.start(folder.path, settings=FAST)
    folder.socket.unlink()


def test_folder_that_others_can_write_to_is_refused(place: Path) -> None:
    """Whoever can write to the folder could put another socket in the place of ours."""
    data = place / "data"
    data.mkdir()
    data.chmod(0o777)
    with pytest.raises(EmbeddedServerError, match="nobody else can write"):
        embedded.start(data)


def test_data_directory_of_another_server_is_refused(place: Path) -> None:
    """A folder that is a cluster itself belongs to a server that pgqueue did not make."""
    data = place / "data"
    data.mkdir()
    (data / "PG_VERSION").write_text("15\n")
    with pytest.raises(EmbeddedServerError, match="data directory of another Postgres"):
        embedded.start(data)


def test_folder_that_cannot_be_made_is_refused(place: Path) -> None:
    """An error of the file system comes with the way on."""
    (place / "file").touch()
    with pytest.raises(EmbeddedServerError, match=r"cannot make .*; choose another place"):
        embedded.start(place / "file" / "data")
    assert embedded.status(place / "file" / "data") is None


def test_home_is_the_variable_then_the_usual_place(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PGQUEUE_HOME wins over XDG_DATA_HOME, and that over the home folder; root has its own."""
    assert _folder.home() == place
    monkeypatch.delenv("PGQUEUE_HOME")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", str(place / "xdg"))
    assert _folder._usual_home() == place / "xdg" / "pgqueue"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(place / "home"))
    assert _folder._usual_home() == place / "home" / ".local" / "share" / "pgqueue"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert _folder._usual_home() == Path("/var/lib/pgqueue")


def test_home_falls_back_to_var_tmp(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home folder, or with one that cannot be written, still has a place."""
    (place / "file").touch()
    monkeypatch.delenv("PGQUEUE_HOME")
    monkeypatch.setattr(_folder, "_usual_home", lambda: place / "file" / "pgqueue")
    monkeypatch.setattr(_folder, "FALLBACK", place)
    assert _folder.home() == place / f"pgqueue-{os.geteuid()}"


def test_lock_has_a_deadline(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for another process too long is told which file it holds."""
    folder = Folder.of(place / "data")
    folder.make()
    monkeypatch.setattr(_folder, "LOCK_TIMEOUT", 0.0)
    with (
        folder.locked(),
        pytest.raises(EmbeddedServerError, match="starting or stopping"),
        folder.locked(),
    ):
        pass
