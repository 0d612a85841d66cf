"""A queue beside the double of pg_net; and real pg_cron, where there is one."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgqueue import Client
from pgqueue.embedded._account import Account
from pgqueue.pg_cron import Poke

from .net_double import HERE, Sender, Site, site

MISSING = "there is no pg_cron: apt-get install postgresql-15-cron, or that of another version"
GIVEN = "PGQUEUE_TEST_PG_CRON"
"""Names a superuser's DSN of a server that runs already, in whose database postgres pg_cron is."""
CONFIG = """
listen_addresses = ''
unix_socket_directories = '{folder}'
shared_preload_libraries = 'pg_cron'
cron.database_name = 'postgres'
cron.use_background_workers = on
max_worker_processes = 20
fsync = off
timezone = 'UTC'
"""


class Sql:
    """Runs SQL apart from any client."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.conn = psycopg.connect(dsn, autocommit=True)

    def __call__(self, query: str, *params: object) -> list[tuple[Any, ...]]:
        """All rows of `query`."""
        cursor = self.conn.execute(query.encode(), params or None)
        return cursor.fetchall() if cursor.description else []

    def one(self, query: str, *params: object) -> Any:
        """Its only value."""
        ((value,),) = self(query, *params)
        return value

    def double(self, name: str) -> None:
        """Installs the double of an extension."""
        self((HERE / f"{name}_double.sql").read_text("utf-8"))


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Waits for what others do in their own time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


@pytest.fixture
def sql(pgqueue_dsn: str) -> Iterator[Sql]:
    """The test's database, with the double of pg_net in it."""
    made = Sql(pgqueue_dsn)
    made.double("net")
    yield made
    made.conn.close()


@pytest.fixture
def served() -> Iterator[Site]:
    """An endpoint that is called."""
    with site() as found:
        yield found


@pytest.fixture
def sender(sql: Sql) -> Sender:
    """What sends requests."""
    return Sender(sql.dsn)


@pytest.fixture
def put(sql: Sql, served: Site) -> Callable[..., None]:
    """Stores the settings of an endpoint; `served` is its URL."""
    from pgqueue.pg_cron.script import put_endpoint  # noqa: PLC0415

    def put(name: str = "media", **given: Any) -> None:
        sql(put_endpoint("pgqueue", Poke(name=name, **{"url": served.url, **given})))

    return put


@pytest.fixture
def role(sql: Sql) -> Iterator[str]:
    """A role that may log in and nothing else."""
    name = f"pgqueue_cron_{psycopg.conninfo.conninfo_to_dict(sql.dsn)['dbname']}"
    sql(f"create role {name} login")
    yield name
    sql(f"drop owned by {name}")
    sql(f"drop role {name}")


@pytest.fixture
def as_role(sql: Sql, role: str) -> Iterator[Sql]:
    """A session of that role."""
    made = Sql(make_conninfo(sql.dsn, user=role))
    yield made
    made.conn.close()


@attrs.frozen
class CronServer:
    """A server with pg_cron in its database `postgres`."""

    superuser: str
    """A DSN. Everybody may log in there without a password."""

    def dsn(self, database: str = "postgres", user: str | None = None) -> str:
        """The DSN of a database there."""
        given = {} if user is None else {"user": user}
        return make_conninfo(self.superuser, dbname=database, **given)


def _programs() -> Path | None:
    """The folder of the programs of an installed Postgres that has pg_cron."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/lib/pg_cron.so"))
    return found[-1].parents[1] / "bin" if found else None


@contextmanager
def _running(programs: Path) -> Iterator[CronServer]:
    account = Account.default()
    with tempfile.TemporaryDirectory(prefix="pgqueue-cron-") as name:
        folder = Path(name)
        if account.is_other:
            subprocess.run(["/bin/chown", str(account.uid), name], check=True)
        data = folder / "data"

        def run(program: str, *options: str) -> None:
            done = account.run(programs / program, options, cwd=folder, timeout=60)
            assert done.returncode == 0, done.stdout

        run("initdb", "-D", str(data), "-A", "trust", "-U", "postgres", "-E", "UTF8", "-N")
        with (data / "postgresql.conf").open("a", encoding="utf-8") as config:
            config.write(CONFIG.format(folder=folder))
        run("pg_ctl", "-D", str(data), "-l", str(folder / "log"), "-w", "start")
        try:
            yield CronServer(make_conninfo(host=str(folder), user="postgres"))
        finally:
            run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")


@pytest.fixture(scope="module")
def cron_server() -> Iterator[CronServer]:
    """See `CronServer`."""
    with ExitStack() as stack:
        if given := os.environ.get(GIVEN):
            server = CronServer(given)
        elif programs := _programs():
            server = stack.enter_context(_running(programs))
        else:
            pytest.skip(MISSING)
        with psycopg.connect(server.dsn(), autocommit=True) as conn:
            conn.execute("create extension if not exists pg_cron")
        yield server


@pytest.fixture
def cron_client(cron_server: CronServer) -> Iterator[Client]:
    """A client of a new queue in the database of pg_cron, with the doubles beside it."""
    sql = Sql(cron_server.dsn())
    sql("drop schema if exists pgqueue, net, vault cascade")
    with Client(cron_server.dsn()) as client:
        client.migrate()
        sql.double("net")
        yield client
    sql("select cron.unschedule(jobid) from cron.job")
    sql.conn.close()
