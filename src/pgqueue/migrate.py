"""Installing and upgrading the schema: numbered migrations, then all functions, in one transaction.

Migrations are immutable and additive (expand first, contract a release later), so that workers of
the previous version go on while it runs. Functions are replaced as a set whenever their text
changed. What is run is plain SQL: `script` gives it to those who run their own migrations.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

import attrs
import psycopg

from pgqueue.arguments import checked_schema
from pgqueue.errors import SchemaMissing, SchemaOutdated
from pgqueue.statements import DEFAULT_SCHEMA, Statement
from pgqueue.version import __version__

if TYPE_CHECKING:
    from pgqueue.readers import Row

LOCK_TIMEOUT = "500ms"
"""A migration waits no longer than this for a lock: for so long the workers may stand behind it.

Less than Postgres's deadlock_timeout of 1 s: should the two wait for each other, the migration
gives way before a worker's statement is ended as the victim.
"""
LAST_LOCK_TIMEOUT = "1500ms"
"""The same for the second half of the attempts. An autovacuum that is in the way gives up as well,
but only after the deadlock_timeout."""
ATTEMPTS = 10
LONGEST = 3600.0
"""Seconds that one statement of a migration may take: an index on a large table, say."""
PAUSE = 0.5
"""Seconds until it tries again, with each attempt so much more: most of the time is the workers'.
"""
BLOCKED = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)
"""Errors after which it is tried again."""


@attrs.frozen
class Migration:
    """One numbered step."""

    version: int
    name: str
    sql: str


@attrs.frozen
class SchemaState:
    """What is installed."""

    schema: str
    version: int
    """Of the last migration applied; 0: nothing is installed."""
    functions: str
    """The checksum of the installed functions."""
    release: tuple[int, ...] = ()
    """The version of pgqueue that they are of."""

    @property
    def newer(self) -> bool:
        """Whether a later version of pgqueue installed it; our workers may go on meanwhile."""
        return self.version > latest_version() or self.release > our_release()

    @property
    def current(self) -> bool:
        """Whether the tables and functions are exactly those of this version of pgqueue."""
        return self.version == latest_version() and self.functions == functions_checksum()

    def check(self) -> None:
        """Raises what is wrong, if anything is.

        A newer schema is right: migrations are additive, so that a worker of the previous version
        can be started again in the middle of an upgrade.

        Raises:
            SchemaMissing: nothing is installed.
            SchemaOutdated: it is an older version's.
        """
        if not self.version:
            raise SchemaMissing(self.schema)
        if not self.current and not self.newer:
            raise SchemaOutdated(
                f"schema {self.schema!r} is at version {self.version} of {latest_version()}, or "
                "its functions are another version's; run client.migrate() or `pgqueue migrate`"
            )


@lru_cache
def migrations() -> tuple[Migration, ...]:
    """All steps, in order."""
    folder = resources.files("pgqueue") / "sql" / "migrations"
    found = []
    for file in sorted(folder.iterdir(), key=lambda f: f.name):
        number, _, name = file.name.removesuffix(".sql").partition("_")
        found.append(Migration(int(number), name, file.read_text("utf-8")))
    return tuple(found)


@lru_cache
def functions() -> str:
    """The text of all functions and views; safe to apply again and again."""
    folder = resources.files("pgqueue") / "sql"
    lines = (folder / "settings.sql").read_text("utf-8").splitlines()
    settings = "\n".join(line for line in lines if not line.startswith("--"))
    files = (f for f in (folder / "functions").iterdir() if f.name.endswith(".sql"))
    texts = [file.read_text("utf-8") for file in sorted(files, key=lambda f: f.name)]
    texts.append((folder / "access.sql").read_text("utf-8"))
    return "\n".join(texts).replace("@settings@", settings)


def latest_version() -> int:
    """The version that this pgqueue needs."""
    return migrations()[-1].version


def functions_checksum() -> str:
    """Tells sets of functions apart."""
    return hashlib.sha256(functions().encode()).hexdigest()[:32]


def our_release() -> tuple[int, ...]:
    """The numbers of this package's version."""
    return tuple(int(number) for number in re.findall(r"\d+", __version__))


def render(sql: str, schema: str) -> str:
    """`sql` with its placeholders replaced by the schema's name, quoted and bare."""
    return sql.replace("@extschema@", f'"{schema}"').replace("@extschema:name@", schema)


def lock_timeout(attempt: int) -> str:
    """How long to wait for locks this time, as a setting; attempts count from 0."""
    return LOCK_TIMEOUT if attempt < ATTEMPTS // 2 else LAST_LOCK_TIMEOUT


def script(
    schema: str = DEFAULT_SCHEMA,
    *,
    after: SchemaState | None = None,
    lock_timeout: str = LOCK_TIMEOUT,
) -> str:
    """The SQL that brings a schema up to date, to be run in one transaction.

    Args:
        schema: any name that `checked_schema` admits.
        after: what is installed; None gives the script of a fresh install.
        lock_timeout: how long to wait for a lock.

    Raises:
        SchemaOutdated: what is installed is newer than this version of pgqueue.
    """
    checked_schema(schema)
    state = after or SchemaState(schema, 0, "")
    if state.newer:
        raise SchemaOutdated(
            f"schema {schema!r} was installed by a newer pgqueue "
            f"({'.'.join(map(str, state.release))}, this one is "
            f"{'.'.join(map(str, our_release()))}); upgrade the package. Nothing was changed"
        )
    parts = [
        f"set local lock_timeout = '{lock_timeout}';",
        "set local statement_timeout = 0;",
        # What the tables' defaults and parsed bodies mean is settled here and now, and must be the
        # system's, not what a schema that others may create in has to offer. Whoever runs the
        # script within a transaction of theirs gets their own back at the end.
        _set_config("pgqueue.search_path", "current_setting('search_path')"),
        "set local search_path = pg_catalog, pg_temp;",
        "set local check_function_bodies = off;",
        "set local client_min_messages = warning;",
    ]
    if not state.version:
        # An owner of the schema may lack the right to create one, which "if not exists" would ask
        # for.
        parts.append(
            "do $$ begin if pg_catalog.to_regnamespace('@extschema@') is null "
            "then create schema @extschema@; end if; end $$;"
        )
        parts.append(
            "create table @extschema@.migration (version integer primary key, name text not null, "
            "checksum text, applied_at timestamptz not null default clock_timestamp());"
        )
    for migration in migrations():
        if migration.version > state.version:
            parts.append(migration.sql)
            parts.append(
                "insert into @extschema@.migration (version, name) "
                f"values ({migration.version}, '{migration.name}');"
            )
    if state.functions != functions_checksum():
        parts.append(functions())
        parts.append(
            "-- Version 0 is the set of functions; its name is the version of pgqueue.\n"
            "insert into @extschema@.migration (version, name, checksum) "
            f"values (0, '{'.'.join(map(str, our_release()))}', '{functions_checksum()}') "
            "on conflict (version) do update set name = excluded.name, "
            "checksum = excluded.checksum, applied_at = excluded.applied_at;"
        )
    parts.append("select @extschema@._partitions();")
    parts.append(_set_config("search_path", "current_setting('pgqueue.search_path', true)"))
    return render("\n".join(parts) + "\n", schema)


def _set_config(name: str, value: str) -> str:
    return f"do $$ begin perform pg_catalog.set_config('{name}', pg_catalog.{value}, true); end $$;"


def read_state(schema: str) -> tuple[Statement[bool], Statement[SchemaState]]:
    """Two statements: whether anything is installed, and (only then) what."""
    exists = Statement(
        "select exists (select from pg_catalog.pg_class c "
        "join pg_catalog.pg_namespace n on n.oid = c.relnamespace "
        "where n.nspname = %s and c.relname = 'migration')",
        (schema,),
        lambda rows: bool(rows[0][0]),
    )

    def read(rows: list[Row]) -> SchemaState:
        version, checksum, release = rows[0]
        numbers = tuple(int(number) for number in (release or "").split(".") if number.isdigit())
        return SchemaState(schema, version or 0, checksum or "", numbers)

    what = Statement(
        "select max(version), max(checksum), max(name) filter (where version = 0) "
        f'from "{checked_schema(schema)}".migration',
        (),
        read,
    )
    return exists, what


def lock(schema: str) -> Statement[None]:
    """Lets one migration of a schema run at a time; released with the transaction."""
    return Statement(
        "select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended(%s, 0))",
        (f"pgqueue migrate {schema}",),
        lambda _: None,
    )
