"""Checks of pg_cron and pg_net, by the questions of `pgqueue cron verify`.

But for any role that looks: what it may not see is no finding of what is wrong.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pgqueue.doctor.findings import Sign, notice, ok, warning
from pgqueue.doctor.patient import Conn, Patient, Row, ask, connected
from pgqueue.errors import DatabaseUnavailable
from pgqueue.pg_cron import health, script, where
from pgqueue.pg_cron.models import CronFinding, CronJob
from pgqueue.words import quantity

_SEES = """
select r.rolsuper or r.rolbypassrls, pg_has_role(current_user, 'pg_read_all_settings', 'usage')
from pg_roles r where r.rolname = current_user
"""
_SEES_SECRETS = """
select has_table_privilege('@extschema@.secret', 'select') and (
    not row_security_active('@extschema@.secret') or exists (
        select from pg_policies p
        where p.schemaname = '@extschema:name@' and p.tablename = 'secret' and exists (
            select from pg_roles r
            where r.rolname = any (p.roles) and pg_has_role(current_user, r.oid, 'usage')
        )
    )
)
"""
_ENDPOINTS = """
select p.name, p.queue, p.url, p.secret, null from @extschema@.poke p order by p.name
"""
_NET = "select to_regclass('net.http_request_queue') is not null"


@attrs.frozen
class _Found:
    """Where pg_cron is."""

    conn: Conn
    version: str
    database: str
    """That of the queue."""
    elsewhere: bool = False
    """Whether pg_cron is in another."""


async def pg_cron(patient: Patient) -> list[Sign]:
    """Whether the jobs of pg_cron are there, start, and end well; and have their secrets."""
    endpoints = await _endpoints(patient)
    sees_jobs, sees_settings = (await patient.ask(_SEES))[0]
    try:
        async with _looked_up(patient) as found:
            if found is None:
                return [_absent(patient, len(endpoints), sees=sees_settings)]
            jobs = await _jobs(patient, found)
            if jobs is None:
                return [_hidden(patient, len(endpoints))]
            signs = [await _job(patient, found, job) for job in jobs]
    except DatabaseUnavailable as error:
        if patient.conn.closed:
            raise
        return [notice(f"the database of pg_cron cannot be looked at: {error}")]
    names = {job.name for job in jobs}
    for row in endpoints:
        finding = health.endpoint(row, names)
        if f"poke:{row[0]}" in names or sees_jobs:
            signs.append(_sign(finding))
        else:
            seen = f"{finding.check}: no job that {patient.role} may see pokes it"
            signs.append(notice(seen, "the role that installed it sees more: pgqueue cron verify"))
    unwell = [sign for sign in signs if sign.advice]
    seen = f"{quantity(len(jobs), 'job')} and {quantity(len(endpoints), 'endpoint')} looked at"
    return unwell or [ok(seen)]


async def _endpoints(patient: Patient) -> list[Row]:
    """As `health.ENDPOINTS`; where we may not see secrets, as if they were there."""
    if (await patient.ask(_SEES_SECRETS))[0][0]:
        return await patient.recall(health.ENDPOINTS)
    return [(*row[:4], "table") for row in await patient.recall(_ENDPOINTS)]


@asynccontextmanager
async def _looked_up(patient: Patient) -> AsyncIterator[_Found | None]:
    here, _, version, named = (await patient.ask(where.HERE))[0]
    if version is not None:
        yield _Found(patient.conn, version, here)
    elif named is None or named == here:
        yield None
    else:
        async with connected(make_conninfo(patient.dsn, dbname=named), patient.schema) as conn:
            version = (await ask(conn, where.HERE, patient.schema))[0][2]
            yield None if version is None else _Found(conn, version, here, elsewhere=True)


def _absent(patient: Patient, endpoints: int, *, sees: bool) -> Sign:
    if not endpoints:
        return ok("pg_cron is not here, and no endpoint is to be poked")
    seen = f"{quantity(endpoints, 'endpoint')} to be poked, but pg_cron is not in database "
    seen += patient.database
    if not sees:
        advice = "select setting from pg_settings where name = 'cron.database_name', by a superuser"
        return notice(f"{seen}; whether in another, {patient.role} may not see", advice)
    advice = "create extension pg_cron (docs/cron.md), and then: "
    advice += f"{patient.command('cron install')}; or, if nothing is to be poked: "
    return warning(seen, f"{advice}delete from {patient.quoted}.poke")


def _hidden(patient: Patient, endpoints: int) -> Sign:
    if not endpoints:
        return ok(f"no endpoint is to be poked; jobs of pg_cron {patient.role} may not see")
    advice = f"grant usage on schema cron to {patient.role}; or: {patient.command('cron verify')}"
    return notice(f"{patient.role} may not see the jobs of pg_cron", advice)


async def _jobs(patient: Patient, found: _Found) -> list[CronJob] | None:
    if not (await ask(found.conn, where.SCHEMA, patient.schema))[0][0]:
        return None
    other = found.database if found.elsewhere else None
    text = script.select_jobs(patient.schema, other, everybodys=True)
    rows = await ask(found.conn, text, patient.schema)
    return [script.read_job(row, patient.schema, found.database) for row in rows]


async def _job(patient: Patient, found: _Found, job: CronJob) -> Sign:
    rows = await ask(found.conn, health.LAST_RUN, patient.schema, (job.id,))
    user = sql.Identifier(job.user).as_string(None)
    last = rows[0] if rows else None
    return _sign(health.job(job, last, found.version, patient.schema, user))


def _sign(finding: CronFinding) -> Sign:
    seen = f"{finding.check}: {finding.seen}"
    if finding.ok:
        return notice(seen, finding.advice) if finding.advice else ok(seen)
    return warning(seen, finding.advice or "pgqueue cron failures")


async def pg_net(patient: Patient) -> list[Sign]:
    """Whether pg_net sends the pokes, and endpoints answer them."""
    if not await patient.recall(_ENDPOINTS):
        return [ok("no endpoint is to be poked")]
    if not (await patient.ask(health.SEES_NET))[0][0]:
        if not (await patient.ask(_NET))[0][0]:
            return [
                warning(
                    "pg_net is not in this database: nothing is poked", "create extension pg_net"
                )
            ]
        grants = f"grant usage on schema net to {patient.role}; grant select on "
        grants += f"net.http_request_queue, net._http_response to {patient.role}"
        return [notice(f"{patient.role} may not see the requests of pg_net", grants)]
    row = (await patient.ask(health.REQUESTS))[0]
    text = health.FAILURES % health.LAST_REQUESTS
    failed = [health.failure(each) for each in await patient.ask(text)]
    sees = (await patient.ask(_SEES_SECRETS))[0][0]
    mended = await patient.ask(health.MENDED if sees else health.MENDED_WITHOUT_SECRETS)
    answered = health.requests(row, failed, health.standing(failed, mended))
    signs = [_sign(health.backlog(row)), _sign(answered)]
    return [sign for sign in signs if sign.advice] or [
        ok(f"{health.backlog(row).seen}; {answered.seen}")
    ]
