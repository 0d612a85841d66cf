"""A standby that follows an embedded server."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from pgqueue import embedded
from pgqueue.embedded import _binaries
from pgqueue.embedded._account import Account

TIMEOUT = 40


@contextmanager
def follow(primary: embedded.Server) -> Iterator[str]:
    """The DSN of a standby that tells the primary of its snapshots; both folders go at the end."""
    account = Account.owning(primary.data / "cluster")
    programs = _binaries.find(account).folder
    folder = Path(tempfile.mkdtemp(prefix="pgqueue-standby-", dir=primary.data.parent))
    if account.is_other:
        os.chown(folder, account.uid, account.gid)
    source = f"host={primary.socket_dir} user=postgres application_name=follower"
    settings = {
        "unix_socket_directories": str(folder), "port": "5433",
        "hot_standby_feedback": "on", "wal_receiver_status_interval": "1s", "fsync": "off",
        "max_connections": "20", "max_prepared_transactions": "5",
    }  # fmt: skip

    def run(program: str, *options: str) -> None:
        done = account.run(programs / program, options, cwd=folder, timeout=TIMEOUT)
        assert done.returncode == 0, done.stdout

    try:
        run("pg_basebackup", "-D", "copy", "-d", source, "-R", "-c", "fast", "-N")
        given = " ".join(f"-c {name}={value}" for name, value in settings.items())
        run(
            "pg_ctl",
            "start",
            "-w",
            "-D",
            "copy",
            "-l",
            "log",
            "-o",
            f"{given} -c listen_addresses=",
        )
        try:
            yield f"postgresql://postgres@/postgres?host={quote(str(folder), safe='')}&port=5433"
        finally:
            run("pg_ctl", "stop", "-w", "-D", "copy", "-m", "immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
