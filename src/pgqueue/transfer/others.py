"""Out of the tables of other queues on Postgres, in the same database, into this one."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import attrs
import psycopg
from psycopg import sql

from pgqueue import jsontext
from pgqueue.arguments import checked_name
from pgqueue.connections import cause, translate
from pgqueue.errors import ConfigurationError, InvalidJob
from pgqueue.models import DEFAULT_PRIORITY
from pgqueue.transfer.sources import Choice, Table, table

if TYPE_CHECKING:
    from pgqueue.client import Client

CHUNK = 1_000
MOST_KINDS = 100
_LOWEST = 9


@attrs.frozen
class Other:
    """The waiting jobs of another queue, before they are taken over."""

    waiting: int
    """Those that none of its workers has."""
    running: int
    """Those that one has: they stay where they are."""
    kinds: dict[str, int]
    """How many of each kind, the most frequent 100."""
    problems: dict[str, int]
    """What keeps some from being taken over, and how many."""
    dropped: dict[str, int]
    """What has no counterpart here and is lost, and of how many jobs."""


@attrs.frozen
class Taken:
    """What became of them."""

    enqueued: int
    duplicates: int
    """Not added: an unfinished job of the kind holds their dedupe key here already."""


def inspect_other(client: Client, choice: Choice) -> Other:
    """Looks at the waiting jobs of another queue, and changes nothing.

    Raises:
        ConfigurationError: there is no such table in this database.
    """
    found = table(choice)
    s = sql.Identifier(client.schema)
    count = _sql(
        "select count(*) filter (where {waiting}), count(*) filter (where {running})", found
    )
    flags = ", ".join(f"count(*) filter (where {rows})" for rows in found.dropped.values())
    with client.driver.transaction() as conn:
        try:
            (waiting, running), *_ = conn.execute(count + _from(found)).fetchall()
            kinds = conn.execute(
                sql.SQL("select {} as kind, count(*) ").format(found.kind)
                + _from(found, waiting=True)
                + sql.SQL(" group by 1 order by 2 desc, 1")
            ).fetchall()
            ((too_large,),) = conn.execute(
                _sql(
                    "select count(*) filter (where octet_length({payload}) > s.max_payload_bytes) ",
                    found,
                )
                + sql.SQL("from {} r, {}.setting s where ").format(found.name, s)
                + _sql("{waiting}", found)
            ).fetchall()
            lost = (
                conn.execute(
                    _sql(f"select {flags} ", found) + _from(found, waiting=True)
                ).fetchall()[0]
                if flags
                else ()
            )
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
            raise _no_table(choice, error) from error
    problems = {problem: number for kind, number in kinds if (problem := _problem(kind))}
    if too_large:
        problems["the payload is over the limit of setting.max_payload_bytes"] = too_large
    dropped = {what: number for what, number in zip(found.dropped, lost, strict=True) if number}
    named = {kind or "": number for kind, number in kinds[:MOST_KINDS]}
    return Other(waiting, running, named, problems, dropped)


def take_over(
    client: Client,
    choice: Choice,
    *,
    actor: str | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Taken:
    """Moves the waiting jobs of another queue into this one, in the order in which it holds them.

    Each chunk is deleted there and enqueued here in one transaction: a job is in one of the two,
    wherever this ends, and what was left is taken by the next call. The source's workers may go
    on meanwhile; what they run stays theirs. Priorities are turned round (the source's 0 is 5 here,
    its greatest 0); what it says of a job besides, its id and attempts among it, becomes
    `metadata`. Attempts count from zero. Bytes that are no JSON become a string, or if they are no
    text either `{"base64": ...}`.

    Args:
        client: of this queue, in the source's database.
        choice: which jobs, and as what.
        actor: who does it, for the audit log; None: the database's role.
        on_progress: called after each chunk with how many were taken so far.

    Raises:
        ConfigurationError: there is no such table in this database.
        InvalidJob: a job cannot be stored; those of its chunk stay where they were.
    """
    found = table(choice)
    enqueued = duplicates = taken = 0
    while True:
        with client.driver.transaction() as conn:
            try:
                rows = conn.execute(_take(found), (CHUNK,)).fetchall()
            except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
                raise _no_table(choice, error) from error
            if rows:
                held = _store(client, conn, choice, rows)
                client.operations.record(
                    "take_over", queue=choice.queue, affected=len(rows) - held, actor=actor,
                    conn=conn, detail={"source": choice.source, "duplicates": held},
                )  # fmt: skip
                enqueued, duplicates = enqueued + len(rows) - held, duplicates + held
        taken += len(rows)
        if on_progress is not None:
            on_progress(taken)
        if len(rows) < CHUNK:
            return Taken(enqueued, duplicates)


def _take(found: Table) -> sql.Composed:
    columns = _sql(
        "{key}, {payload}, {priority}, case when {run_at} > clock_timestamp() then {run_at} end, "
        "{dedupe_key}, {dedupe_until}, jsonb_strip_nulls({about})::text",
        found,
    )
    return sql.SQL(
        "with r as (delete from {table} d where d.{key} = any (array("
        "select r.{key} from {table} r where {waiting} order by {order} limit %s "
        "for update skip locked)) returning d.*) "
        "select {kind}, {queue}, {columns} from r order by {order}"
    ).format(
        table=found.name,
        key=sql.Identifier(found.key),
        waiting=_sql("{waiting}", found),
        order=_sql("{order}", found),
        kind=found.kind,
        queue=found.queue,
        columns=columns,
    )


def _store(client: Client, conn: Any, choice: Choice, rows: list[tuple[Any, ...]]) -> int:  # noqa: ANN401
    """Enqueues them; returns how many were duplicates."""
    texts = [_job_text(choice, row) for row in rows]
    try:
        stored = client.driver.execute(client.statements.enqueue_many(texts), conn)
    except psycopg.Error as error:
        meant = translate(error, client.schema)
        if isinstance(meant, (psycopg.DataError, psycopg.IntegrityError, InvalidJob)):
            why = str(meant).split("\n", 1)[0]
            first, last = rows[0][2], rows[-1][2]
            raise InvalidJob(
                f"a job among those of {choice.source} from id {first} to {last} cannot be stored, "
                f"and they stay where they are: {why}"
            ) from cause(error)
        raise
    return sum(duplicate for _, duplicate in stored)


def _job_text(choice: Choice, row: tuple[Any, ...]) -> str:
    kind, queue, key, payload, priority, run_at, dedupe_key, dedupe_until, about = row
    if problem := _problem(kind):
        raise InvalidJob(f"the job of {choice.source} with id {key} stays where it is: {problem}")
    fields: dict[str, Any] = {
        "kind": kind,
        "queue": checked_name(queue, "queue"),
        "priority": _priority(priority),
        "metadata": {choice.source: json.loads(about)},
    }
    if isinstance(run_at, datetime):
        fields["run_at"] = run_at.isoformat()
    if dedupe_key is not None:
        fields.update(dedupe_key=dedupe_key, dedupe_until=dedupe_until)
    return f'{jsontext.dumps(fields)[:-1]},"payload":{_payload(payload)}}}'


def _payload(given: bytes | None) -> str:
    """Bytes as JSON: as they stand, if they are JSON that Postgres can store."""
    if given is None:
        return "null"
    try:
        text = bytes(given).decode()
    except UnicodeDecodeError:
        return json.dumps({"base64": base64.b64encode(given).decode()})
    try:
        jsontext.dumps(json.loads(text))
    except (ValueError, RecursionError):
        return (
            jsontext.dumps(text)
            if "\0" not in text
            else json.dumps({"base64": base64.b64encode(given).decode()})
        )
    return text


def _priority(theirs: int | None) -> int:
    return DEFAULT_PRIORITY if theirs is None else min(_LOWEST, max(0, DEFAULT_PRIORITY - theirs))


def _problem(kind: object) -> str | None:
    if kind is None:
        return "it has no kind"
    try:
        checked_name(kind, "kind")
    except InvalidJob as error:
        return f"{error}; or give one kind for all"
    return None


def _no_table(choice: Choice, error: psycopg.Error) -> ConfigurationError:
    return ConfigurationError(
        f"there is no table of {choice.source} that this can read: {error.diag.message_primary}; "
        "name its schema, and connect to its database"
    )


def _sql(text: str, found: Table) -> sql.SQL:
    """Text of SQL with the parts of a table in it; all of them are constants of ours."""
    parts = {
        name: part
        for name, part in attrs.asdict(found, recurse=False).items()
        if isinstance(part, str)
    }
    return sql.SQL(text.format(**parts))


def _from(found: Table, *, waiting: bool = False) -> sql.Composed:
    where = _sql(" where {waiting}", found) if waiting else sql.SQL("")
    return sql.SQL(" from {} r").format(found.name) + where
