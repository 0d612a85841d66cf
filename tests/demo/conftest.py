"""Small trees of files, and a screen that remembers."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import define, field

from pgqueue.demo.audit import Counts

FILES = 60
BROKEN = 2


@define
class Recorder:
    """A screen that nobody looks at until the end."""

    said: list[str] = field(factory=list)
    seen: list[Counts] = field(factory=list)
    total: int | None = None
    ended: bool = False

    def say(self, text: str) -> None:
        """See `Screen`."""
        self.said.append(text)

    def begin(self, total: int) -> None:
        """See `Screen`."""
        self.total = total

    def progress(self, counts: Counts) -> None:
        """See `Screen`."""
        self.seen.append(counts)

    def end(self) -> None:
        """See `Screen`."""
        self.ended = True


@pytest.fixture
def screen() -> Recorder:
    """A screen that remembers."""
    return Recorder()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files that take about a second or two to read, two of which are no Python."""
    root = tmp_path / "tree"
    (root / "package").mkdir(parents=True)
    (root / "site-packages").mkdir()
    (root / "site-packages" / "other.py").write_text("def not_ours(): pass\n")
    function = "def f():\n    return [x + 1 for x in range(10) if x % 2]\n\n\n"
    for number in range(FILES - BROKEN):
        (root / "package" / f"m{number:02}.py").write_text(function * (600 + 10 * number))
    for number in range(BROKEN):
        (root / f"broken{number}.py").write_text(f"print 'number {number}'\n")
    return root


@pytest.fixture
def wait_for_end() -> Callable[[int], None]:
    """Wait until the process with a given number has ended."""

    def wait(pid: int) -> None:
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            assert select.select([process], [], [], 20)[0], f"process {pid} is still there"
        finally:
            os.close(process)

    return wait
