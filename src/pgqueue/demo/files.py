"""The files that the demo reads."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path

from pgqueue.demo.handlers import handlers
from pgqueue.errors import ConfigurationError
from pgqueue.models import NewJob

_OTHERS = {"site-packages", "dist-packages", "__pycache__"}


def standard_library() -> Path:
    """The folder of the running interpreter's standard library."""
    return Path(sysconfig.get_path("stdlib"))


def python_files(root: Path) -> list[Path]:
    """All Python files below `root` that belong to it, in order.

    Raises:
        ConfigurationError: there are none.
    """
    found = sorted(
        path
        for path in root.rglob("*.py")
        if not _OTHERS.intersection(path.relative_to(root).parts) and path.is_file()
    )
    if not found:
        raise ConfigurationError(
            f"there are no Python files below {root}; name another folder with --path"
        )
    return found


def jobs(root: Path, files: list[Path]) -> Iterator[NewJob]:
    """One job for each file; the file's name is its dedupe key."""
    parse = handlers["parse"]
    for file in files:
        name = file.relative_to(root).as_posix()
        yield parse.new({"path": str(file)}, dedupe_key=name, ref=name)
