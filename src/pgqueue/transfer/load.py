"""From a file into a queue: all jobs of it, or none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import psycopg

from pgqueue.arguments import checked_name
from pgqueue.connections import cause, translate
from pgqueue.errors import InvalidJob
from pgqueue.statements import Statement
from pgqueue.transfer import lines

if TYPE_CHECKING:
    from pgqueue.client import Client

CHUNK = 1_000
_MOST_BYTES = 16 * 1024 * 1024
"""In one statement, whatever the chunk."""
_STORE = """
    with line as (
        select l.place, l.text::jsonb as job from unnest(%s::text[]) with ordinality l (text, place)
    )
    select count(*), count(*) filter (where n.duplicate)
    from {s}.enqueue_many((
        select jsonb_agg(
            l.job - '{{id,enqueued_at,attempt,tenant,delay,on_conflict}}'::text[]
                || coalesce(%s::jsonb, '{{}}') order by l.place
        ) from line l
    )) n
"""
_KNOWN = (
    "select exists (select from {s}.audit where action = 'import' and detail ->> 'export_id' = %s)"
)


class FileError(InvalidJob):
    """A file that cannot be imported; nothing of it was stored."""

    def __init__(self, path: Path, why: str) -> None:
        self.path = path
        """The file."""
        super().__init__(f"{path} cannot be imported, and nothing of it was stored: {why}")


@attrs.frozen
class Loaded:
    """What became of a file's jobs."""

    enqueued: int
    duplicates: int
    """Not added: another unfinished job of the kind holds their dedupe key."""


def import_jobs(
    client: Client,
    path: Path,
    *,
    queue: str | None = None,
    again: bool = False,
    actor: str | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Loaded:
    """Enqueues the jobs of a file that `export_jobs` wrote: in one transaction, all or none.

    They keep their order, and whatever was enqueued with them; ids and attempts are new. A job
    whose dedupe key is held is not added, as with `enqueue`. The audit log remembers the file, so
    that it is not imported a second time by mistake.

    Args:
        client: of the queue.
        path: the file.
        queue: put all of them into this one instead of their own.
        again: import it although it was imported already.
        actor: who does it, for the audit log; None: the database's role.
        on_progress: called after each chunk with how many jobs were read so far.

    Raises:
        FileError: it is no such file, a line of it cannot be stored, or it was imported already.
        OSError: it cannot be read.
    """
    if queue is not None:
        checked_name(queue, "queue")
    s = client.statements.quoted
    change = None if queue is None else json.dumps({"queue": queue})
    with path.open(encoding="utf-8", newline="\n") as file:
        try:
            export_id = lines.export_id(file.readline())
        except UnicodeDecodeError as error:
            raise FileError(path, "it is not UTF-8") from error
        except ValueError as error:
            raise FileError(path, str(error)) from error
        with client.driver.transaction() as conn:
            # One import of a file at a time: the second one finds the first one's note.
            _run(client, conn, "select pg_advisory_xact_lock(hashtextextended(%s, 0))", export_id)
            ((known,),) = _run(client, conn, _KNOWN.format(s=s), export_id)
            if known and not again:
                raise FileError(path, "it was imported already; say that you want it again")
            enqueued = duplicates = read = 0
            for first, chunk in _chunks(path, file):
                added, held = _store(client, conn, path, first, chunk, change)
                enqueued, duplicates = enqueued + added - held, duplicates + held
                read += len(chunk)
                if on_progress is not None:
                    on_progress(read)
            client.operations.record(
                "import", queue=queue, affected=enqueued, actor=actor, conn=conn,
                detail={"export_id": export_id, "file": path.name, "duplicates": duplicates},
            )  # fmt: skip
    return Loaded(enqueued, duplicates)


def _store(
    client: Client,
    conn: Any,  # noqa: ANN401
    path: Path,
    first: int,
    chunk: list[str],
    change: str | None,
) -> tuple[int, int]:
    sql = _STORE.format(s=client.statements.quoted)
    try:
        ((added, held),) = _run(client, conn, sql, chunk, change)
    except psycopg.Error as error:
        meant = translate(error, client.schema)
        if not isinstance(meant, (psycopg.DataError, psycopg.IntegrityError, InvalidJob)):
            raise
        why = str(meant).split("\n", 1)[0]
        where = f"in lines {first} to {first + len(chunk) - 1}"
        raise FileError(path, f"{where}: {why}") from cause(error)
    return added, held


def _chunks(path: Path, file: Any) -> Iterator[tuple[int, list[str]]]:  # noqa: ANN401
    chunk: list[str] = []
    size, first = 0, 2
    try:
        for number, line in enumerate(file, 2):
            text = line.rstrip("\n")
            if not text:
                continue
            if not line.endswith("\n"):
                raise FileError(path, f"line {number} is cut off; delete it to import the rest")
            chunk.append(text)
            size += len(text)
            if len(chunk) == CHUNK or size > _MOST_BYTES:
                yield first, chunk
                chunk, size, first = [], 0, number + 1
    except UnicodeDecodeError as error:
        raise FileError(path, "it is not UTF-8") from error
    if chunk:
        yield first, chunk


def _run(client: Client, conn: Any, sql: str, *params: object) -> list[Any]:  # noqa: ANN401
    return client.driver.execute(Statement(sql, params, list), conn)
