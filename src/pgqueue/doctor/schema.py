"""Checks of what is installed, and of what the role may do with it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pgqueue import migrate
from pgqueue.doctor.findings import Sign, critical, notice, ok, warning
from pgqueue.doctor.patient import Patient, Row
from pgqueue.version import __version__

_SHOWN = 5
"""So many names are spelt out."""
_FUNCTION = re.compile(
    r"^create or replace (?:function|procedure) \S+?\.(\w+)\((.*?)"
    r"^(?:as \$\$(.*?)^\$\$|begin atomic.*?^end);",
    re.MULTILINE | re.DOTALL,
)
_DEFINED = """
select p.proname, p.prosrc from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where n.nspname = '@extschema:name@'
"""
_RIGHTS = """
select 'table', c.relname, array_remove(array[
        case when has_table_privilege(c.oid, 'select') then 'select' end,
        case when has_any_column_privilege(c.oid, 'insert') then 'insert' end,
        case when has_table_privilege(c.oid, 'update') then 'update' end,
        case when has_table_privilege(c.oid, 'delete') then 'delete' end], null)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = '@extschema:name@' and c.relkind in ('r', 'p')
union all
select 'sequence', c.relname, array_remove(array[
        case when has_sequence_privilege(c.oid, 'usage') then 'usage' end,
        case when has_sequence_privilege(c.oid, 'update') then 'update' end], null)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = '@extschema:name@' and c.relkind = 'S'
union all
select 'function', p.proname, array_remove(array[
        case when has_function_privilege(p.oid, 'execute') then 'execute' end], null)
from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where n.nspname = '@extschema:name@' and p.proname <> 'grant_access'
"""
_ROLE = """
select r.rolsuper, pg_has_role(n.nspowner, 'usage'), has_schema_privilege(n.oid, 'usage')
from pg_roles r, pg_namespace n where r.rolname = current_user and n.nspname = '@extschema:name@'
"""
_UNLOGGED = """
select quote_ident(c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = '@extschema:name@' and c.relkind = 'r' and c.relpersistence <> 'p'
order by c.relname
"""
_WRITE = {"select", "insert", "update", "delete"}
_REGISTER = {"usage", "update"}
_WORKER: dict[str, set[str]] = {
    "job": _WRITE,
    "archive": _WRITE,
    "lane": _WRITE,
    "sleeper": _WRITE,
    "schedule": _WRITE,
    "schedule_run": _WRITE,
    "poke_request": {"select", "delete"},
    "queue": {"select", "insert", "update"},
    "setting": {"select"},
    "migration": {"select"},
    "job_id_seq": {"usage"},
    "position_seq": {"usage"},
    "promote_floor": _REGISTER,
    "promote_rescan": _REGISTER,
    "reap_due": _REGISTER,
    "reap_rescan": _REGISTER,
    "lanes_due": _REGISTER,
    "lanes_rescan": _REGISTER,
    "partitions_due": _REGISTER,
    "schedule_floor": _REGISTER,
    "schedule_rescan": _REGISTER,
    "schedule_runs_due": _REGISTER,
    "schedule_id_seq": {"usage"},
    "_partitions": {"execute"},
}
"""What `grant_access(role, 'worker')` gives, and a worker needs."""
_VIEWER = {
    name: {"select"}
    for name in ("job", "archive", "lane", "sleeper", "queue", "setting", "migration")
}
_PRODUCER = {
    "job": {"insert"},
    "lane": {"select", "insert"},
    "sleeper": {"select"},
    "queue": {"select"},
    "setting": {"select"},
    "migration": {"select"},
    "job_id_seq": {"usage"},
    "position_seq": {"usage"},
}
_TENANT = {**_PRODUCER, "job": {"select", "insert", "delete"}, "archive": _WRITE}
_CRON: dict[str, set[str]] = {
    **_WORKER,
    "secret": _WRITE,
    "poke": {*_WRITE, "execute"},
    "poke_request": _WRITE,
    "put_secret": {"execute"},
    "remove_secret": {"execute"},
    "run_minute": {"execute"},
}
_TENANT_VIEWER = {name: {"select"} for name in ("job", "archive", "lane", "queue", "setting")}
_ACCESS = {
    "cron": _CRON,
    "worker": _WORKER,
    "viewer": _VIEWER,
    "producer": _PRODUCER,
    "tenant": _TENANT,
    "tenant_viewer": _TENANT_VIEWER,
}


async def version(patient: Patient) -> list[Sign]:
    """Whether the schema is there, and of this version."""
    state, latest = patient.state, migrate.latest_version()
    named = f"schema {patient.schema!r}"
    command = patient.command("migrate")
    if state is None:
        return [
            notice(
                f"its version cannot be read: {patient.role} lacks usage of {named}, or select on "
                "its table migration",
                f"select {patient.quoted}.grant_access({literal(patient.role)}, 'viewer')",
            )
        ]
    if not state.version:
        return [critical(f"pgqueue is not installed in {named}", command)]
    if state.newer:
        theirs = ".".join(map(str, state.release))
        return [
            notice(
                f"{named} is at version {state.version}, of pgqueue {theirs}; this pgqueue is "
                f"older ({__version__})",
                "pip install --upgrade pgqueue-jobs",
            )
        ]
    if not state.current:
        return [
            critical(
                f"{named} is at version {state.version} of {latest}, or its functions are another "
                "version's: workers refuse to start",
                command,
            )
        ]
    return [ok(f"{named} is at version {state.version}, of this pgqueue")]


async def functions(patient: Patient) -> list[Sign]:
    """Whether the functions are those that were installed."""
    if patient.state is None or not patient.state.current:
        return [notice("not compared: the schema is not this version's")]
    shipped = dict(shipped_functions(patient.schema))
    found: dict[str, list[str]] = {}
    for name, body in await patient.ask(_DEFINED):
        found.setdefault(name, []).append(body)
    missing = sorted(shipped.keys() - found.keys())
    changed = sorted(name for name in shipped.keys() & found.keys() if shipped[name] != found[name])
    signs = [
        warning(
            f"{_some(names)} {'is' if len(names) == 1 else 'are'} {what}",
            f"delete from {patient.quoted}.migration where version = 0  -- then: "
            + patient.command("migrate"),
        )
        for names, what in ((missing, "missing"), (changed, "not as shipped"))
        if names
    ]
    return signs or [ok(f"{len(shipped)} functions are as shipped")]


def shipped_functions(schema: str) -> Iterator[tuple[str, list[str]]]:
    """Each function's name, and its body as the catalog has it; a parsed body has no text."""
    for found in _FUNCTION.finditer(migrate.render(migrate.functions(), schema)):
        yield found[1], [found[3] or ""]


async def role(patient: Patient) -> list[Sign]:
    """What the role may do."""
    rows = await patient.ask(_ROLE)
    superuser, owner, usage = rows[0] if rows else (False, False, False)
    advice = (
        f"select {patient.quoted}.grant_access('app', 'worker')  -- and connect as that role: it "
        "needs no more"
    )
    if superuser:
        return [notice(f"{patient.role} is a superuser", advice)]
    if owner:
        return [notice(f"{patient.role} owns the schema", advice)]
    held = _held(await patient.ask(_RIGHTS)) if usage else {}
    access = next((name for name, mark in _MARKS.items() if _may(held, *mark)), None)
    grant = f"select {patient.quoted}.grant_access({literal(patient.role)}, '{{}}')"
    if access is None:
        return [
            critical(
                f"{patient.role} may neither run, nor read, nor enqueue jobs",
                grant.format("worker") + "  -- or viewer, or producer",
            )
        ]
    lacking = [
        f"{right} on {name}"
        for name, rights in _ACCESS[access].items()
        for right in sorted(rights - held.get(name, set()))
    ]
    if lacking:
        return [
            warning(
                f"{patient.role} is a {access}, but lacks {_some(lacking)}", grant.format(access)
            )
        ]
    return [ok(f"{patient.role} is a {access}")]


_MARKS = {
    "cron": ("poke", "execute"),
    "worker": ("lane", "delete"),
    "tenant": ("job", "delete"),
    "viewer": ("archive_dead", "select"),
    "tenant_viewer": ("archive", "select"),
    "producer": ("job", "insert"),
}
"""By which right each kind of access is known, the greatest first."""


def _held(rows: list[Row]) -> dict[str, set[str]]:
    held: dict[str, set[str]] = {}
    for _, name, rights in rows:
        held.setdefault(name, set()).update(rights)
    return held


def _may(held: dict[str, set[str]], name: str, right: str) -> bool:
    return right in held.get(name, set())


def literal(quoted: str) -> str:
    """A quoted name as a literal."""
    bare = quoted[1:-1].replace('""', '"') if quoted.startswith('"') else quoted
    return "'" + bare.replace("'", "''") + "'"


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


async def unlogged(patient: Patient) -> list[Sign]:
    """Whether a crash would empty tables."""
    names = [row[0] for row in await patient.ask(_UNLOGGED)]
    return [
        critical(
            f"table {name} is unlogged: a crash of the server empties it",
            f"alter table {patient.quoted}.{name} set logged",
        )
        for name in names
    ] or [ok("all tables are logged")]
