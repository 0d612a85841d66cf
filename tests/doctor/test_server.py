"""The server, its settings, and what lies between."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgqueue import Client, embedded
from pgqueue.doctor import Finding, Level, Limits, examine

from .conftest import Examine, Sql, levels, of, until

Alter = Callable[[str, str], None]


@pytest.mark.parametrize(
    "setting,level",
    [("fsync", "critical"), ("full_page_writes", "warning"), ("synchronous_commit", "warning")],
)
def test_settings_that_lose_what_was_committed(
    own: Client, alter: Alter, setting: str, level: str
) -> None:
    """Each on its own."""
    assert levels(of("durability", examine(own))) == {Level.OK}
    alter(setting, "off")
    (found,) = of("durability", examine(own))
    assert found.level == level
    assert found.seen.startswith(f"{setting} is off")


def test_synchronous_standby_that_is_missing_is_critical(own: Client, alter: Alter) -> None:
    """Commits wait for it; the doctor's do not."""
    assert levels(of("replication", examine(own))) == {Level.OK}
    alter("synchronous_standby_names", "nobody")
    found = examine(own)
    (replication,) = of("replication", found)
    assert replication.level is Level.CRITICAL
    assert "no such standby is connected" in replication.seen
    assert levels(of("doorbell", found)) == {Level.OK}


def test_standbys_are_hidden_from_whoever_lacks_pg_monitor(
    look: Examine, sql: Sql, role: str, as_role: Client
) -> None:
    """The notice names the grant."""
    (found,) = look("replication", target=as_role)
    assert (found.level, found.advice) == (
        Level.NOTICE,
        f"needs pg_monitor: grant pg_monitor to {role}",
    )
    sql(found.advice.partition(": ")[2])
    assert levels(look("replication", target=as_role)) == {Level.OK}


def test_read_only_role_is_critical(look: Examine, sql: Sql, as_role: Client, role: str) -> None:
    """It is found, and the advice mends it."""
    sql(f"alter role {role} set default_transaction_read_only = on")
    (found,) = look("server", target=as_role)
    assert found.level is Level.CRITICAL
    sql(found.advice)
    assert levels(look("server", target=as_role)) == {Level.OK}


def test_short_timeouts_of_the_role_are_warnings(
    look: Examine, sql: Sql, as_role: Client, role: str
) -> None:
    """Each is named; the advice mends it."""
    assert levels(look("timeouts", target=as_role)) == {Level.OK}
    names = (
        "statement_timeout",
        "idle_in_transaction_session_timeout",
        "lock_timeout",
        "idle_session_timeout",
    )
    for name in names:
        sql(f"alter role {role} set {name} = '900ms'")
    found = look("timeouts", target=as_role)
    assert levels(found) == {Level.WARNING}
    assert {f.seen.partition(":")[0] for f in found} == {f"{name} is 0.9s" for name in names}
    for finding in found:
        sql(finding.advice)
    assert levels(look("timeouts", target=as_role)) == {Level.OK}


def test_transaction_timeout_is_looked_at_where_there_is_one(
    look: Examine, sql: Sql, as_role: Client, role: str
) -> None:
    """From Postgres 17 on."""
    (version,) = sql("select current_setting('server_version_num')::int")
    if version[0] < 170000:
        pytest.skip("this Postgres has no transaction_timeout")
    sql(f"alter role {role} set transaction_timeout = '2s'")
    assert look("timeouts", target=as_role)[0].seen.startswith("transaction_timeout is 2s")


def test_other_isolation_is_a_notice(look: Examine, sql: Sql, as_role: Client, role: str) -> None:
    """It costs round trips, no more."""
    sql(f"alter role {role} set default_transaction_isolation = 'serializable'")
    (found,) = look("timeouts", target=as_role)
    assert found.level is Level.NOTICE
    assert "'serializable'" in found.seen


def test_old_transaction_ids_are_a_warning(look: Examine) -> None:
    """As a share of what autovacuum allows."""
    assert levels(look("freeze")) == {Level.OK}
    found = look("freeze", limits=Limits(frozen_share=0))
    assert levels(found) == {Level.WARNING}
    assert "the oldest transaction id is" in found[0].seen


def test_connections_that_run_out(own: Client, own_server: embedded.Server) -> None:
    """Few of those that are not reserved are left: a warning, then critical."""
    assert levels(of("connections", examine(own))) == {Level.OK}
    others: list[psycopg.Connection[Any]] = []
    try:
        others.extend(psycopg.connect(own_server.dsn) for _ in range(12))
        until(lambda: levels(of("connections", examine(own))) == {Level.WARNING})
        others.extend(psycopg.connect(own_server.dsn) for _ in range(3))
        (found,) = of("connections", examine(own, limits=Limits(connections_share=0.7)))
        assert found.level is Level.CRITICAL
        assert " of 17 connections are in use" in found.seen
    finally:
        for conn in others:
            conn.close()


def test_collation_of_another_system_is_a_warning(look: Examine, sql: Sql) -> None:
    """As after an upgrade of the system's ICU or C library."""
    (version,) = sql("select current_setting('server_version_num')::int")
    if version[0] < 150000:
        pytest.skip("before Postgres 15 databases have no collation version")
    assert levels(look("collation")) == {Level.OK}
    sql("update pg_database set datcollversion = '1.0' where datname = current_database()")
    (found,) = look("collation")
    assert found.level is Level.WARNING
    assert "made with collation version 1.0, the system has none" in found.seen


def test_full_queue_of_notifications(
    look: Examine, sql: Sql, connect: Callable[..., psycopg.Connection[Any]]
) -> None:
    """One that listens, but is in a transaction, keeps all that were sent since."""
    assert levels(look("notifications")) == {Level.OK}
    deaf = connect()
    deaf.execute("listen anything")
    deaf.commit()
    deaf.execute("select")
    sql("select pg_notify('anything', n || repeat('x', 7000)) from generate_series(1, 200) n")
    tight = Limits(notifications_share=1e-9)
    until(lambda: levels(look("notifications", limits=tight)) == {Level.CRITICAL})
    assert levels(look("notifications")) == {Level.OK}
    deaf.rollback()
    until(lambda: levels(look("notifications", limits=tight)) == {Level.OK})


def test_clocks_that_disagree(look: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second is a notice, a minute a warning; what the round trip leaves open is not counted."""
    assert levels(look("clock")) == {Level.OK}
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 30)
    (found,) = look("clock")
    assert found.level is Level.NOTICE
    assert "30s behind the database's" in found.seen or "29s behind" in found.seen
    assert levels(look("clock", limits=Limits(skew=timedelta(milliseconds=100)))) == {Level.WARNING}


def test_notification_is_heard(look: Examine) -> None:
    """On a second connection; it says that no pooler is between."""
    (found,) = look("doorbell")
    assert found.level is Level.OK
    assert found.seen.startswith("without a pooler: a notification was heard after ")


def worst(findings: list[Finding]) -> list[Finding]:
    """All that is not well."""
    return [finding for finding in findings if finding.level is not Level.OK]


def test_healthy_database_has_no_finding(own: Client, own_server: embedded.Server) -> None:
    """Seen by a worker that may also see the sessions of others, before and after some work."""
    with psycopg.connect(own_server.dsn, autocommit=True) as conn:
        conn.execute("create role healthy login")
        conn.execute("grant pg_monitor to healthy")
        conn.execute(f"select \"{own.schema}\".grant_access('healthy', 'worker')".encode())
        try:
            with Client(make_conninfo(own.dsn, user="healthy"), schema=own.schema) as worker:
                assert worst(examine(worker)) == []
                worker.enqueue_many([("a", {})] * 50)
                worker.maintain()
                worker.ack(worker.claim(limit=20))
                assert worst(examine(worker, interval=timedelta(milliseconds=10))) == []
        finally:
            conn.execute("drop owned by healthy")
            conn.execute("drop role healthy")
