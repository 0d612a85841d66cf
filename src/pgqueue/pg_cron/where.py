"""Finds the database that pg_cron lives in, and whether this role may use it there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pgqueue.drivers import Driver
from pgqueue.errors import ConfigurationError, PermissionDenied
from pgqueue.statements import Statement

if TYPE_CHECKING:
    from pgqueue.client import Client
    from pgqueue.readers import Row

HERE = """
select current_database()::text, current_user::text,
    (select e.extversion from pg_catalog.pg_extension e where e.extname = 'pg_cron'),
    (select s.setting from pg_catalog.pg_settings s where s.name = 'cron.database_name')
"""
_RIGHTS = """
select a.wanted, a.held from (values
    ('usage on schema cron', has_schema_privilege('cron', 'usage')),
    ('execute on function cron.schedule(text, text, text)',
        has_function_privilege('cron.schedule(text, text, text)', 'execute')),
    ('execute on function cron.unschedule(bigint)',
        has_function_privilege('cron.unschedule(bigint)', 'execute')),
    ('select on cron.job, cron.job_run_details',
        has_table_privilege('cron.job', 'select')
        and has_table_privilege('cron.job_run_details', 'select')),
    ('execute on function cron.schedule_in_database(text, text, text, text, text, boolean)',
        not %s or coalesce(has_function_privilege(
            to_regprocedure('cron.schedule_in_database(text, text, text, text, text, boolean)'),
            'execute'), false)),
    ('execute on function cron.alter_job(bigint, text, text, text, text, boolean)',
        not %s or coalesce(has_function_privilege(
            to_regprocedure('cron.alter_job(bigint, text, text, text, text, boolean)'),
            'execute'), false))
) a (wanted, held)
"""
SCHEMA = "select has_schema_privilege('cron', 'usage')"


@attrs.frozen
class Place:
    """Where pg_cron is, and the queue."""

    driver: Driver
    """Of the database of pg_cron."""
    database: str
    """That of pg_cron."""
    version: str
    queue_database: str
    user: str
    """Who connects, quoted."""

    @property
    def elsewhere(self) -> str | None:
        """The queue's database, if it is another one."""
        return None if self.database == self.queue_database else self.queue_database

    def missing_rights(self, *, alter: bool = False) -> list[str]:
        """The grants that this role lacks, as SQL; `alter`: to pause and resume, too."""
        if not self.driver.run(Statement(SCHEMA, (), _only)):
            return [f"grant usage on schema cron to {self.user}"]
        params = (self.elsewhere is not None, alter)
        rows = self.driver.run(Statement(_RIGHTS, params, list))
        return [f"grant {wanted} to {self.user}" for wanted, held in rows if not held]

    def check_rights(self, *, alter: bool = False) -> None:
        """See `missing_rights`.

        Raises:
            PermissionDenied: there are some; the message has the grants.
        """
        missing = self.missing_rights(alter=alter)
        if missing:
            raise PermissionDenied(
                f"role {self.user} may not use pg_cron so; have a superuser run in database "
                f"{self.database!r}: {'; '.join(missing)}"
            )


def _only(rows: list[Row]) -> object:
    return rows[0][0]


def find(client: Client, database: str | None) -> Place:
    """Looks for pg_cron: in `database`, or the client's, or the one that the server names.

    Raises:
        ConfigurationError: it is in none of them.
    """
    ours = client.driver
    here, user, version, named = ours.run(Statement(HERE, (), lambda rows: rows[0]))
    quoted = sql.Identifier(user).as_string(None)
    other = database if database is not None else (None if version else named)
    if other is None or other == here:
        if version is None:
            raise ConfigurationError(_missing(here))
        return Place(ours, here, version, here, quoted)
    # Its connection is closed with the process's last reference to it.
    there = Driver(make_conninfo(client.dsn, dbname=other), client.schema, 1)
    _, _, version, _ = there.run(Statement(HERE, (), lambda rows: rows[0]))
    if version is None:
        there.close()
        raise ConfigurationError(_missing(other))
    return Place(there, other, version, here, quoted)


def _missing(database: str) -> str:
    return (
        f"pg_cron is not in database {database!r}. If it is in another one of this server, name "
        "that (`database=`, --cron-database). To have it: shared_preload_libraries = 'pg_cron' and "
        f"cron.database_name = '{database}' in the server's settings, a restart, and then, by a "
        "superuser in that database: create extension pg_cron"
    )
