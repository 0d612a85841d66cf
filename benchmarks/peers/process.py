"""Starts drivers and talks with them."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import attrs
from benchmarks.peers.install import Runtimes
from benchmarks.peers.systems import System

TIMEOUT = 180.0
"""Seconds that a driver may take; then it is killed, and the run ends with an error."""


class DriverFailed(RuntimeError):
    """A driver ended without an answer; the message has the end of what it wrote."""


@attrs.define
class Process:
    """A driver at work."""

    what: str
    popen: subprocess.Popen[str]
    errors: Any
    """The open file that takes its standard error."""

    def answer(self) -> Any:  # noqa: ANN401 - JSON
        """The next line that it says.

        Raises:
            DriverFailed: it ended without one.
        """
        assert self.popen.stdout is not None  # noqa: S101 - opened as a pipe below
        while line := self.popen.stdout.readline():
            with contextlib.suppress(json.JSONDecodeError):
                return json.loads(line)
        self.popen.wait(10)
        self.errors.seek(0)
        told = self.errors.read()[-3000:]
        raise DriverFailed(f"{self.what} ended with {self.popen.returncode}:\n{told}")

    def go_on(self) -> None:
        """Sends the line that it waits for."""
        assert self.popen.stdin is not None  # noqa: S101 - opened as a pipe below
        self.popen.stdin.write("\n")
        self.popen.stdin.flush()


@attrs.frozen
class Drivers:
    """Starts the drivers of all systems."""

    runtimes: Runtimes
    timeout: float = TIMEOUT

    def ask(self, system: System, dsn: str, command: str, *arguments: object) -> Any:  # noqa: ANN401 - JSON
        """Runs a command that answers once; gives the answer."""
        with self.started(system, dsn, command, *arguments) as process:
            return process.answer()

    @contextlib.contextmanager
    def started(
        self, system: System, dsn: str, command: str, *arguments: object
    ) -> Iterator[Process]:
        """A driver that runs `command`. At the end of the block it has ended, or is killed."""
        words = [
            *self.runtimes.command(system.driver, system.runtime),
            *(dsn, system.variant or "-", command),
            *(str(argument) for argument in arguments),
        ]
        with (
            tempfile.TemporaryFile("w+") as errors,
            subprocess.Popen(
                words,
                cwd=self.runtimes.folder(system.runtime),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            ) as popen,
        ):
            timer = threading.Timer(self.timeout, popen.kill)
            timer.start()
            try:
                yield Process(f"{system.name}: {command}", popen, errors)
                popen.wait(self.timeout)
            finally:
                timer.cancel()
                popen.kill()
