"""A primary and its standby, made of what the embedded server is made of."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import attrs
import psycopg

from pgqueue import Client, embedded
from pgqueue.embedded import _binaries
from pgqueue.embedded._account import Account
from pgqueue.embedded._folder import Folder, own_folder

from .waiting import until

if TYPE_CHECKING:
    from collections.abc import Mapping

SETTINGS: Mapping[str, str] = {
    "wal_keep_size": "256MB",  # the standby begins to stream a moment after its base backup
    "wal_retrieve_retry_interval": "100ms",
    "shared_buffers": "32MB",
}


@attrs.define
class Pair:
    """Two servers, each on a socket of its own, that change places."""

    primary: embedded.Server
    standby: embedded.Server

    @property
    def dsn(self) -> str:
        """Leads to whichever of the two is the primary."""
        hosts = ",".join(sorted(str(node.socket_dir) for node in (self.primary, self.standby)))
        return (
            f"postgresql://postgres@/postgres?host={quote(hosts, safe=',')}&port=5432,5432"
            "&target_session_attrs=read-write&connect_timeout=5"
        )

    def crash(self) -> None:
        """The primary ends in the middle of whatever it does, and writes nothing any more."""
        os.kill(self.primary.pid, signal.SIGQUIT)
        until(lambda: not _exists(self.primary.pid), "the primary is gone")

    def shut_down(self) -> None:
        """The primary ends in order, as for a planned change."""
        embedded.stop(self.primary.data)

    def disconnect(self) -> None:
        """The standby receives nothing any more."""
        query(self.standby, "alter system set primary_conninfo = ''")
        query(self.standby, "select pg_reload_conf()")
        receiving = "select count(*) from pg_stat_wal_receiver"
        until(lambda: query(self.standby, receiving) == [(0,)], "nothing is received")

    def promote(self) -> None:
        """The standby becomes the primary; the old one is gone."""
        query(self.standby, "select pg_promote()")
        self.primary, self.standby = self.standby, self.primary

    def rebuild(self) -> None:
        """The old primary comes back as the standby of the new one, from a base backup of it.

        pg_rewind would spare the copy, which is small here.
        """
        _copy(self.primary, self.standby)
        self.standby = embedded.start(self.standby.data, settings=SETTINGS)
        self.wait_until_caught_up()

    def wait_until_caught_up(self) -> None:
        """Waits until the standby has all that the primary has written until now."""
        ((end,),) = query(self.primary, "select pg_current_wal_flush_lsn()::text")
        caught_up = (
            "select count(*) from pg_stat_replication where state = 'streaming' "
            f"and sync_state in ('sync', 'async') and replay_lsn >= '{end}'"
        )
        until(lambda: query(self.primary, caught_up) == [(1,)], "the standby has caught up")


@contextmanager
def pair(*, commit: str | None) -> Iterator[Pair]:
    """A pair with pgqueue installed, gone at the end of the block.

    Args:
        commit: what a commit waits for, as in `synchronous_commit`: `on`, `remote_apply`. It waits
            for ever where there is no standby. None: replication is asynchronous.
    """
    with ExitStack() as stack:
        nodes = [stack.enter_context(embedded.temporary(settings=SETTINGS)) for _ in range(2)]
        found = Pair(*nodes)
        embedded.stop(found.standby.data)
        with Client(found.primary.dsn) as client:
            client.migrate()
        if commit is not None:  # in the data folder: a copy has it as well
            query(found.primary, f"alter system set synchronous_commit = {commit}")
            query(found.primary, "alter system set synchronous_standby_names = '*'")
        found.rebuild()
        query(found.primary, "select pg_reload_conf()")
        if commit is not None:
            synced = "select sync_state from pg_stat_replication"
            until(lambda: query(found.primary, synced) == [("sync",)], "the standby is synchronous")
        yield found


def query(node: embedded.Server, text: str) -> list[tuple[Any, ...]]:
    """The rows of a query on that very server."""
    with psycopg.connect(node.dsn, autocommit=True) as conn:
        cursor = conn.execute(text.encode())
        return cursor.fetchall() if cursor.description else []


def _copy(source: embedded.Server, target: embedded.Server) -> None:
    folder = Folder.of(target.data)
    account = Account.owning(folder.cluster)
    shutil.rmtree(folder.cluster)
    own_folder(folder.cluster, account)
    options = ["--dbname", f"host={source.socket_dir} port=5432 user=postgres"]
    options += ["--pgdata", "cluster", "--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
    program = _binaries.find(account).folder / "pg_basebackup"
    done = account.run(program, options, cwd=folder.path, timeout=60)
    assert done.returncode == 0, done.stdout


def _exists(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    try:
        return state.read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
