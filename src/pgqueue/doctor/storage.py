"""Checks of what slows a queue down: old snapshots, dead rows, vacuum, partitions."""

from __future__ import annotations

from datetime import timedelta

import attrs

from pgqueue.doctor.findings import Level, Sign, critical, notice, ok, warning
from pgqueue.doctor.patient import Patient
from pgqueue.sessions import HOLDERS
from pgqueue.words import quantity, size, span

_WORSE = 12
_MANY = 10
"""Times a limit that make a warning critical: of time, and of counts."""
_SHOWN = 5
"""So many holders of old snapshots are named."""
_PREPARED = """
select p.gid, p.owner::text, extract(epoch from clock_timestamp() - p.prepared)::float8,
    age(p.transaction)
from pg_prepared_xacts p where p.database = current_database() order by p.prepared limit 100
"""
_STANDBYS = """
select coalesce(r.application_name, ''), coalesce(r.client_addr::text, 'local'), age(r.backend_xmin)
from pg_stat_replication r where r.backend_xmin is not null
"""
_SLOTS = """
select s.slot_name::text, s.active, coalesce(age(s.xmin), -1), coalesce(age(s.catalog_xmin), -1),
    case when pg_is_in_recovery() then null
        else pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn)::bigint end
from pg_replication_slots s
where s.database is null or s.database = current_database()
"""
_TABLE = """
select greatest(s.n_live_tup, c.reltuples::bigint, 0), s.n_dead_tup,
    extract(epoch from clock_timestamp() - greatest(s.last_vacuum, s.last_autovacuum))::float8,
    s.seq_scan, pg_table_size(c.oid), pg_indexes_size(c.oid)
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_stat_all_tables s on s.relid = c.oid
where n.nspname = '@extschema:name@' and c.relname = 'job'
"""
_INDEXES = """
select i.relname, pg_relation_size(i.oid), x.indisvalid
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_index x on x.indrelid = c.oid
join pg_class i on i.oid = x.indexrelid
where n.nspname = '@extschema:name@' and c.relname = 'job'
order by i.relname
"""
_BYTES_A_ROW = 1_000
_OPTIONS = """
select current_setting('autovacuum'), current_setting('track_counts'),
    array(select option_name || '=' || option_value from pg_options_to_table(c.reloptions)),
    (select count(*) from pg_stat_activity a where a.backend_type = 'autovacuum worker'),
    current_setting('autovacuum_max_workers')::int
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = '@extschema:name@' and c.relname = 'job'
"""
OPTIONS = {
    "fillfactor": "40",
    "autovacuum_vacuum_scale_factor": "0.01",
    "autovacuum_vacuum_threshold": "5000",
    "autovacuum_analyze_scale_factor": "0.1",
    "autovacuum_analyze_threshold": "5000",
    "autovacuum_vacuum_cost_delay": "0",
    "vacuum_truncate": "off",
}
"""Those of the table `job`, as migration 1 has them."""
_PARTITIONS = """
select c.class, max(b.until) > v.now as now_covered, max(b.until) > v.now + v.width as next_covered,
    count(*) filter (where b.until < v.now - c.kept - v.width), max(b.until) - v.now
from (select s.retention, s.dead_retention, s.partition_width as width, @extschema@.clock() as now
      from @extschema@.setting s) v
cross join lateral (values ('done', v.retention), ('dead', v.dead_retention)) c (class, kept)
left join lateral @extschema@._bounds(c.class) b on true
group by c.class, v.now, v.width
"""
_STRAY = """
select count(*) from (select from @extschema@.archive_{class}_default limit 1001) d
"""
_SHOWN_STRAYS = 1_000


async def horizon(patient: Patient) -> list[Sign]:
    """Who keeps vacuum from removing dead rows."""
    signs: list[Sign] = []
    oldest, hidden = 0.0, 0
    for pid, program, user, state, query, seconds, xids, _ in await patient.ask(HOLDERS):
        level = _level(patient, seconds, xids)
        hidden += seconds is None
        oldest = max(oldest, seconds or 0.0)
        if level is not None and len(signs) < _SHOWN:
            what = f"{state}, its last statement" if (state or "").startswith("idle") else state
            about = f"{what}: {query}" if state else "its query needs pg_monitor"
            seen = f"pid {pid} ({program or user}) holds {_age(seconds, xids)}; {about}"
            advice = (
                f"select pg_terminate_backend({pid})  -- and against the next: alter role "
                f"{user or '...'} set idle_in_transaction_session_timeout = '5min'"
            )
            signs.append(Sign(level, seen, advice))
    for gid, owner, seconds, xids in await patient.ask(_PREPARED):
        oldest = max(oldest, seconds)
        if (level := _level(patient, seconds, xids)) is not None:
            seen = f"prepared transaction {gid!r} of {owner} holds {_age(seconds, xids)}"
            literal = gid.replace("'", "''")
            signs.append(Sign(level, seen, f"rollback prepared '{literal}'  -- or commit prepared"))
    for name, address, xids in await patient.ask(_STANDBYS):
        if (level := _level(patient, None, xids)) is not None:
            seen = f"standby {name or address} (hot_standby_feedback) holds {_age(None, xids)}"
            advice = "end the long query there, or set hot_standby_feedback = off on it"
            signs.append(Sign(level, seen, advice))
    if hidden and not signs and not patient.sees_sessions:
        return [
            notice(
                f"{quantity(hidden, 'session')} of other roles hold snapshots of unknown age",
                f"needs pg_monitor: grant pg_monitor to {patient.role}",
            )
        ]
    return signs or [ok(f"the oldest snapshot is {span(timedelta(seconds=oldest))} old")]


def _level(patient: Patient, seconds: float | None, xids: int | None) -> Level | None:
    limits = patient.limits
    times = (seconds or 0.0) / max(limits.snapshot.total_seconds(), 1e-9)
    counts = (xids or 0) / max(limits.snapshot_xids, 1)
    if times >= _WORSE or counts >= _MANY:
        return Level.CRITICAL
    return Level.WARNING if times >= 1 or counts >= 1 else None


def _age(seconds: float | None, xids: int | None) -> str:
    began = f"{quantity(xids or 0, 'transaction')} ago"
    if seconds is None:
        return f"a snapshot of {began}"
    return f"a snapshot for {span(timedelta(seconds=seconds))} ({began})"


async def slots(patient: Patient) -> list[Sign]:
    """Whether replication slots hold rows or WAL back."""
    signs = []
    rows = await patient.ask(_SLOTS)
    for name, active, xids, catalog_xids, kept in rows:
        drop = f"select pg_drop_replication_slot('{name}')  -- if nobody needs it any more"
        used = "in use" if active else "not in use"
        level = _level(patient, None, max(xids, catalog_xids))
        if level is not None:
            rows_of = "rows" if xids >= 0 else "rows of the catalog"
            age = quantity(max(xids, catalog_xids), "transaction")
            seen = f"replication slot {name}, {used}, keeps dead {rows_of} of {age}"
            signs.append(Sign(level, seen, drop))
        if kept is not None and not active and kept >= patient.limits.kept_wal:
            seen = f"replication slot {name}, {used}, keeps {size(kept)} of WAL: the disk fills up"
            signs.append(
                (critical if kept >= _MANY * patient.limits.kept_wal else warning)(seen, drop)
            )
    return signs or [ok(quantity(len(rows), "replication slot"))]


@attrs.frozen
class Dead:
    """The state of the table `job`."""

    live: int
    dead: int
    unvacuumed: float | None
    """Seconds since the last vacuum; None: never."""
    scans: int
    table_size: int
    index_size: int


async def dead(patient: Patient) -> Dead:
    """Counts of the table `job`, from the statistics: nothing is read."""
    return Dead(*(await patient.ask(_TABLE))[0])


async def dead_rows(patient: Patient) -> list[Sign]:
    """Whether vacuum keeps up."""
    found, limits = await dead(patient), patient.limits
    vacuum = (
        "never vacuumed"
        if found.unvacuumed is None
        else f"vacuumed {span(timedelta(seconds=found.unvacuumed))} ago"
    )
    seen = (
        f"{found.dead:,} dead and {found.live:,} live rows in {size(found.table_size)}, indexes "
        f"{size(found.index_size)}; {vacuum}"
    )
    late = found.unvacuumed is None or found.unvacuumed >= limits.unvacuumed.total_seconds()
    if found.dead < limits.dead_rows or not late:
        return [ok(seen)]
    level = Level.CRITICAL if found.dead >= _MANY * limits.dead_rows else Level.WARNING
    advice = f"see horizon and autovacuum; then: vacuum (verbose) {patient.quoted}.job"
    return [Sign(level, seen, advice)]


async def indexes(patient: Patient) -> list[Sign]:
    """Whether indexes of `job` are bloated, or broken."""
    live = (await dead(patient)).live
    signs, total = [], 0
    for name, length, valid in await patient.ask(_INDEXES):
        total += length
        if not valid:
            seen = f"index {name} is invalid: a reindex or create index was interrupted"
            signs.append(warning(seen, f'drop index concurrently {patient.quoted}."{name}"'))
        elif length >= max(patient.limits.index_size, live * _BYTES_A_ROW):
            seen = f"index {name} has {size(length)} for {quantity(live, 'job')}"
            advice = f'reindex index concurrently {patient.quoted}."{name}"'
            signs.append(warning(seen, advice))
    return signs or [ok(f"{size(total)} for {quantity(live, 'job')}")]


def trend(before: Dead, after: Dead, seconds: float) -> list[Sign]:
    """What changed between two samples."""
    rate = (after.dead - before.dead) / seconds
    scans = after.scans - before.scans
    seen = f"dead rows {rate:+,.0f} a second, {quantity(scans, 'sequential scan')} of the table job"
    seen += f", within {span(timedelta(seconds=seconds))}"
    if scans and after.live >= _BIG:
        who = "find who: select query, calls from pg_stat_statements where query ~ 'job'"
        return [warning(f"{seen}; each reads {size(after.table_size)}", who)]
    return [ok(seen)]


_BIG = 10_000
"""Rows from which on a sequential scan is a waste."""


async def autovacuum(patient: Patient) -> list[Sign]:
    """Whether autovacuum runs, with our settings."""
    running, counting, given, workers, most = (await patient.ask(_OPTIONS))[0]
    found = dict(option.split("=", 1) for option in given)
    signs = []
    for name, value in (("autovacuum", running), ("track_counts", counting)):
        if value == "off":
            advice = f"alter system set {name} = on; select pg_reload_conf()"
            signs.append(critical(f"{name} is off: dead rows are never removed", advice))
    if found.get("autovacuum_enabled") in ("false", "off"):
        advice = f"alter table {patient.quoted}.job reset (autovacuum_enabled)"
        signs.append(critical("autovacuum_enabled is off for the table job", advice))
    changed = {name: value for name, value in OPTIONS.items() if found.get(name) != value}
    if changed:
        theirs = ", ".join(f"{name} is {found.get(name, 'not set')}" for name in changed)
        ours = ", ".join(f"{name} = {value}" for name, value in changed.items())
        advice = f"alter table {patient.quoted}.job set ({ours})"
        signs.append(notice(f"settings of the table job were changed: {theirs}", advice))
    if workers >= most:
        advice = "alter system set autovacuum_max_workers = ...; or let each work faster: "
        advice += "autovacuum_vacuum_cost_limit"
        signs.append(notice(f"all {most} autovacuum workers are at work", advice))
    busy = f"{workers} of {most} workers at work"
    if not patient.sees_sessions:
        busy = "how many workers are at work needs pg_monitor"
    return signs or [ok(f"on, with pgqueue's settings; {busy}")]


async def partitions(patient: Patient) -> list[Sign]:
    """Whether the archive has its partitions, and lets go of old ones."""
    upkeep = f"run a worker, or: {patient.command('maintain --every 1s')}"
    signs = []
    ahead = timedelta.max
    for kind, now, following, overdue, left in await patient.ask(_PARTITIONS):
        ahead = min(ahead, left or timedelta(0))
        if not now:
            seen = (
                f"archive_{kind} has no partition for now: what finishes lands in the default one"
            )
            signs.append(warning(seen, upkeep))
        elif not following:
            signs.append(warning(f"archive_{kind} has a partition for {span(left)} only", upkeep))
        if overdue:
            seen = f"{quantity(overdue, 'partition')} of archive_{kind} outlived the retention"
            advice = f"{upkeep}; something may depend on it: drop table ... shows what"
            signs.append(warning(seen, advice))
        stray = (await patient.ask(_STRAY.format(**{"class": kind})))[0][0]
        if stray:
            many = f"over {_SHOWN_STRAYS:,}" if stray > _SHOWN_STRAYS else f"{stray:,}"
            seen = f"archive_{kind}_default holds {many} jobs, which are deleted row by row"
            advice = f"{upkeep}; up to 20,000 of a day move when it makes that day's partition"
            signs.append(warning(seen, advice))
    return signs or [ok(f"partitions for the next {span(ahead)}")]
