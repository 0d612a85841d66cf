"""The user that the server runs as. Postgres refuses to run as root."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from pgqueue.errors import EmbeddedServerError

UNPRIVILEGED = ("postgres", "nobody")


@frozen
class Account:
    """A user and its group, to run the server's programs as."""

    uid: int
    gid: int

    @classmethod
    def default(cls) -> Account:
        """This process's own user; for root the first of `UNPRIVILEGED` that exists."""
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid())
        for name in UNPRIVILEGED:
            try:
                found = pwd.getpwnam(name)
            except KeyError:
                continue
            return cls(found.pw_uid, found.pw_gid)
        raise EmbeddedServerError(
            "Postgres does not run as root, and this machine has none of the users "
            f"{', '.join(UNPRIVILEGED)}; run as an ordinary user, or add one of them"
        )

    @classmethod
    def owning(cls, path: Path) -> Account:
        """The owner of `path`."""
        found = path.stat()
        return cls(found.st_uid, found.st_gid)

    @property
    def is_other(self) -> bool:
        """Whether this is another user than that of this process."""
        return self.uid != os.geteuid()

    def run(
        self, program: Path, options: Sequence[str], *, cwd: Path, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run `program` as this user and return its exit code and output, stderr included.

        It runs in a session of its own, so that Ctrl-C in this terminal does not reach it, and with
        hardly any environment: `PG*` variables would change the server, and everything else in ours
        would be readable by other processes of that user for as long as the server runs.

        Raises:
            EmbeddedServerError: it took longer than `timeout` seconds.
            OSError: it cannot be executed, PermissionError if this user must not.
        """
        env = {"PATH": os.defpath, "LC_ALL": "C"}
        if library_path := os.environ.get("LD_LIBRARY_PATH"):
            env["LD_LIBRARY_PATH"] = library_path
        drop = self.is_other
        try:
            return subprocess.run(
                [program, *options],
                check=False,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                timeout=timeout,
                start_new_session=True,
                user=self.uid if drop else None,
                group=self.gid if drop else None,
                extra_groups=[] if drop else None,
            )
        except subprocess.TimeoutExpired as error:
            raise EmbeddedServerError(
                f"{program.name} took longer than {timeout:g} s in {cwd}; "
                "look at the machine's load and disk, then try again"
            ) from error
