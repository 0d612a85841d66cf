"""A server with real pg_cron, started from an installed Postgres that has it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import attrs
from psycopg.conninfo import make_conninfo

from pgqueue import embedded
from pgqueue.testing import plugin

from .database import Sql, until

MISSING = "there is no pg_cron: apt-get install postgresql-15-cron, or that of another version"
SETTINGS = {
    "shared_preload_libraries": "pg_cron",
    "cron.database_name": "postgres",
    "cron.use_background_workers": "on",
    "max_worker_processes": "20",
}
SCHEMAS = "select nspname from pg_namespace where nspname !~ '^pg_|^information_schema$|^cron$'"
RUNNING = "select pid from pg_stat_activity where backend_type = 'pg_cron'"


def programs() -> Path | None:
    """The folder of the programs of an installed Postgres that has pg_cron."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/lib/pg_cron.so"))
    return found[-1].parents[1] / "bin" if found else None


@attrs.frozen
class CronServer:
    """A server with pg_cron in its database `postgres`."""

    server: embedded.Server

    def dsn(self, database: str = "postgres", user: str = "postgres") -> str:
        """The DSN of a database there."""
        return make_conninfo(self.server.dsn, dbname=database, user=user)

    def clear(self) -> None:
        """Makes the database of pg_cron as good as new, for the next test.

        Jobs that run are ended: one that spreads its minute would go on in the next test's tables.
        """
        sql = Sql(self.dsn())
        sql("select cron.unschedule(jobid) from cron.job")
        sql(f"select pg_terminate_backend(pid) from ({RUNNING}) running")
        until(lambda: not sql(RUNNING))
        sql("delete from cron.job_run_details")
        for (name,) in sql(SCHEMAS):
            sql(f'drop schema "{name}" cascade')
        sql("create schema public")
        sql.conn.close()


@contextmanager
def running(folder: Path) -> Iterator[CronServer]:
    """A throw-away server from the programs in `folder`."""
    with ExitStack() as stack:
        with mock.patch.dict(os.environ, {"PGQUEUE_PG_BIN": str(folder)}):
            server = embedded.temporary(settings=SETTINGS, parent=plugin._memory())
            made = stack.enter_context(server)
        found = CronServer(made)
        sql = Sql(found.dsn())
        sql("create extension pg_cron schema pg_catalog")
        sql.conn.close()
        yield found
