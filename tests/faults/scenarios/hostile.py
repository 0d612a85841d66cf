"""Databases, roles and machines that are set in ways that nobody would choose.

The whole life of a queue under each: what it promises does not depend on who set what.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests.faults.harness.ledger import Ledger, audit
from tests.faults.harness.life import Life
from tests.faults.harness.report import Report
from tests.faults.harness.run import Run
from tests.faults.harness.workers import ROOT, FaultMissed

from pgqueue import Client, DatabaseUnavailable

SHORT = {"statement_timeout": "100ms", "idle_in_transaction_session_timeout": "100ms"}
SETTINGS: Mapping[str, Mapping[str, str]] = {
    "serializable": {"default_transaction_isolation": "serializable"},
    "repeatable read": {"default_transaction_isolation": "repeatable read"},
    "short timeouts": SHORT,
    "short timeouts, serializable": {**SHORT, "default_transaction_isolation": "serializable"},
    "sessions may not be idle": {"idle_session_timeout": "100ms"},
    "locks may not take long": {"lock_timeout": "50ms"},
    "hijackers first": {"search_path": "evil, public"},
    "no search_path": {"search_path": ""},
    "backslashes escape": {"standard_conforming_strings": "off", "backslash_quote": "on"},
    "LATIN1": {"client_encoding": "LATIN1"},
    "SQL_ASCII": {"client_encoding": "SQL_ASCII"},
    "Nepal": {"timezone": "Asia/Kathmandu", "datestyle": "SQL, DMY"},
    "no triggers": {"session_replication_role": "replica", "row_security": "off"},
    "other texts": {
        "intervalstyle": "sql_standard", "bytea_output": "escape", "extra_float_digits": "-5",
        "datestyle": "German", "transform_null_equals": "on",
    },
    "other plans": {
        "plan_cache_mode": "force_custom_plan", "enable_indexscan": "off", "jit_above_cost": "0",
        "work_mem": "64kB",
    },
}  # fmt: skip
"""By what they do: defaults of the database."""
ALWAYS = ("short timeouts", "serializable", "hijackers first")
"""In the fast profile, too; others come by chance."""
TRAPS = (
    "clock_timestamp()", "random()", "nextval(regclass)", "setval(regclass, bigint)",
    "pg_notify(text, text)", "set_config(text, text, boolean)", "max(bigint)",
    "left(text, integer)", "sha256(bytea)", "jsonb_typeof(jsonb)", "unnest(anyarray)",
    "clock()", "maintain(integer)", "ack(bigint[], bigint[], jsonb)", "_ring(text[], timestamptz)",
)  # fmt: skip
TABLES = ("job", "archive", "lane", "setting", "sleeper", "queue", "migration", "pg_class")
HOUR = 3600
SIZED_QUEUE = 170_000
"""The Postgres from which on the queue of notifications may be smaller than 8 GB."""


def run(run: Run) -> Report:
    """One life under each setting, each with a database of its own."""
    count = run.count(20, 1_000)
    chosen = set(SETTINGS) if run.full else {*ALWAYS, run.rng.choice(sorted(SETTINGS))}
    wrong = (-HOUR, HOUR) if run.full else (run.rng.choice((-HOUR, HOUR)),)
    total = Report()
    lives = [
        *((name, _under(run, {**SETTINGS[name]})) for name in SETTINGS if name in chosen),
        ("summer time begins in two hours", _under(run, {"timezone": zone_that_changes()})),
        ("roles", _as_roles(run)),
        ("numbers beyond 31 bits", _with_numbers_from(run, 2**31 - 20)),
        ("numbers beyond 53 bits", _with_numbers_from(run, 2**53 - 20)),
    ]
    if _version(run) >= SIZED_QUEUE:
        lives.append(("a full queue of notifications", _without_notifications(run)))
    for done, (name, life) in enumerate(lives):
        with life as (client, work_dsn):
            ledger = _ledger(run, name)
            try:
                Life(client, ledger, count, work_dsn).live()
            except Exception as error:
                raise AssertionError(f"under {name!r}: {error!r}") from error
            dsn = make_conninfo(work_dsn or client.dsn, client_encoding="utf8")
            _add(total, audit(dsn, ledger))
        run.tell(done + 1, len(lives))
    for seconds in wrong:
        _add(total, _with_clock_off(run, seconds, count))
    _read_only(run)
    total.faults += 1
    total.notes.append(f"{total.faults} settings, the whole life of a queue under each")
    return total


def _version(run: Run) -> int:
    with psycopg.connect(run.dsn()) as conn:
        return conn.info.server_version


def _ledger(run: Run, name: str) -> Ledger:
    folder = run.folder / name.replace(" ", "-")
    folder.mkdir()
    return Ledger(folder)


def _add(total: Report, part: Report) -> None:
    total.faults += 1
    total.jobs += part.jobs
    total.lost += part.lost
    total.double_acked += part.double_acked
    total.overlapping += part.overlapping
    total.notes += [note for note in part.notes if note.startswith("lost")]


def zone_that_changes() -> str:
    """A time zone whose clocks are put forward two hours from now."""
    soon = datetime.now(timezone.utc) + timedelta(hours=2)
    day = (soon - datetime(soon.year, 1, 1, tzinfo=timezone.utc)).days  # from 0, leap days counted
    return f"<OLD>0<NEW>-1,{day}/{soon.hour},{min(day + 1, 365)}/23"


@contextmanager
def _under(run: Run, settings: Mapping[str, str]) -> Iterator[tuple[Client, str | None]]:
    dsn = run.dsn()
    name = sql.Identifier(str(conninfo_to_dict(dsn)["dbname"]))
    before = _values(dsn, settings)
    with psycopg.connect(dsn, autocommit=True) as conn:
        if "evil" in settings.get("search_path", ""):
            _set_traps(conn)
        for setting, value in settings.items():
            paths = value.split(", ") if setting == "search_path" else [value]
            conn.execute(
                sql.SQL("alter database {} set {} to {}").format(
                    name, sql.Identifier(setting), sql.SQL(", ").join(paths)
                )
            )
    for (setting, old), new in zip(before.items(), _values(dsn, settings).values(), strict=True):
        if old == new:
            raise FaultMissed(f"{setting} is {new} as before")
    with Client(dsn) as client:
        yield client, None


def _values(dsn: str, settings: Iterable[str]) -> dict[str, str]:
    """What a new session has."""
    with psycopg.connect(dsn) as conn:
        return {name: str(_one(conn, f"show {name}")) for name in settings}


def _one(conn: psycopg.Connection[Any], query: str) -> object:
    return conn.execute(query.encode()).fetchall()[0][0]


def _set_traps(conn: psycopg.Connection[Any]) -> None:
    """Functions, operators and tables that would do harm if they were taken for the real ones.

    They stand before all but the system's own. (For the functions even those may be hijacked:
    tests/sql/test_access.py.)
    """
    trap = "language plpgsql as $$ begin raise exception 'hijacked'; end $$"
    conn.execute("create schema evil")
    for function in TRAPS:
        conn.execute(f"create function evil.{function} returns text {trap}".encode())
    for number, kind in enumerate(("bigint", "text", "timestamptz", "interval", "jsonb")):
        conn.execute(
            f"create function evil.trap{number}({kind}, {kind}) returns boolean {trap}".encode()
        )
        for operator in ("=", "<", ">", "<=", ">=", "+", "-", "||"):
            conn.execute(
                f"create operator evil.{operator} "
                f"(leftarg = {kind}, rightarg = {kind}, function = evil.trap{number})".encode()
            )
    for table in TABLES:
        conn.execute(f"create table evil.{table} (n integer)".encode())


@contextmanager
def _with_numbers_from(run: Run, number: int) -> Iterator[tuple[Client, str | None]]:
    """Ids and positions that leave a number type's range in the middle of this life."""
    dsn = run.dsn()
    with psycopg.connect(dsn, autocommit=True) as conn:
        for sequence in ("job_id_seq", "position_seq"):
            _one(conn, f"select setval('pgqueue.{sequence}', {number})")
    with Client(dsn) as client:
        yield client, None
        if client.enqueue("work", delay=timedelta(days=1)).id <= number + 20:
            raise FaultMissed(f"no id is beyond {number + 20}")


@contextmanager
def _as_roles(run: Run) -> Iterator[tuple[Client, str | None]]:
    """A producer that may only enqueue, a worker that may do the rest, a viewer that may look."""
    dsn, mark = run.dsn(), secrets.token_hex(4)
    roles = {access: f"pgqueue_test_{access}_{mark}" for access in ("producer", "worker", "viewer")}
    with psycopg.connect(dsn, autocommit=True) as owner:
        for access, role in roles.items():
            owner.execute(sql.SQL("create role {} login").format(sql.Identifier(role)))
            owner.execute("select pgqueue.grant_access(%s, %s)", (role, access))
        try:
            with Client(make_conninfo(dsn, user=roles["producer"])) as producer:
                yield producer, make_conninfo(dsn, user=roles["worker"])
            with Client(make_conninfo(dsn, user=roles["viewer"])) as viewer:
                assert viewer.list(state="succeeded", limit=1)
        finally:
            for role in roles.values():
                owner.execute(sql.SQL("drop owned by {0}").format(sql.Identifier(role)))
                owner.execute(sql.SQL("drop role {0}").format(sql.Identifier(role)))


@contextmanager
def _without_notifications(run: Run) -> Iterator[tuple[Client, str | None]]:
    """Somebody listens and does not end a transaction; others have filled the server's queue."""
    with (
        run.server({"max_notify_queue_pages": "64"}) as server,
        psycopg.connect(server.dsn) as wedged,
        psycopg.connect(server.dsn, autocommit=True) as talker,
        Client(server.dsn) as client,
    ):
        wedged.execute("listen somewhere")
        wedged.commit()
        wedged.execute("select")
        client._run(client.statements.sleep(["default"], "w", timedelta(hours=1), ["work"]))
        try:
            for n in range(1_000):
                talker.execute("select pg_notify('somewhere', rpad(%s, 7900))", (str(n),))
        except psycopg.errors.ProgramLimitExceeded:
            yield client, None
        else:
            raise FaultMissed("the queue of notifications was never full")


def _with_clock_off(run: Run, seconds: int, count: int) -> Report:
    """A life in a process whose clock is wrong."""
    dsn, ledger = run.dsn(), _ledger(run, f"clock {seconds}")
    module = "tests.faults.harness"
    command = [
        sys.executable, "-m", f"{module}.shifted", str(seconds), f"{module}.life",
        str(ledger.folder), str(count),
    ]  # fmt: skip
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PGQUEUE_DSN": dsn},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"with a clock {seconds} s off:\n{done.stderr[-2000:]}")
    if abs(int(done.stdout) - seconds) > 60:
        raise FaultMissed(f"the clock was {done.stdout.strip()} s off, not {seconds}")
    return audit(dsn, ledger)


def _read_only(run: Run) -> None:
    """Nothing can be written: that is told as such, and over as soon as the setting is."""
    with _under(run, {"default_transaction_read_only": "on"}) as (client, _):
        for operation in (lambda: client.enqueue("work"), client.claim, client.maintain):
            try:
                operation()
            except DatabaseUnavailable:
                continue
            raise AssertionError("something was written to a database that is read-only")
        name = sql.Identifier(str(conninfo_to_dict(client.dsn)["dbname"]))
        reset = sql.SQL("alter database {} reset default_transaction_read_only").format(name)
        with psycopg.connect(client.dsn, autocommit=True) as conn:
            conn.execute("set default_transaction_read_only = off")
            conn.execute(reset)
        client.enqueue("work")
