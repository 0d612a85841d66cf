"""The examination as a whole: whoever asks, whatever is in its way."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import psycopg_pool
import pytest
from psycopg.conninfo import make_conninfo

from pgqueue import AsyncClient, Client, DatabaseUnavailable, InvalidJob
from pgqueue.doctor import Level, aexamine, examine, patient
from pgqueue.doctor.examination import CHECKS

from .conftest import Sql, of

NAMES = [check.name for check in CHECKS]


def names(findings: Any) -> list[str]:
    """Each check once, in their order."""
    return list(dict.fromkeys(finding.check for finding in findings))


def test_every_check_has_a_finding_with_advice_where_it_needs_one(pgqueue_client: Client) -> None:
    """What needs attention says what to do."""
    found = examine(pgqueue_client)
    assert names(found) == NAMES
    assert all(f.advice for f in found if f.level.needs_attention)


async def _both(client: AsyncClient) -> tuple[Any, Any]:
    """Awaited, and called from a coroutine."""
    return await aexamine(client), examine(client)


def test_both_clients_can_be_examined(pgqueue_dsn: str, pgqueue_client: Client) -> None:
    """With the same findings; the blocking call works under a running event loop, too."""
    awaited, called = asyncio.run(_both(AsyncClient(pgqueue_dsn)))
    expected = [(f.check, f.level) for f in examine(pgqueue_client)]
    assert [(f.check, f.level) for f in awaited] == expected
    assert [(f.check, f.level) for f in called] == expected


def test_client_whose_pool_is_drained_can_be_examined(pgqueue_dsn: str) -> None:
    """Its own connections are left alone."""
    pool = psycopg_pool.ConnectionPool(pgqueue_dsn, min_size=1, max_size=1, open=True)
    with pool, pool.connection(), Client(pool) as client:
        assert names(examine(client)) == NAMES


@pytest.mark.parametrize("access", ["worker", "viewer", "producer", None])
def test_any_role_gets_all_checks(sql: Sql, role: str, as_role: Client, access: str | None) -> None:
    """What it may not see is a notice, never an error."""
    if access:
        sql("select pgqueue.grant_access(%s, %s)", role, access)
    as_role_found = examine(as_role)
    assert names(as_role_found) == NAMES
    skipped = {f.check for f in as_role_found if f.seen.startswith("not done")}
    if access in ("worker", "viewer"):
        assert skipped == set()
    if access is None:
        assert "waiting" in skipped
        assert of("schema", as_role_found)[0].level is Level.NOTICE
        assert of("role", as_role_found)[0].level is Level.CRITICAL


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_other_isolation_does_not_matter(pgqueue_dsn: str, sql: Sql, isolation: str) -> None:
    """Nothing is written in any case."""
    sql(f"alter database {sql('select current_database()')[0][0]} set "
        f"default_transaction_isolation = '{isolation}'")  # fmt: skip
    with Client(pgqueue_dsn) as client:
        assert names(examine(client)) == NAMES


def test_locked_table_costs_a_second_and_is_told(
    pgqueue_client: Client, connect: Callable[..., psycopg.Connection[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The other checks are done."""
    monkeypatch.setattr(patient, "_PRELUDE", patient._PRELUDE.replace("'1s'", "'50ms'"))
    connect().execute("lock table pgqueue.job in access exclusive mode")
    found = examine(pgqueue_client)
    assert names(found) == NAMES
    (waiting,) = of("waiting", found)
    assert waiting.level is Level.WARNING
    assert waiting.seen.startswith("not done within 1s")
    assert "pg_blocking_pids" in waiting.advice
    assert of("partitions", found)[0].level is Level.OK


def test_server_that_is_gone_is_a_typed_error() -> None:
    """As with any operation."""
    with (
        Client("postgresql://nobody@/nowhere?host=/nonexistent") as client,
        pytest.raises(DatabaseUnavailable, match="cannot be reached"),
    ):
        examine(client)


def test_session_that_is_ended_meanwhile_is_a_typed_error(
    pgqueue_client: Client, monkeypatch: pytest.MonkeyPatch, sql: Sql
) -> None:
    """No finding is made up from it."""
    asked = patient.Patient.ask

    async def ask(self: patient.Patient, text: str) -> list[patient.Row]:
        if "archive" in text:
            sql("select pg_terminate_backend(%s, 5000)", self.pid)
        return await asked(self, text)

    monkeypatch.setattr(patient.Patient, "ask", ask)
    with pytest.raises(DatabaseUnavailable):
        examine(pgqueue_client)


def test_server_that_says_nothing_any_more_is_given_up(
    pgqueue_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even when its own deadline does not hold."""
    monkeypatch.setattr(patient, "REPLY_TIMEOUT", 0.2)
    monkeypatch.setattr(patient, "_PRELUDE", patient._PRELUDE.replace("'1s'", "'60s'"))

    async def wait() -> None:
        async with patient.connected(pgqueue_client.dsn, "pgqueue") as conn:
            await patient.ask(conn, "select pg_sleep(50)", "pgqueue")

    with pytest.raises(DatabaseUnavailable):
        asyncio.run(wait())


def test_port_that_answers_nothing_is_given_up(tmp_path: Path) -> None:
    """By the time to connect that the DSN allows."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / ".s.PGSQL.5432"))
        listener.listen()
        dsn = make_conninfo(host=str(tmp_path), user="x", connect_timeout=2)
        with Client(dsn) as client, pytest.raises(DatabaseUnavailable):
            examine(client)


def test_nothing_is_left_behind(pgqueue_client: Client, sql: Sql) -> None:
    """Neither rows nor sessions; and nothing was written."""
    pgqueue_client.enqueue("a")
    before = sql(
        "select pg_current_xact_id()::text::bigint, (select count(*) from pgqueue.all_jobs)"
    )
    examine(pgqueue_client)
    after = sql(
        "select pg_current_xact_id()::text::bigint, (select count(*) from pgqueue.all_jobs)"
    )
    assert after[0][1] == before[0][1]


def test_interval_must_be_a_span(pgqueue_client: Client) -> None:
    """Zero would divide by nothing."""
    with pytest.raises(InvalidJob, match="interval"):
        examine(pgqueue_client, interval=timedelta(0))
