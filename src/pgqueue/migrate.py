"""Installing and upgrading the schema: numbered migrations for tables, and all functions, in one transaction.

Migrations are immutable and additive (expand first, contract a release later), so that workers of the
previous version go on while it runs. Functions are replaced as a set whenever their text changed. What is
run is plain SQL: `script` gives it to those who run their own migrations.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

import attrs

from pgqueue.errors import SchemaMissing, SchemaOutdated
from pgqueue.statements import DEFAULT_SCHEMA, Statement, checked_schema

if TYPE_CHECKING:
    from pgqueue.statements import Row

LOCK_TIMEOUT = "2s"
"""A migration waits no longer than this for a lock, so that it never holds up workers behind it."""
ATTEMPTS = 10


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

    @property
    def current(self) -> bool:
        """Whether the tables and functions are exactly those of this version of pgqueue."""
        return self.version == latest_version() and self.functions == functions_checksum()

    def check(self) -> None:
        """Raises what is wrong, if anything is.

        Raises:
            SchemaMissing: nothing is installed.
            SchemaOutdated: it is another version's.
        """
        if not self.version:
            raise SchemaMissing(self.schema)
        if self.version > latest_version():
            raise SchemaOutdated(
                f"schema {self.schema!r} is at version {self.version}, newer than this pgqueue knows "
                f"({latest_version()}); upgrade the package"
            )
        if not self.current:
            raise SchemaOutdated(
                f"schema {self.schema!r} is at version {self.version} of {latest_version()}, or its functions "
                "are another version's; run client.migrate() or `pgqueue migrate`"
            )


@lru_cache
def migrations() -> tuple[Migration, ...]:
    """All steps, in order."""
    folder = resources.files("pgqueue").joinpath("sql", "migrations")
    found = []
    for file in sorted(folder.iterdir(), key=lambda f: f.name):
        number, _, name = file.name.removesuffix(".sql").partition("_")
        found.append(Migration(int(number), name, file.read_text("utf-8")))
    return tuple(found)


@lru_cache
def functions() -> str:
    """The text of all functions and views; safe to apply again and again."""
    folder = resources.files("pgqueue").joinpath("sql", "functions")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return "\n".join(file.read_text("utf-8") for file in files)


def latest_version() -> int:
    """The version that this pgqueue needs."""
    return migrations()[-1].version


def functions_checksum() -> str:
    """Tells sets of functions apart."""
    return hashlib.sha256(functions().encode()).hexdigest()[:32]


def render(sql: str, schema: str) -> str:
    """`sql` with its placeholders replaced by the schema's name, quoted and bare."""
    return sql.replace("@extschema@", f'"{schema}"').replace("@extschema:name@", schema)


def script(schema: str = DEFAULT_SCHEMA, *, after: SchemaState | None = None) -> str:
    """The SQL that brings a schema up to date, to be run in one transaction.

    Args:
        schema: any name that `checked_schema` admits.
        after: what is installed; None gives the script of a fresh install.
    """
    checked_schema(schema)
    state = after or SchemaState(schema, 0, "")
    parts = [
        f"set local lock_timeout = '{LOCK_TIMEOUT}';",
        "set local check_function_bodies = off;",
        "set local client_min_messages = warning;",
        "create schema if not exists @extschema@;",
    ]
    if not state.version:
        parts.append(
            "create table @extschema@.migration (version integer primary key, name text not null, "
            "checksum text, applied_at timestamptz not null default clock_timestamp());"
        )
    for migration in migrations():
        if migration.version > state.version:
            parts += [
                migration.sql,
                "insert into @extschema@.migration (version, name) "
                f"values ({migration.version}, '{migration.name}');",
            ]
    if state.functions != functions_checksum():
        parts += [
            functions(),
            "-- Version 0 is the set of functions.",
            "insert into @extschema@.migration (version, name, checksum) "
            f"values (0, 'functions', '{functions_checksum()}') on conflict (version) do update "
            "set checksum = excluded.checksum, applied_at = excluded.applied_at;",
        ]
    parts.append("select @extschema@._partitions();")
    return render("\n".join(parts) + "\n", schema)


def read_state(schema: str) -> tuple[Statement[bool], Statement[SchemaState]]:
    """Two statements: whether anything is installed, and (only then) what."""
    exists = Statement(
        "select exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace "
        "where n.nspname = %s and c.relname = 'migration')",
        (schema,),
        lambda rows: bool(rows[0][0]),
    )

    def read(rows: list[Row]) -> SchemaState:
        version, checksum = rows[0]
        return SchemaState(schema, version or 0, checksum or "")

    what = Statement(
        f'select max(version), max(checksum) from "{checked_schema(schema)}".migration',  # noqa: S608 - checked
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
