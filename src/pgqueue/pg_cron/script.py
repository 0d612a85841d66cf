"""The SQL that makes and removes jobs of pg_cron, as it is run and as it is printed.

It decides by itself, in the database, what pg_cron there can do, so that it may be pasted into any
hosted SQL editor, again and again.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

import attrs
from psycopg import sql

from pgqueue import jsontext
from pgqueue.arguments import checked_schema
from pgqueue.errors import ConfigurationError
from pgqueue.statements import DEFAULT_SCHEMA

if TYPE_CHECKING:
    from pgqueue.pg_cron.models import Poke

UPKEEP, HISTORY = "upkeep", "history"
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_MOST_NAME = 63
"""Bytes of a job's name in pg_cron before 1.5."""
_KEPT = "7 days"
MISSING = (
    "pg_cron is not in this database; have a superuser put shared_preload_libraries = 'pg_cron' "
    "into the settings, restart the server, and run in the database that cron.database_name names: "
    "create extension pg_cron"
)


@attrs.frozen
class Planned:
    """A job of pg_cron that shall be."""

    name: str
    schedule: str
    command: str
    spread: str | None = None
    """The command that, once a minute, does what `schedule` has in seconds, before pg_cron 1.5."""
    local: bool = False
    """Whether it is for the database of pg_cron, not for that of the queue."""


def literal(value: str) -> str:
    """`value` as SQL writes it."""
    return sql.Literal(value).as_string(None)


def job_name(schema: str, name: str, database: str) -> str:
    """What a job is called in pg_cron: unique among the schemas and databases of a server.

    Raises:
        ConfigurationError: it is too long for pg_cron before 1.5.
    """
    full = f"{schema}.{name}@{database}"
    if len(full.encode()) > _MOST_NAME:
        raise ConfigurationError(
            f"the job would be named {full!r}, which is over {_MOST_NAME} bytes; "
            "use a shorter name for the endpoint"
        )
    return full


def cadence(every: timedelta) -> str:
    """The schedule of pg_cron that comes every so long.

    Raises:
        ConfigurationError: there is none.
    """
    given: object = every
    if isinstance(given, timedelta) and not every % timedelta(seconds=1):
        if timedelta(0) < every < MINUTE:
            return f"{every.seconds} seconds"
        if every >= MINUTE and not HOUR % every and not every % MINUTE:
            minutes = every // MINUTE
            return "* * * * *" if minutes == 1 else _hourly(minutes)
        if every >= HOUR and not DAY % every and not every % HOUR:
            hours = every // HOUR
            return "0 0 * * *" if every == DAY else f"0 */{hours} * * *"
    raise ConfigurationError(
        f"every is {every!s:.200}; pass 1 to 59 whole seconds, or minutes that divide an hour "
        "(1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30), or hours that divide a day"
    )


def _hourly(minutes: int) -> str:
    return "0 * * * *" if minutes == HOUR // MINUTE else f"*/{minutes} * * * *"


def pace_of(schedule: str) -> timedelta | None:
    """How often a schedule comes that `cadence` made; None for others."""
    seconds = re.fullmatch(r"(\d+) seconds", schedule)
    if seconds:
        return timedelta(seconds=int(seconds[1]))
    minute, hour, *rest = schedule.split()
    if rest != ["*", "*", "*"]:
        return None
    if hour == "*":
        return MINUTE * _step(minute) if minute != "0" else HOUR
    return HOUR * _step(hour) if hour.startswith("*/") else DAY


def _step(field: str) -> int:
    return 1 if field == "*" else int(field.removeprefix("*/"))


def plan(schema: str, endpoint: Poke | None, every: timedelta) -> list[Planned]:
    """The jobs that an installation needs."""
    quoted = f'"{checked_schema(schema)}"'
    schedule, pace = cadence(every), literal(f"{int(every.total_seconds())} seconds")
    poke = None if endpoint is None else literal(endpoint.name)
    name = UPKEEP if endpoint is None else f"poke:{endpoint.name}"
    command = f"select {quoted}.maintain()" if poke is None else f"select {quoted}.poke({poke})"
    spread = f"call {quoted}.run_minute({pace})"
    if poke is not None:
        spread = f"call {quoted}.run_minute({pace}, {poke})"
    return [
        Planned(name, schedule, command, spread if every < MINUTE else None),
        Planned(HISTORY, "23 3 * * *", _forget(schema), local=True),
    ]


def _forget(schema: str) -> str:
    """Deletes old runs from pg_cron's history, which nobody else does."""
    return (
        "delete from cron.job_run_details d using cron.job j where j.jobid = d.jobid "
        f"and pg_catalog.starts_with(j.jobname::text, {literal(schema + '.')}) "
        f"and d.end_time < pg_catalog.now() - interval '{_KEPT}'"
    )


def put_endpoint(schema: str, endpoint: Poke) -> str:
    """The statement that stores an endpoint's settings."""
    body = jsontext.dumps(dict(endpoint.body))
    seconds = f"{endpoint.timeout.total_seconds():g} seconds"
    secret = "null" if endpoint.secret is None else literal(endpoint.secret)
    values = ", ".join(map(literal, (endpoint.name, endpoint.queue, endpoint.url)))
    more = ", ".join(map(literal, (endpoint.header, body, seconds)))
    return (
        f'insert into "{schema}".poke (name, queue, url, secret, header, body, timeout)\n'
        f"values ({values}, {secret}, {more})\n"
        "on conflict (name) do update set queue = excluded.queue, url = excluded.url, "
        "secret = excluded.secret,\n    header = excluded.header, body = excluded.body, "
        "timeout = excluded.timeout;\n"
    )


def put_job(schema: str, planned: Planned, database: str | None) -> str:
    """The block that makes a job or changes it; one that is paused stays so.

    It returns nothing. `database` is the queue's, where pg_cron is in another.
    """
    name = f"pg_catalog.concat({literal(f'{schema}.{planned.name}@')}, current_database())"
    if database is not None:
        name = literal(job_name(schema, planned.name, database))
    elsewhere = database is not None and not planned.local
    call, last = ("cron.schedule", "")
    if elsewhere:
        call, last = "cron.schedule_in_database", f", {literal(database or '')}"
    put = f"v_id := {call}(v_name, {literal(planned.schedule)}, {literal(planned.command)}{last});"
    if planned.spread is not None:
        spread = f"{call}(v_name, '* * * * *', {literal(planned.spread)}{last})"
        put = (
            f"begin\n        {put}\n    exception\n        when others then\n"
            "            -- pg_cron before 1.5 has no seconds: one run a minute does all of it.\n"
            f"            v_id := {spread};\n    end;"
        )
    return f"""do $pgqueue$
declare
    v_name constant text := {name};
    v_active boolean;
    v_id bigint;
begin
    if to_regnamespace('cron') is null then
        raise exception '%', {literal(MISSING)} using errcode = 'PQ010';
    end if;
    select j.active into v_active from cron.job j
    where j.jobname = v_name and j.username = current_user;
    {put}
    if not v_active then
        perform cron.alter_job(v_id, active := false);
    end if;
end
$pgqueue$;
"""


def install_script(
    schema: str = DEFAULT_SCHEMA,
    endpoint: Poke | None = None,
    *,
    every: timedelta = MINUTE,
    database: str | None = None,
) -> str:
    """The SQL that `PgCron.install` runs, to be pasted into an SQL editor; safe to run again.

    Args:
        schema: the queue's.
        endpoint: what to poke; None: only the upkeep.
        every: how often.
        database: the queue's database, where pg_cron is in another; the script has two parts then.
    """
    jobs = "\n".join(
        put_job(schema, planned, database) for planned in plan(schema, endpoint, every)
    )
    if endpoint is None:
        return jobs
    settings = put_endpoint(schema, endpoint)
    if database is None:
        return f"{settings}\n{jobs}"
    return f"-- In database {database}:\n{settings}\n-- In the database of pg_cron:\n{jobs}"


def remove_script(schema: str = DEFAULT_SCHEMA, *, database: str | None = None) -> str:
    """The SQL that removes all that `install_script` makes, endpoints and their secrets with it."""
    jobs = f"""select cron.unschedule(j.jobid) from cron.job j
where {ours(schema, database)};
"""
    settings = remove_settings(schema)
    if database is None:
        return f"{jobs}\n{settings}"
    return f"-- In the database of pg_cron:\n{jobs}\n-- In database {database}:\n{settings}"


def remove_settings(schema: str) -> str:
    """The statements that remove the endpoints and their secrets."""
    quoted = f'"{checked_schema(schema)}"'
    return f"""select {quoted}.remove_secret(p.secret)
from (select distinct p.secret from {quoted}.poke p where p.secret is not null) p;
delete from {quoted}.poke_request;
delete from {quoted}.poke;
"""


def ours(schema: str, database: str | None) -> str:
    """The condition on `cron.job j` that holds for the jobs of this role for this queue."""
    end = "current_database()" if database is None else literal(database)
    return (
        f"pg_catalog.starts_with(j.jobname::text, {literal(schema + '.')})\n"
        f"    and pg_catalog.right(j.jobname::text, pg_catalog.length({end}) + 1) = '@' || {end}\n"
        "    and j.username = current_user"
    )
