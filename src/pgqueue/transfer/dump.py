"""From a queue into a file: a copy of its waiting jobs, or the jobs themselves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import psycopg

from pgqueue.arguments import checked_name
from pgqueue.errors import DatabaseError, PgqueueError
from pgqueue.readers import Row
from pgqueue.statements import Statement
from pgqueue.transfer import lines

if TYPE_CHECKING:
    from pgqueue.client import Client

CHUNK = 2_000
"""Jobs that are taken out in one transaction."""
Progress = Callable[[int], None]
"""Called with how many jobs are done so far."""

_THIS: Statement[str] = Statement("select pg_current_xact_id()::text", (), lambda rows: rows[0][0])
_STATUS = "select pg_xact_status(%s::text::xid8)"
_WAITING = "j.queue = %s and (%s::text is null or j.kind = %s) and j.lease_until is null"


class UncertainDrain(PgqueueError):
    """The connection was lost in the middle of a commit, and the database does not answer.

    The jobs of the last chunk are in the file, and perhaps still in the queue.
    """

    def __init__(self, path: Path, written: int, ids: list[int]) -> None:
        self.path = path
        """The file."""
        self.written = written
        """How many jobs are surely in the file, and in the queue no more."""
        self.ids = ids
        """Jobs of the lines behind those."""
        super().__init__(
            f"the database was lost while {len(ids)} jobs were taken out: lines {written + 2} to "
            f"{written + 1 + len(ids)} of {path} may still be in the queue; when it is back, look "
            f"with `pgqueue job {ids[0]}`, and delete those lines if the job is there"
        )


def export_jobs(
    client: Client,
    queue: str,
    path: Path,
    *,
    kind: str | None = None,
    drain: bool = False,
    on_progress: Progress | None = None,
) -> int:
    """Writes the waiting jobs of a queue into a new file; returns how many.

    They are in the order in which they would be claimed: those that are ready by priority and age,
    then the scheduled ones. Running and finished jobs stay out. What a file keeps of a job is what
    was enqueued, and its scheduled time; when it comes back, its attempts count from zero.

    Without `drain` it is a copy: of one moment, whatever happens meanwhile. With `drain` the jobs
    leave the queue, chunk by chunk; each chunk is on the disk before its jobs are deleted, so that
    nothing is lost wherever this ends, and no job is in both unless `UncertainDrain` says so.

    Args:
        client: of the queue; a codec of its does not matter, payloads are copied as stored.
        queue: its name.
        path: a file that must not exist yet.
        kind: only jobs of this kind.
        drain: take them out of the queue.
        on_progress: called after each chunk with how many jobs are written so far.

    Raises:
        FileExistsError: there is such a file.
        UncertainDrain: the database was lost in the middle of a commit.
    """
    checked_name(queue, "queue")
    wanted = (queue, kind, kind)
    with path.open("x", encoding="utf-8", newline="\n") as file:
        file.write(lines.header(queue) + "\n")
        tell = on_progress or (lambda _: None)
        if drain:
            return _drain(client, wanted, path, file, tell)
        return _copy(client, wanted, file, tell)


def _copy(client: Client, wanted: tuple[object, ...], file: TextIO, tell: Progress) -> int:
    s = client.statements.quoted
    sql = (
        f"select {lines.job_as_json('j')} from {s}.job j where {_WAITING} "
        "order by (j.position is null), j.priority, j.position, j.run_at, j.id"
    )
    written = 0
    with (
        client.driver.transaction() as conn,
        psycopg.ServerCursor(conn, "pgqueue_export") as cursor,
    ):
        cursor.itersize = CHUNK
        cursor.execute(sql.encode(), wanted)
        for (line,) in cursor:
            file.write(f"{line}\n")
            written += 1
            if written % CHUNK == 0:
                tell(written)
    _to_disk(file)
    tell(written)
    return written


def _drain(
    client: Client, wanted: tuple[object, ...], path: Path, file: TextIO, tell: Progress
) -> int:
    written = 0
    _to_disk(file)
    for statement in _takes(client.statements.quoted, wanted):
        while True:
            rows = _take(client, statement, path, file, written)
            written += len(rows)
            tell(written)
            if len(rows) < CHUNK:
                break
    return written


def _take(
    client: Client, statement: Statement[list[Row]], path: Path, file: TextIO, written: int
) -> list[Row]:
    """One chunk: in the file, and out of the queue; or neither."""
    began = file.tell()
    rows: list[Row] = []
    transaction = ""
    try:
        with client.driver.transaction() as conn:
            rows = client.driver.execute(statement, conn)
            transaction = client.driver.execute(_THIS, conn)
            file.writelines(f"{line}\n" for _, line in rows)
            _to_disk(file)
    except BaseException:
        if not (transaction and _committed(client, transaction, rows, path, written)):
            file.seek(began)
            file.truncate()
            raise
    return rows


def _committed(client: Client, transaction: str, rows: list[Row], path: Path, written: int) -> bool:
    """Whether it was, although nobody said so."""
    try:
        status: str = client.driver.run(Statement(_STATUS, (transaction,), _only))
    except (DatabaseError, psycopg.Error) as error:
        raise UncertainDrain(path, written, [job_id for job_id, _ in rows]) from error
    return status == "committed"


def _takes(s: str, wanted: tuple[object, ...]) -> Iterator[Statement[list[Row]]]:
    """What deletes a chunk and gives its lines: of ready jobs, and of scheduled ones."""
    for place, order in (
        ("j.position is not null", "j.priority, j.position"),
        ("j.position is null", "j.run_at, j.id"),
    ):
        sql = (
            f"with taken as (delete from {s}.job j where j.id = any (array("
            f"select j.id from {s}.job j where {_WAITING} and {place} order by {order} limit %s "
            "for update skip locked)) returning j.*) "
            f"select j.id, {lines.job_as_json('j')} from taken j order by {order}"
        )
        yield Statement(sql, (*wanted, CHUNK), list)


def _to_disk(file: TextIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _only(rows: list[Row]) -> Any:  # noqa: ANN401 - one value of any type
    return rows[0][0]
