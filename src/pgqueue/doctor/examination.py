"""All checks, one after another: none of them can keep the others from being done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import attrs
import psycopg

from pgqueue import migrate
from pgqueue.arguments import checked_span
from pgqueue.doctor import cron, network, patient, schedules, schema, server, storage, work
from pgqueue.doctor.findings import Finding, Limits, Sign, notice, warning
from pgqueue.doctor.patient import DEADLINE, Patient

if TYPE_CHECKING:
    from pgqueue.aclient import AsyncClient
    from pgqueue.client import Client
    from pgqueue.migrate import SchemaState
    from pgqueue.statements import Statement

T = TypeVar("T")


@attrs.frozen
class Check:
    """One check, by name."""

    name: str
    look: Callable[[Patient], Awaitable[list[Sign]]]
    needs_schema: bool = True


CHECKS = (
    Check("server", server.writable, needs_schema=False),
    Check("schema", schema.version, needs_schema=False),
    Check("functions", schema.functions),
    Check("role", schema.role),
    Check("durability", server.durability, needs_schema=False),
    Check("replication", server.replication, needs_schema=False),
    Check("unlogged", schema.unlogged),
    Check("connections", server.connections, needs_schema=False),
    Check("timeouts", server.timeouts, needs_schema=False),
    Check("doorbell", network.doorbell, needs_schema=False),
    Check("notifications", network.notifications, needs_schema=False),
    Check("clock", network.clock),
    Check("collation", server.collation, needs_schema=False),
    Check("horizon", storage.horizon, needs_schema=False),
    Check("slots", storage.slots, needs_schema=False),
    Check("freeze", server.frozen, needs_schema=False),
    Check("autovacuum", storage.autovacuum),
    Check("dead-rows", storage.dead_rows),
    Check("indexes", storage.indexes),
    Check("partitions", storage.partitions),
    Check("upkeep", work.upkeep),
    Check("workers", work.workers),
    Check("leases", work.leases),
    Check("waiting", work.waiting),
    Check("paused", work.paused),
    Check("last-attempts", work.worn),
    Check("died", work.died),
    Check("schedules", schedules.overdue),
    Check("schedule-kinds", schedules.kinds),
    Check("schedule-runs", schedules.slots),
    Check("pg_cron", cron.pg_cron),
    Check("pg_net", cron.pg_net),
)
"""In the order in which they are done."""
TREND = "trend"
"""The check that takes two samples."""


def examine(
    client: Client | AsyncClient,
    *,
    limits: Limits | None = None,
    interval: timedelta | None = None,
) -> list[Finding]:
    """Looks for what ails a queue: its schema, its server, its storage, its jobs.

    Nothing is written. Each check has at least one finding, `Level.OK` if all is well. What this
    role may not see is a `Level.NOTICE` that names the grant. A statement takes a second at the
    most, and all of them far less. It makes two connections of its own to the client's database,
    so that a client whose connections are all in use can be examined, too.

    Args:
        client: a `Client` or an `AsyncClient`; a coroutine calls `aexamine`.
        limits: from where on something is a finding.
        interval: take two samples, so far apart, and tell what grew.

    Raises:
        DatabaseUnavailable: the server cannot be reached, or stopped answering.
        ConfigurationError: the client's pool has no fixed DSN.
    """
    examining = aexamine(client, limits=limits, interval=interval)
    # In a thread, since this one may be running an event loop.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, examining).result()


async def aexamine(
    client: Client | AsyncClient,
    *,
    limits: Limits | None = None,
    interval: timedelta | None = None,
) -> list[Finding]:
    """See `examine`."""
    if interval is not None:
        checked_span(interval, "interval", zero=False)
    name = client.schema
    async with patient.connected(client.dsn, name) as conn:
        facts = await patient.facts(conn, name)
        state = await _state(conn, name)
        examined = Patient(conn, client.dsn, name, state, limits or Limits(), *facts)
        there = state is None or bool(state.version)
        findings = []
        for check in CHECKS:
            if there or not check.needs_schema:
                signs = await _signs(check, examined)
                findings += [Finding(check.name, s.level, s.seen, s.advice) for s in signs]
        if interval is not None and there:
            trend = Check(TREND, lambda sick: _trend(sick, interval.total_seconds()))
            signs = await _signs(trend, examined)
            findings += [Finding(TREND, s.level, s.seen, s.advice) for s in signs]
        return findings


async def _state(conn: patient.Conn, name: str) -> SchemaState | None:
    exists, what = migrate.read_state(name)
    try:
        if not await _read(conn, exists, name):
            return migrate.SchemaState(name, 0, "")
        return await _read(conn, what, name)
    except psycopg.errors.InsufficientPrivilege:
        return None


async def _read(conn: patient.Conn, statement: Statement[T], name: str) -> T:
    return statement.read(await patient.ask(conn, statement.sql, name, statement.params))


async def _signs(check: Check, examined: Patient) -> list[Sign]:
    try:
        return await check.look(examined)
    except psycopg.errors.QueryCanceled:
        return [
            warning(
                f"not done within {DEADLINE}: something is in its way, or too much to read",
                "see horizon, dead-rows and indexes; and who holds locks: select pid, "
                "pg_blocking_pids(pid), query from pg_stat_activity "
                "where cardinality(pg_blocking_pids(pid)) > 0",
            )
        ]
    except psycopg.errors.InsufficientPrivilege as error:
        return [
            notice(
                f"not done: {error.diag.message_primary}",
                f"select {examined.quoted}.grant_access({schema.literal(examined.role)}, 'viewer')",
            )
        ]
    except psycopg.Error as error:
        if examined.conn.closed:
            raise
        # Most likely a schema of another version; its own finding says so.
        return [notice(f"not done: {error.diag.message_primary or error}")]


async def _trend(examined: Patient, seconds: float) -> list[Sign]:
    before, start = await storage.dead(examined), time.monotonic()
    await asyncio.sleep(seconds)
    return storage.trend(before, await storage.dead(examined), time.monotonic() - start)
