"""Checks of the server and its settings."""

from __future__ import annotations

from datetime import timedelta

from pgqueue.doctor.findings import Sign, critical, notice, ok, warning
from pgqueue.doctor.patient import Patient
from pgqueue.words import span

_SETTINGS = """
select name, reset_val from pg_settings where name in (
    'fsync', 'full_page_writes', 'synchronous_commit', 'default_transaction_isolation',
    'default_transaction_read_only', 'statement_timeout', 'lock_timeout', 'transaction_timeout',
    'idle_in_transaction_session_timeout', 'idle_session_timeout')
"""
"""With reset_val: what a new session has. Ours has its own."""
_STANDBYS = """
select coalesce(application_name, ''), coalesce(client_addr::text, 'local'), state, sync_state,
    extract(epoch from replay_lag)::float8, current_setting('synchronous_standby_names')
from pg_stat_replication where backend_start is not null
union all
select null, null, null, null, null, current_setting('synchronous_standby_names')
"""
_AGES = """
select age(datfrozenxid), mxid_age(datminmxid),
    current_setting('autovacuum_freeze_max_age')::bigint,
    current_setting('autovacuum_multixact_freeze_max_age')::bigint
from pg_database where datname = current_database()
"""
_CONNECTIONS = """
select sum(numbackends)::bigint,
    current_setting('max_connections')::bigint
    - current_setting('superuser_reserved_connections')::bigint
    - coalesce(current_setting('reserved_connections', true), '0')::bigint
from pg_stat_database
"""
_COLLATION = """
select datcollversion, coalesce(pg_database_collation_actual_version(oid), 'none') from pg_database
where datname = current_database()
    and datcollversion <> coalesce(pg_database_collation_actual_version(oid), 'none')
"""
_SHORTEST_IDLE = timedelta(minutes=1)
_XIDS_LEFT = 1_000_000_000
"""Half of what there is before Postgres refuses to write."""
_COLLATION_SINCE = 150_000


async def settings(patient: Patient) -> dict[str, str]:
    """What a new session of this role has."""
    return dict(await patient.recall(_SETTINGS))


async def writable(patient: Patient) -> list[Sign]:
    """Whether it is the primary, and takes writes."""
    if patient.standby:
        return [
            critical(
                "this server is a standby: nothing can be enqueued or claimed here",
                "name all servers in the DSN, with target_session_attrs=read-write",
            )
        ]
    if (await settings(patient))["default_transaction_read_only"] == "on":
        return [
            critical(
                "default_transaction_read_only is on: nothing can be enqueued or claimed",
                f"alter role {patient.role} set default_transaction_read_only = off  -- or alter "
                f"database {patient.database}",
            )
        ]
    return [ok("this server takes writes")]


async def durability(patient: Patient) -> list[Sign]:
    """Whether what is committed is there after a crash."""
    found = await settings(patient)
    signs = []
    if found["fsync"] == "off":
        signs.append(
            critical(
                "fsync is off: a crash of the machine loses or corrupts anything",
                "alter system set fsync = on; select pg_reload_conf()",
            )
        )
    if found["full_page_writes"] == "off":
        signs.append(
            warning(
                "full_page_writes is off: a crash of the machine may corrupt pages, unless the "
                "file system never writes a part of one",
                "alter system set full_page_writes = on; select pg_reload_conf()",
            )
        )
    if found["synchronous_commit"] == "off":
        signs.append(
            warning(
                "synchronous_commit is off: a crash loses the last moments, enqueues that were "
                "reported as committed among them",
                f"alter role {patient.role} reset synchronous_commit  -- or where it was set: "
                "select source, sourcefile from pg_settings where name = 'synchronous_commit'",
            )
        )
    return signs or [ok(f"fsync is on, synchronous_commit is {found['synchronous_commit']}")]


async def replication(patient: Patient) -> list[Sign]:
    """Whether a failover would lose what was committed."""
    rows = await patient.ask(_STANDBYS)
    wanted = rows[-1][5]
    standbys = [row for row in rows if row[0] is not None]
    if not patient.sees_sessions:
        return [notice("standbys are not shown to this role", _needs_monitor(patient))]
    if wanted and not patient.standby and not any(row[3] in ("sync", "quorum") for row in standbys):
        return [
            critical(
                f"synchronous_standby_names is {wanted!r}, and no such standby is connected: "
                "commits wait for it",
                "start the standby; or alter system set synchronous_standby_names = ''; "
                "select pg_reload_conf()",
            )
        ]
    if not standbys:
        return [ok("no standby is connected")]
    seen = ", ".join(
        f"{name or address} ({sync}, {state}"
        + (f", {span(timedelta(seconds=lag))} behind)" if lag else ")")
        for name, address, state, sync, lag, _ in standbys
    )
    if wanted:
        return [ok(f"standbys: {seen}")]
    return [
        notice(
            f"standbys: {seen}; a failover loses what they lack",
            "alter system set synchronous_standby_names = 'ANY 1 (*)'; select pg_reload_conf()",
        )
    ]


def _needs_monitor(patient: Patient) -> str:
    return f"needs pg_monitor: grant pg_monitor to {patient.role}"


async def timeouts(patient: Patient) -> list[Sign]:
    """Whether the role's sessions are cut short, or isolated otherwise than need be."""
    found = await settings(patient)
    floors = {
        "statement_timeout": patient.limits.statement_timeout,
        "lock_timeout": timedelta(seconds=1),
        "transaction_timeout": patient.limits.statement_timeout,
        "idle_in_transaction_session_timeout": patient.limits.statement_timeout,
        "idle_session_timeout": _SHORTEST_IDLE,
    }
    signs = []
    for name, least in floors.items():
        given = timedelta(milliseconds=int(found.get(name, 0)))
        if timedelta(0) < given < least:
            signs.append(
                warning(
                    f"{name} is {span(given)}: too short for upkeep, bulk enqueues or handlers "
                    "that ack in their transaction",
                    f"alter role {patient.role} set {name} = '{span(least)}'",
                )
            )
    isolation = found["default_transaction_isolation"]
    if isolation != "read committed":
        signs.append(
            notice(
                f"default_transaction_isolation is {isolation!r}: pgqueue's own transactions ask "
                "for READ COMMITTED, at the price of a round trip or two",
                f"alter role {patient.role} set default_transaction_isolation = 'read committed'",
            )
        )
    return signs or [ok("no timeout is too short; read committed is the default")]


async def frozen(patient: Patient) -> list[Sign]:
    """Whether the database nears the end of its transaction ids."""
    xids, multis, most, most_multis = (await patient.ask(_AGES))[0]
    signs = []
    for what, age, limit in (("transaction", xids, most), ("multixact", multis, most_multis)):
        if age >= limit * patient.limits.frozen_share:
            seen = (
                f"the oldest {what} id is {age:,} old; autovacuum was to freeze it at {limit:,}, "
                "and something keeps it from that"
            )
            advice = "see to what holds old snapshots, then: vacuum (freeze, verbose)"
            signs.append((critical if age >= _XIDS_LEFT else warning)(seen, advice))
    return signs or [ok(f"the oldest transaction id is {xids:,} old, of {most:,}")]


async def connections(patient: Patient) -> list[Sign]:
    """Whether there are connections left."""
    used, most = (await patient.ask(_CONNECTIONS))[0]
    seen = f"{used:,} of {most:,} connections are in use"
    share = patient.limits.connections_share
    if used < share * most:
        return [ok(seen)]
    advice = (
        "lower pool_size and the number of workers, put PgBouncer before the server, or raise "
        "max_connections; who has them: select usename, application_name, state, count(*) "
        "from pg_stat_activity group by 1, 2, 3 order by 4 desc"
    )
    return [(critical if used >= (1 + share) / 2 * most else warning)(seen, advice)]


async def collation(patient: Patient) -> list[Sign]:
    """Whether the system's locales changed under the database."""
    if patient.version < _COLLATION_SINCE:
        return [ok("not recorded before Postgres 15; pgqueue's own indexes need no locale")]
    rows = await patient.ask(_COLLATION)
    if not rows:
        return [ok("the database's collation is the system's")]
    then, now = rows[0]
    return [
        warning(
            f"the database was made with collation version {then}, the system has {now}: indexes "
            "on text may be corrupt (not pgqueue's, which are in collation C)",
            f"reindex database {patient.database}; "
            f"alter database {patient.database} refresh collation version",
        )
    ]
