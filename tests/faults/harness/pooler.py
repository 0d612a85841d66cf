"""PgBouncer in transaction mode before a server: each statement may run in another session."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgqueue.embedded._account import Account

from .waiting import until

PROGRAM = "PGQUEUE_TEST_PGBOUNCER"
"""The environment variable that names another PgBouncer than the installed one."""
MISSING = f"there is no pgbouncer: apt-get install pgbouncer, or name one in {PROGRAM}"
PORT = 6432
CONFIG_NAME = "pgbouncer.ini"

CONFIG = """\
[databases]
* = {server}

[pgbouncer]
pool_mode = {mode}
listen_addr =
listen_port = {port}
unix_socket_dir = {folder}
auth_type = any
max_client_conn = 500
default_pool_size = 20
server_idle_timeout = 5
ignore_startup_parameters = extra_float_digits, options
log_connections = 0
log_disconnections = 0
stats_period = 3600
"""


def program() -> str | None:
    """The PgBouncer to start; None if there is none."""
    return os.environ.get(PROGRAM) or shutil.which("pgbouncer", path=f"{os.defpath}:/usr/sbin")


@attrs.define
class Pooler:
    """A PgBouncer that runs."""

    server_dsn: str
    folder: Path
    _program: str
    _popen: subprocess.Popen[bytes] = attrs.field(init=False)

    def through(self, dsn: str) -> str:
        """The DSN of the same database, by way of the pooler."""
        return make_conninfo(dsn, host=str(self.folder), port=PORT)

    def direct(self, dsn: str) -> str:
        """The DSN of the same database, straight."""
        return make_conninfo(self.server_dsn, dbname=conninfo_to_dict(dsn)["dbname"])

    def start(self) -> None:
        """Starts it, and waits until it lets clients through to its server."""
        account = Account.default()
        with (self.folder / "log").open("ab") as log:
            self._popen = subprocess.Popen(
                [self._program, str(self.folder / CONFIG_NAME)],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=account.uid if account.is_other else None,
                group=account.gid if account.is_other else None,
                extra_groups=[] if account.is_other else None,
            )
        until(self._answers, "the pooler answers")

    def kill(self) -> None:
        """Ends it in the middle of whatever it does."""
        self._popen.kill()
        self._popen.wait()

    def _answers(self) -> bool:
        told = (self.folder / "log").read_text(errors="replace")[-2000:]
        assert self._popen.poll() is None, told
        with suppress(psycopg.OperationalError), psycopg.connect(self.through(self.server_dsn)):
            return True
        return False


@contextmanager
def pooler(server_dsn: str, mode: str = "transaction") -> Iterator[Pooler]:
    """A PgBouncer before the server at `server_dsn`, gone at the end of the block.

    It runs as the embedded server's user, since it refuses to be root; whoever connects is the user
    of `server_dsn`.
    """
    found = program()
    assert found is not None, MISSING
    account = Account.default()
    with tempfile.TemporaryDirectory(prefix="pgb-") as name:
        folder = Path(name)
        config = folder / CONFIG_NAME
        parts = conninfo_to_dict(server_dsn)
        server = make_conninfo("", **{k: parts[k] for k in ("host", "port", "user") if k in parts})
        config.write_text(CONFIG.format(server=server, port=PORT, folder=folder, mode=mode))
        if account.is_other:
            os.chown(folder, account.uid, account.gid)
            config.chmod(0o644)
        running = Pooler(server_dsn, folder, found)
        try:
            running.start()
            yield running
        finally:
            running.kill()
