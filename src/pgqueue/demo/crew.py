"""The worker processes of the demo."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING

import attrs

from pgqueue.demo.handlers import PARENT, QUEUE
from pgqueue.errors import PgqueueError

if TYPE_CHECKING:
    from typing_extensions import Self

LEASE = "2s"
STOP_SECONDS = 5
"""How long a worker may take to end in order."""


class WorkerFailed(PgqueueError):
    """A worker ended that nobody had told to."""


@attrs.frozen(eq=False)
class Member:
    """One worker process."""

    name: str
    process: subprocess.Popen[bytes]
    log: IO[bytes]

    @property
    def pid(self) -> int:
        """Its number, as the operating system has it."""
        return self.process.pid


@attrs.define
class Crew:
    """Starts workers on a schema, each a process of its own, and never leaves one behind."""

    dsn: str
    schema: str
    _members: list[Member] = attrs.field(factory=list, init=False)
    _hired: int = attrs.field(default=0, init=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.dismiss()

    @property
    def members(self) -> list[Member]:
        """Those at work."""
        return list(self._members)

    def hire(self) -> Member:
        """Starts one more worker."""
        self._hired += 1
        name = f"worker-{self._hired}"
        log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the member
        process = subprocess.Popen(
            [
                sys.executable, "-m", "pgqueue", "worker", "pgqueue.demo.handlers:handlers",
                "--queue", QUEUE, "--schema", self.schema, "--name", name, "--lease", LEASE,
                "--concurrency", "2", "--poll-interval", "200ms", "--shutdown-timeout", "4s",
            ],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for us, who then dismiss them
        )  # fmt: skip
        self._members.append(Member(name, process, log))
        return self._members[-1]

    def _environment(self) -> Mapping[str, str]:
        return {
            **os.environ,
            "PGQUEUE_DSN": self.dsn,  # arguments can be seen by everybody
            "PYTHONWARNINGS": "ignore",  # those that old files are full of
            PARENT: str(os.getpid()),
        }

    def kill(self, member: Member) -> None:
        """Ends a worker with SIGKILL, in the middle of whatever it does."""
        member.process.kill()
        member.process.wait()
        self._remove(member)

    def check(self) -> None:
        """Makes sure that all are at work.

        Raises:
            WorkerFailed: one is not; the message has the last line that it wrote.
        """
        for member in self._members:
            code = member.process.poll()
            if code is not None:
                member.log.seek(0)
                told = member.log.read().decode(errors="replace").strip().splitlines()
                raise WorkerFailed(
                    f"{member.name} ended with {code}: {told[-1] if told else 'without a word'}"
                )

    def dismiss(self) -> None:
        """Ends all of them: in order if they can, otherwise by force."""
        for member in self._members:
            member.process.terminate()
        for member in self.members:
            try:
                member.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                member.process.kill()
                member.process.wait()
            self._remove(member)

    def _remove(self, member: Member) -> None:
        member.log.close()
        self._members.remove(member)
