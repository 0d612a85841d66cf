"""What is in the queue: for tests of code that enqueues."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeAlias

from pgqueue import jsontext
from pgqueue.drivers import Driver
from pgqueue.statements import Statement

if TYPE_CHECKING:
    from pgqueue.aclient import AsyncClient
    from pgqueue.client import Client
    from pgqueue.jsontext import Json
    from pgqueue.models import JobDetail

AnyClient: TypeAlias = "Client | AsyncClient"


def enqueued(
    client: AnyClient,
    kind: str | None = None,
    *,
    queue: str | None = None,
    payload: Json = None,
    ref: str | None = None,
    conn: Any = None,  # noqa: ANN401
) -> list[JobDetail]:
    """The unfinished jobs (scheduled, ready or claimed) that fit all that is given, oldest first.

    Args:
        client: whose database to look at; an async one's, too, from anywhere.
        kind: the job's kind.
        queue: the job's queue.
        payload: what the job's payload has to contain, as the operator @> of jsonb understands it:
            of an object some of the members, each containing what is given for it.
        ref: the job's ref.
        conn: as in `Client.enqueue`; only so are jobs seen whose transaction is not committed.
    """
    filters = {
        "kind = %s": kind,
        "queue = %s": queue,
        "payload @> %s::jsonb": None if payload is None else jsontext.dumps(payload),
        "ref = %s": ref,
    }
    given = {text: value for text, value in filters.items() if value is not None}
    where = " and ".join(["finished_at is null", *given])
    schema = client.statements.quoted
    ids = Statement(
        f"select id from {schema}.all_jobs where {where} order by id",
        tuple(given.values()),
        lambda rows: [row[0] for row in rows],
    )
    driver = Driver(client.dsn, client.schema, 1)
    if conn is None:
        with closing(driver.connect()) as own:
            return enqueued(client, kind, queue=queue, payload=payload, ref=ref, conn=own)
    return [driver.run(client.statements.get(job_id), conn) for job_id in driver.run(ids, conn)]


def assert_enqueued(
    client: AnyClient,
    kind: str,
    *,
    queue: str | None = None,
    payload: Json = None,
    ref: str | None = None,
    count: int | None = None,
    conn: Any = None,  # noqa: ANN401
) -> JobDetail:
    """Passes if such a job is in the queue, and returns the last one.

    `count` is how many there must be; None is satisfied with one or more. For the other arguments
    see `enqueued`.

    Raises:
        AssertionError: there are none, or not so many; it lists the jobs that there are.
    """
    __tracebackhide__ = True
    found = enqueued(client, kind, queue=queue, payload=payload, ref=ref, conn=conn)
    if not found or (count is not None and len(found) != count):
        wanted = "at least one job" if count is None else f"{count} job{'s' * (count != 1)}"
        raise AssertionError(
            f"expected {wanted} {_sought(kind, queue, payload, ref)}, found {len(found)}; "
            f"{_all(client, conn)}"
        )
    return found[-1]


def assert_not_enqueued(
    client: AnyClient,
    kind: str | None = None,
    *,
    queue: str | None = None,
    payload: Json = None,
    ref: str | None = None,
    conn: Any = None,  # noqa: ANN401
) -> None:
    """Passes if no such job is in the queue; without any filter, if it is empty. See `enqueued`.

    Raises:
        AssertionError: there is one; it lists the jobs that there are.
    """
    __tracebackhide__ = True
    found = enqueued(client, kind, queue=queue, payload=payload, ref=ref, conn=conn)
    if found:
        raise AssertionError(
            f"expected no job {_sought(kind, queue, payload, ref)}, found {len(found)}; "
            f"{_all(client, conn)}"
        )


def _sought(kind: str | None, queue: str | None, payload: Json, ref: str | None) -> str:
    filters = {"kind": kind, "queue": queue, "payload": payload, "ref": ref}
    given = ", ".join(f"{name}={value!r}" for name, value in filters.items() if value is not None)
    return f"with {given}" if given else "at all"


def _all(client: AnyClient, conn: Any) -> str:  # noqa: ANN401
    jobs = enqueued(client, conn=conn)
    if not jobs:
        return "there are no unfinished jobs"
    shown = 20
    lines = [
        f"  {job.state} {job.kind} in {job.queue}: {job.payload!r:.200}" for job in jobs[:shown]
    ]
    if len(jobs) > shown:
        lines.append(f"  and {len(jobs) - shown} more")
    return "\n".join(["the unfinished jobs are:", *lines])
