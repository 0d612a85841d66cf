"""Real worker processes, and what can befall them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from .ledger import Ledger
from .waiting import DEADLINE, until

if TYPE_CHECKING:
    from typing_extensions import Self

ROOT = Path(__file__).parents[3]
"""The checkout, from which `tests` can be imported."""


class FaultMissed(AssertionError):
    """A fault was meant to hit something, and did not."""


@attrs.define(eq=False)
class WorkerProcess:
    """One process of `tests.faults.harness.app`, with a session of its own."""

    number: int
    log: Path
    ledger: Ledger
    _popen: subprocess.Popen[bytes]
    buried: bool = False
    """Whether the ledger knows that it has ended."""

    @property
    def pid(self) -> int:
        """Its number, as the operating system has it."""
        return self._popen.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended; a stopped one has not."""
        return self._popen.poll() is None

    @property
    def children(self) -> list[int]:
        """The processes that it has forked (Linux)."""
        path = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def kill(self) -> None:
        """Ends it with SIGKILL, and waits until it is gone.

        Raises:
            FaultMissed: it had ended by itself.
        """
        self._send(signal.SIGKILL)
        code = self.wait()
        if code != -signal.SIGKILL:
            raise FaultMissed(f"worker {self.number} had ended with {code}:\n{self.told()}")
        self.bury()

    def bury(self) -> int:
        """Notes in the ledger that it has ended; returns its exit code."""
        code = self.wait()
        if not self.buried:
            self.buried = True
            self.ledger.gone(self.pid)
        return code

    def stop(self) -> None:
        """Stops it in the middle of whatever it does (SIGSTOP), and waits until it stands."""
        self._send(signal.SIGSTOP)
        status = Path(f"/proc/{self.pid}/stat")
        if status.exists():
            until(
                lambda: status.read_text().rpartition(") ")[2].startswith("T"),
                f"worker {self.number} stands still",
            )
        self.ledger.gone(self.pid)

    def resume(self) -> None:
        """Lets it go on (SIGCONT), with all that it believed before."""
        self._send(signal.SIGCONT)

    def terminate(self) -> None:
        """Asks it to end in order (SIGTERM)."""
        self._send(signal.SIGTERM)

    def wait(self, seconds: float = DEADLINE) -> int:
        """Waits for its end; returns its exit code, negative for a signal."""
        return self._popen.wait(seconds)

    def told(self) -> str:
        """The end of what it wrote to its log."""
        return self.log.read_text(errors="replace")[-2000:]

    def _send(self, number: signal.Signals) -> None:
        if not self.alive:
            code = self._popen.returncode
            raise FaultMissed(f"worker {self.number} had ended with {code}:\n{self.told()}")
        self._popen.send_signal(number)

    def clear(self) -> None:
        """Ends it and its children, whatever they do."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait(DEADLINE)


@attrs.define
class Workers:
    """Starts workers on one database, and leaves none behind."""

    folder: Path
    dsn: str
    ledger: Ledger
    options: Mapping[str, object] = attrs.field(factory=dict)
    """Of the app, such as `{"lease": 1.0, "concurrency": 4}`."""
    all: list[WorkerProcess] = attrs.field(factory=list, init=False)
    """Every one that was started, the dead ones too."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.all:
            worker.clear()

    @property
    def living(self) -> list[WorkerProcess]:
        """Those that have not ended."""
        return [worker for worker in self.all if worker.alive]

    @property
    def fallen(self) -> list[WorkerProcess]:
        """Those that have ended by themselves, and are not buried yet."""
        return [worker for worker in self.all if not worker.alive and not worker.buried]

    def start(self, **options: object) -> WorkerProcess:
        """Starts one more, with `options` over those that all have; it needs a moment to work."""
        number = len(self.all) + 1
        log = self.folder / f"worker-{number}.log"
        given = {**self.options, **options}
        command = [sys.executable, "-m", f"{__package__}.app", str(self.ledger.folder)]
        for name, value in given.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        with log.open("wb") as file:
            popen = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "PGQUEUE_DSN": self.dsn},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self.all.append(WorkerProcess(number, log, self.ledger, popen))
        return self.all[-1]

    def end(self) -> list[int]:
        """Ends those that live in order; returns their exit codes."""
        living = self.living
        for worker in living:
            worker.terminate()
        return [worker.wait() for worker in living]
