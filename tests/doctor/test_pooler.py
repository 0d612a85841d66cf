"""Through PgBouncer."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgqueue import Client
from pgqueue.doctor import Level, examine
from pgqueue.doctor.examination import CHECKS

from .conftest import of, until

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def bouncer(dsn: str, mode: str) -> Iterator[str]:
    """The DSN of a PgBouncer before the database, with a pool of two."""
    assert PROGRAM
    given = conninfo_to_dict(dsn)
    with tempfile.TemporaryDirectory(prefix="pgqueue-") as name:
        folder = Path(name)
        root = os.geteuid() == 0
        user = pwd.getpwnam("postgres" if root else pwd.getpwuid(os.geteuid()).pw_name)
        if root:
            os.chown(folder, user.pw_uid, user.pw_gid)
        config = folder / "pgbouncer.ini"
        config.write_text(
            "[databases]\n"
            f"* = host={given['host']} port={given['port']} user=postgres\n"
            "[pgbouncer]\n"
            f"pool_mode = {mode}\ndefault_pool_size = 2\nauth_type = any\nlisten_port = 6432\n"
            f"listen_addr =\nunix_socket_dir = {folder}\nlogfile = {folder}/log\n"
        )
        drop = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if root else {}
        process = subprocess.Popen(
            [PROGRAM, "-q", str(config)],
            stderr=subprocess.DEVNULL,
            **drop,  # type: ignore[call-overload]
        )
        with ExitStack() as stack:
            stack.callback(process.wait, 10)
            stack.callback(process.terminate)
            until((folder / ".s.PGSQL.6432").exists)
            yield make_conninfo(
                host=str(folder), port="6432", dbname=str(given["dbname"]), user="postgres"
            )


@pytest.fixture(params=["transaction", "session"])
def behind(request: pytest.FixtureRequest, pgqueue_dsn: str) -> Iterator[tuple[str, Client]]:
    """The pooler's mode, and a client that goes through it."""
    if PROGRAM is None:
        pytest.skip("PgBouncer is not installed")
    with bouncer(pgqueue_dsn, request.param) as dsn, Client(dsn) as client:
        yield request.param, client


def test_pooler_is_known_by_what_gets_through(
    behind: tuple[str, Client], pgqueue_client: Client
) -> None:
    """The other findings are those that there are without it."""
    mode, client = behind
    found = examine(client)
    (doorbell,) = of("doorbell", found)
    if mode == "transaction":
        assert doorbell.level is Level.NOTICE
        assert "through a pooler in transaction mode: LISTEN does not get through" in doorbell.seen
        assert "poll_interval" in doorbell.advice
    else:
        assert doorbell.level is Level.OK
        assert "through a pooler, in session mode: a notification was heard" in doorbell.seen
    direct = {(f.check, f.level) for f in examine(pgqueue_client) if f.check != "doorbell"}
    assert {(f.check, f.level) for f in found if f.check != "doorbell"} == direct
    assert {f.check for f in found} == {check.name for check in CHECKS}
