"""The tallies of several processes of one worker, in a folder: each writes its own, any reads all.

A counter must not fall when a process dies: what it had counted is added up in one more file.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pgqueue.metrics.tallies import Tallies

ENDED = "ended.json"
FRESH_SECONDS = 10.0
"""A process that has written nothing for so long is dead or stopped: its gauges do not count."""


class Folder:
    """Where they are. The worker's parent makes it, and removes it at the end."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="pgqueue-metrics-"))

    def remove(self) -> None:
        """Removes it with all that is in it."""
        for file in self.path.iterdir():
            file.unlink(missing_ok=True)
        self.path.rmdir()

    def begin(self) -> None:
        """Called by each process at its start: adds up what dead ones left behind."""
        with self._locked(fcntl.LOCK_EX):
            ended = Tallies()
            gone = [file for file in self._files() if not _lives(file) or _pid(file) == os.getpid()]
            for file in [self.path / ENDED, *gone]:
                if (dumped := _read(file)) is not None:
                    ended.add(dumped, gauges=False)
            self._write(ENDED, ended)
            for file in gone:
                file.unlink(missing_ok=True)

    def write(self, tallies: Tallies) -> None:
        """Writes this process's."""
        with suppress(FileNotFoundError):  # the parent has removed it: nobody asks any more
            self._write(f"{os.getpid()}.json", tallies)

    def total(self, own: Tallies) -> Tallies:
        """All together: `own` as they are now, the others' as last written."""
        total = Tallies()
        total.add(own.dumped(), gauges=True)
        with self._locked(fcntl.LOCK_SH):
            for file in self._files():
                if _pid(file) != os.getpid() and (dumped := _read(file)) is not None:
                    total.add(dumped, gauges=_is_fresh(file))
            if (dumped := _read(self.path / ENDED)) is not None:
                total.add(dumped, gauges=False)
        return total

    def _files(self) -> list[Path]:
        return [file for file in self.path.glob("*.json") if file.stem.isdigit()]

    def _write(self, name: str, tallies: Tallies) -> None:
        new = self.path / f"{name}.{os.getpid()}.new"
        new.write_text(json.dumps(tallies.dumped()))
        new.replace(self.path / name)

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        with (self.path / "lock").open("a") as lock:
            fcntl.flock(lock, how)
            yield


def _pid(file: Path) -> int:
    return int(file.stem)


def _lives(file: Path) -> bool:
    try:
        os.kill(_pid(file), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, by the same number
        return False
    return True


def _is_fresh(file: Path) -> bool:
    try:
        return time.time() - file.stat().st_mtime < FRESH_SECONDS
    except FileNotFoundError:
        return False


def _read(file: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(file.read_text())
    except FileNotFoundError:
        return None
    return found
