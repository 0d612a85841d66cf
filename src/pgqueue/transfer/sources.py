"""Where other queues on Postgres keep what waits, and what each of their rows would be here.

Columns as of PGMQ 1.13, Procrastinate 3.10 and PgQueuer 1.6, from the DDL that each installs.
"""

from __future__ import annotations

from typing import Literal

import attrs
from psycopg import sql

from pgqueue.arguments import checked_name
from pgqueue.errors import ConfigurationError
from pgqueue.models import DEFAULT_QUEUE

Source = Literal["pgmq", "procrastinate", "pgqueuer"]
SOURCES: tuple[Source, ...] = ("pgmq", "procrastinate", "pgqueuer")


@attrs.frozen(kw_only=True)
class Choice:
    """Which jobs of which source, and as what."""

    source: Source
    schema: str | None = None
    """Where its tables are; None: where it installs them by itself."""
    name: str | None = None
    """PGMQ's queue, which must be named, or the table."""
    queue: str | None = None
    """The queue here; None: the source's own name of it, and `default` for PgQueuer."""
    kind: str | None = None
    """Their kind here; None: the source's own name of it. PGMQ has none."""
    kind_key: str | None = None
    """The key of PGMQ's messages that has the kind."""

    def __attrs_post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ConfigurationError(f"source is {self.source!r}; use one of {', '.join(SOURCES)}")
        if self.source == "pgmq":
            if not self.name:
                raise ConfigurationError("name the queue of PGMQ that is to be taken over")
            if (self.kind is None) == (self.kind_key is None):
                raise ConfigurationError(
                    "a message of PGMQ has no kind: give one for all, or the key of the messages "
                    "that has it"
                )
        elif self.kind_key is not None:
            raise ConfigurationError("only messages of PGMQ have a key with their kind")
        if "%" in (self.kind_key or ""):
            raise ConfigurationError("a key with a % cannot be asked for")
        for what in ("queue", "kind"):
            if (name := getattr(self, what)) is not None:
                checked_name(name, what)


@attrs.frozen
class Table:
    """A source's table, in SQL over its rows `r`."""

    name: sql.Composable
    key: str
    waiting: str
    """Not those that one of its workers has."""
    running: str
    order: str
    """In which its workers would take them."""
    kind: sql.Composable
    payload: str
    """As bytes."""
    queue: sql.Composable
    priority: str
    """Of theirs, where the greatest runs first; null where there are none."""
    run_at: str
    dedupe_key: str
    dedupe_until: str
    about: str
    """What is kept of the rest, as JSON: it becomes `metadata`."""
    dropped: dict[str, str]
    """What is lost, by name: which rows have it."""


def table(choice: Choice) -> Table:
    """The table of a source."""
    return {"pgmq": _pgmq, "procrastinate": _procrastinate, "pgqueuer": _pgqueuer}[choice.source](
        choice
    )


def _or(given: str | None, otherwise: str) -> sql.Composable:
    return sql.SQL(otherwise) if given is None else sql.Literal(given)


def _pgmq(choice: Choice) -> Table:
    name = choice.name or ""
    kind = (
        sql.SQL("r.message ->> {}").format(choice.kind_key)
        if choice.kind is None
        else sql.Literal(choice.kind)
    )
    return Table(
        # PGMQ has all names of queues in lower case.
        name=sql.Identifier(choice.schema or "pgmq", f"q_{name.lower()}"),
        key="msg_id",
        # A delayed one was never read.
        waiting="(r.vt <= clock_timestamp() or r.read_ct = 0)",
        running="(r.vt > clock_timestamp() and r.read_ct > 0)",
        order="r.msg_id",
        kind=kind,
        payload="convert_to(r.message::text, 'UTF8')",
        queue=sql.Literal(choice.queue or name),
        priority="null::integer",
        run_at="r.vt",
        dedupe_key="null::text",
        dedupe_until="'finish'",
        about="jsonb_build_object('msg_id', r.msg_id, 'read_ct', r.read_ct, 'enqueued_at', "
        "r.enqueued_at, 'headers', to_jsonb(r) -> 'headers')",  # older versions have none
        dropped={},
    )


def _procrastinate(choice: Choice) -> Table:
    return Table(
        name=sql.Identifier(choice.schema or "public", choice.name or "procrastinate_jobs"),
        key="id",
        waiting="r.status = 'todo'",
        running="r.status = 'doing'",
        order="r.priority desc, r.id",
        kind=_or(choice.kind, "r.task_name"),
        payload="convert_to(r.args::text, 'UTF8')",
        queue=_or(choice.queue, "r.queue_name"),
        priority="r.priority",
        run_at="r.scheduled_at",
        dedupe_key="r.queueing_lock",
        dedupe_until="'start'",
        about="jsonb_build_object('id', r.id, 'attempts', r.attempts, 'lock', r.lock)",
        dropped={"a lock, which keeps others of its name from running": "r.lock is not null"},
    )


def _pgqueuer(choice: Choice) -> Table:
    return Table(
        name=sql.Identifier(choice.schema or "public", choice.name or "pgqueuer"),
        key="id",
        waiting="r.status = 'queued'",
        running="r.status = 'picked'",
        order="r.priority desc, r.id",
        kind=_or(choice.kind, "r.entrypoint"),
        payload="r.payload",
        queue=sql.Literal(choice.queue or DEFAULT_QUEUE),
        priority="r.priority",
        run_at="r.execute_after",
        dedupe_key="r.dedupe_key",
        dedupe_until="'finish'",
        about="jsonb_build_object('id', r.id, 'attempts', to_jsonb(r) -> 'attempts', 'created', "
        "r.created, 'headers', to_jsonb(r) -> 'headers')",
        dropped={},
    )
