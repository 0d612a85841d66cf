"""Old snapshots, dead rows, vacuum, partitions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from pgqueue import Client, embedded
from pgqueue.doctor import Level, Limits, examine
from pgqueue.testing import travel

from .conftest import NONE, Examine, Sql, levels, of, until
from .standby import follow

Connect = Callable[..., psycopg.Connection[Any]]
MOMENT = Limits(snapshot=timedelta(milliseconds=1))
"""With which any snapshot is an old one."""


def test_session_that_holds_a_snapshot_is_named(look: Examine, connect: Connect) -> None:
    """With its pid, program, state, statement and age; it is gone when the session is."""
    assert levels(look("horizon")) == {Level.OK}
    assert levels(look("horizon", limits=MOMENT)) == {Level.OK}
    holder = connect(application_name="report")
    holder.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
    holder.execute("select count(*),\n pg_backend_pid() from pgqueue.job")
    assert levels(look("horizon")) == {Level.OK}
    (found,) = look("horizon", limits=MOMENT)
    pid = holder.info.backend_pid
    assert found.level is Level.CRITICAL
    assert found.seen.startswith(f"pid {pid} (report) holds a snapshot for 0.")
    about = "idle in transaction, its last statement: "
    assert found.seen.endswith(f"{about}select count(*), pg_backend_pid() from pgqueue.job")
    _run(connect(), found.advice)
    with pytest.raises(psycopg.errors.AdminShutdown):
        holder.execute("select")
    assert levels(look("horizon", limits=MOMENT)) == {Level.OK}


def _run(conn: psycopg.Connection[Any], advice: str) -> None:
    conn.autocommit = True
    conn.execute(advice.partition("  --")[0].encode())


def test_session_that_wrote_holds_rows_without_a_snapshot(look: Examine, connect: Connect) -> None:
    """Between statements at READ COMMITTED it has only its transaction's id."""
    writer = connect()
    writer.execute("insert into pgqueue.queue values ('x')")
    (found,) = look("horizon", limits=MOMENT)
    assert f"pid {writer.info.backend_pid} " in found.seen


def test_age_in_transactions_counts_too(look: Examine, connect: Connect, sql: Sql) -> None:
    """A busy server makes many dead rows within minutes."""
    connect().execute("insert into pgqueue.queue values ('x')")
    for _ in range(3):
        sql("select pg_current_xact_id()")
    assert levels(look("horizon", limits=Limits(snapshot_xids=2))) == {Level.WARNING}


def test_other_roles_sessions_need_pg_monitor(
    look: Examine, connect: Connect, sql: Sql, role: str, as_role: Client
) -> None:
    """Without it their age in transactions is all that is known."""
    connect().execute("insert into pgqueue.queue values ('x')")
    (hidden,) = look("horizon", target=as_role)
    assert hidden.level is Level.NOTICE
    assert hidden.advice == f"needs pg_monitor: grant pg_monitor to {role}"
    sql("select pg_current_xact_id()")
    (old,) = look("horizon", target=as_role, limits=Limits(snapshot_xids=1))
    assert "its query needs pg_monitor" in old.seen
    sql(hidden.advice.partition(": ")[2])
    assert levels(look("horizon", target=as_role)) == {Level.OK}
    assert "insert into" in look("horizon", target=as_role, limits=MOMENT)[0].seen


def test_names_that_others_chose_are_quoted_in_advice(
    look: Examine, sql: Sql, pgqueue_dsn: str
) -> None:
    """It is meant to be pasted."""
    sql('create role "odd; drop" login')
    try:
        with psycopg.connect(pgqueue_dsn, user="odd; drop") as holder:
            holder.execute("select pg_current_xact_id()")
            (found,) = look("horizon", limits=MOMENT)
            assert 'alter role "odd; drop" set' in found.advice
    finally:
        sql('drop role "odd; drop"')


def test_prepared_transaction_is_named(own: Client) -> None:
    """The advice ends it."""
    with psycopg.connect(own.dsn, autocommit=True) as conn:
        conn.execute("begin; create table kept (); prepare transaction 'o''clock'")
        (found,) = of("horizon", examine(own, limits=MOMENT))
        assert found.level is Level.CRITICAL
        assert 'prepared transaction "o\'clock" of postgres' in found.seen
        _run(conn, found.advice)
    assert levels(of("horizon", examine(own, limits=MOMENT))) == {Level.OK}


def test_slot_without_a_reader_is_named(own: Client) -> None:
    """What it keeps: rows of the catalog, and WAL; the advice drops it."""
    with psycopg.connect(own.dsn, autocommit=True) as conn:
        conn.execute("select pg_create_logical_replication_slot('forgotten', 'pgoutput')")
        assert levels(of("slots", examine(own))) == {Level.OK}
        for _ in range(2):
            conn.execute("select pg_current_xact_id()")
        conn.execute("select pg_switch_wal()")
        rows, wal = of("slots", examine(own, limits=Limits(snapshot_xids=1, kept_wal=1024)))
        assert rows.seen.startswith(
            "replication slot forgotten, not in use, keeps dead rows of the catalog"
        )
        assert wal.seen.startswith("replication slot forgotten, not in use, keeps ")
        assert " of WAL" in wal.seen
        _run(conn, wal.advice)
    assert levels(of("slots", examine(own))) == {Level.OK}


def _statistics(sql: Sql) -> int:
    (row,) = sql("select n_dead_tup from pg_stat_all_tables where relid = 'pgqueue.job'::regclass")
    return int(row[0])


def test_dead_rows_that_nobody_vacuums(look: Examine, sql: Sql, pgqueue_client: Client) -> None:
    """A vacuum mends it."""
    sql("alter table pgqueue.job set (autovacuum_enabled = off)")
    pgqueue_client.enqueue_many([("a", {})] * 500)
    pgqueue_client.purge("default")
    pgqueue_client.close()  # sessions report what they did when they end
    until(lambda: _statistics(sql) >= 500)
    assert levels(look("dead-rows")) == {Level.OK}
    assert levels(look("dead-rows", limits=Limits(dead_rows=400))) == {Level.WARNING}
    (found,) = look("dead-rows", limits=Limits(dead_rows=40, unvacuumed=NONE))
    assert found.level is Level.CRITICAL
    assert "never vacuumed" in found.seen
    sql("vacuum pgqueue.job")
    until(lambda: _statistics(sql) == 0)
    (found,) = look("dead-rows", limits=Limits(dead_rows=400))
    assert found.level is Level.OK
    assert "vacuumed" in found.seen


def test_bloated_and_invalid_indexes_are_named(
    look: Examine, sql: Sql, pgqueue_client: Client
) -> None:
    """The advice makes a bloated one small again."""
    pgqueue_client.enqueue_many([("a", {})] * 5_000)
    pgqueue_client.purge("default")
    sql("vacuum pgqueue.job")
    assert levels(look("indexes")) == {Level.OK}
    bloated = look("indexes", limits=Limits(index_size=65_536))
    assert {f.seen.split()[1] for f in bloated} == {"job_ready", "job_pkey"}
    assert levels(bloated) == {Level.WARNING}
    for finding in bloated:
        sql(finding.advice)
    assert levels(look("indexes", limits=Limits(index_size=65_536))) == {Level.OK}
    sql("update pg_index set indisvalid = false where indexrelid = 'pgqueue.job_ref'::regclass")
    (found,) = look("indexes")
    assert found.seen.startswith("index job_ref is invalid")


def test_trend_tells_what_grew(pgqueue_client: Client) -> None:
    """Between two samples, as far as sessions have reported."""
    found = examine(pgqueue_client, interval=timedelta(milliseconds=50))
    (trend,) = of("trend", found)
    assert trend.level is Level.OK
    assert trend.seen.startswith("dead rows +0 a second, 0 sequential scans")
    assert [f for f in examine(pgqueue_client) if f.check == "trend"] == []


def test_sequential_scans_of_a_big_table_are_a_warning(
    pgqueue_client: Client, connect: Connect
) -> None:
    """Each of them reads all of it, as somebody's own count does."""
    pgqueue_client.enqueue_many([("a", {})] * 12_000)
    pgqueue_client.close()
    connect(autocommit=True).execute("analyze pgqueue.job")
    with ThreadPoolExecutor(1) as thread:
        examining = thread.submit(examine, pgqueue_client, interval=timedelta(seconds=2))
        while not examining.done():
            with connect() as conn:  # a session reports what it did when it ends
                conn.execute("set enable_indexonlyscan = off; set enable_indexscan = off")
                conn.execute("set enable_bitmapscan = off; select count(*) from pgqueue.job")
        (trend,) = of("trend", examining.result())
    assert trend.level is Level.WARNING
    assert " sequential scans of the table job" in trend.seen
    assert "each reads " in trend.seen


def test_autovacuum_turned_off_is_critical(own: Client, alter: Callable[[str, str], None]) -> None:
    """For the server or for the table."""
    assert levels(of("autovacuum", examine(own))) == {Level.OK}
    alter("autovacuum", "off")
    (found,) = of("autovacuum", examine(own))
    assert (found.level, found.seen) == (
        Level.CRITICAL,
        "autovacuum is off: dead rows are never removed",
    )


def test_autovacuum_workers_are_not_counted_by_whoever_cannot_see_them(
    look: Examine, sql: Sql, role: str, as_role: Client
) -> None:
    """None seen is not none at work."""
    assert look("autovacuum", target=as_role)[0].seen.endswith("needs pg_monitor")
    sql(f"grant pg_monitor to {role}")
    assert look("autovacuum", target=as_role)[0].seen.endswith(" workers at work")


def test_changed_table_settings_are_told(look: Examine, sql: Sql) -> None:
    """The advice sets them as they were."""
    assert levels(look("autovacuum")) == {Level.OK}
    sql("alter table pgqueue.job set (autovacuum_enabled = off, fillfactor = 100)")
    sql("alter table pgqueue.job reset (autovacuum_vacuum_threshold)")
    off, changed = look("autovacuum")
    assert (off.level, changed.level) == (Level.CRITICAL, Level.NOTICE)
    assert "fillfactor is 100, autovacuum_vacuum_threshold is not set" in changed.seen
    sql(off.advice)
    sql(changed.advice)
    assert levels(look("autovacuum")) == {Level.OK}


def test_partitions_that_nobody_makes(look: Examine, sql: Sql, pgqueue_client: Client) -> None:
    """Ahead of time at first, then for now; what ends then lands in a default partition."""
    assert levels(look("partitions")) == {Level.OK}
    travel(pgqueue_client, timedelta(days=3))
    ahead = look("partitions")
    assert levels(ahead) == {Level.WARNING}
    assert "has a partition for" in ahead[0].seen
    travel(pgqueue_client, timedelta(days=20))
    pgqueue_client.enqueue("a")
    pgqueue_client.ack(pgqueue_client.claim())
    seen = sorted(f.seen.partition(":")[0] for f in look("partitions"))
    assert seen == [
        "4 partitions of archive_done outlived the retention",
        "archive_dead has no partition for now",
        "archive_done has no partition for now",
        "archive_done_default holds 1 jobs, which are deleted row by row",
    ]
    sql("select setval('pgqueue.partitions_due', 0)")
    pgqueue_client.maintain()
    assert levels(look("partitions")) == {Level.OK}


@pytest.fixture
def standby(own_server: embedded.Server) -> Iterator[str]:
    """The DSN of a standby of that server, which tells it of its snapshots."""
    with follow(own_server) as dsn:
        yield dsn


def test_standby_is_told_apart(own: Client, standby: str) -> None:
    """It takes no writes; the primary names it as asynchronous, and as the holder of a snapshot."""
    with Client(standby, schema=own.schema) as client:
        found = examine(client)
    assert levels(of("server", found)) == {Level.CRITICAL}
    assert levels(of("doorbell", found)) == {Level.NOTICE}
    (replication,) = of("replication", examine(own))
    assert replication.level is Level.NOTICE
    assert "(async, streaming" in replication.seen
    with psycopg.connect(standby) as reader, psycopg.connect(own.dsn, autocommit=True) as conn:
        reader.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        reader.execute("select count(*) from pg_class")

        def held() -> list[str]:
            conn.execute("select pg_current_xact_id()")
            limits = Limits(snapshot_xids=2)
            return [f.seen for f in of("horizon", examine(own, limits=limits))]

        until(lambda: "(hot_standby_feedback) holds a snapshot of" in held()[0])
