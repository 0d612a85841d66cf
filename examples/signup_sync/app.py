"""Sign-ups are stored here, and pushed to a third party's HTTP API by jobs.

Each operation of the API is a kind of job. A job is enqueued in the transaction that writes the
row, so that there is never one without the other. The same handlers are run by workers,
`pgqueue worker examples.signup_sync.app -q signup`, and by the `endpoint`, which pg_cron pokes.
"""

import functools
import os
import secrets
from datetime import timedelta

import attrs
import httpx
import psycopg
from psycopg.rows import DictRow, dict_row

import pgqueue
from pgqueue.endpoint import Endpoint

PATIENCE = 10.0
"""Seconds that the third party may take: two batches have to fit into the endpoint's 25."""
ASKED_TO_WAIT = (429, 503)
REFUSED = (400, 404, 409, 410, 422)
ENDED = (pgqueue.Snooze, pgqueue.Cancel)

client = pgqueue.Client()  # of PGQUEUE_DSN
handlers = pgqueue.Handlers()


@attrs.frozen
class Row:
    """The payload of all operations: which sign-up."""

    signup: int


operation = functools.partial(
    handlers.register,
    payload=Row,
    queue="signup",
    max_attempts=8,
    retry=pgqueue.Exponential(
        base=timedelta(seconds=float(os.environ.get("SIGNUP_BACKOFF", "30"))),
        cap=timedelta(hours=1),
    ),
)


# What the application calls: each joins the transaction of `conn`.


def sign_up(conn: psycopg.Connection, email: str, name: str, plan: str) -> int:
    """Store somebody who has signed up, with the plan: the third party gets both at once."""
    return _store(conn, signup_atomic, email, name, plan)


def add(conn: psycopg.Connection, email: str, name: str) -> int:
    """Store somebody whom a colleague has added."""
    return _store(conn, insert, email, name, "free")


def change(conn: psycopg.Connection, signup: int, *, plan: str) -> None:
    """Change the plan. Changes that come before the push are one push."""
    conn.execute("update signup set plan = %s, version = version + 1 where id = %s", (plan, signup))
    update.enqueue(client, Row(signup), conn=conn)


def _store(
    conn: psycopg.Connection, kind: pgqueue.Kind[Row], email: str, name: str, plan: str
) -> int:
    ((signup,),) = conn.execute(
        "insert into signup (email, name, plan) values (%s, %s, %s) returning id",
        (email, name, plan),
    )
    kind.enqueue(client, Row(signup), conn=conn)
    return int(signup)


# The handlers


@operation("signup.atomic")
def signup_atomic(job: pgqueue.Job[Row]) -> object:
    """Push a person with the plan."""
    return _create(job, "/signups", "email", "name", "plan")


@operation("signup.insert")
def insert(job: pgqueue.Job[Row]) -> object:
    """Push a person."""
    return _create(job, "/people", "email", "name")


@operation("signup.update", dedupe=lambda row: str(row.signup), dedupe_until="start")
def update(job: pgqueue.Job[Row]) -> object:
    """Push what a person is now."""
    row = _read(job)
    if row is None:
        return pgqueue.Skip("the sign-up is deleted")
    if row["remote_id"] is None:
        return pgqueue.Skip("the third party does not have the person yet: see _create")
    # An answer that was lost is asked for again by the key; a newer version has another one.
    key = f"{job.id}:{row['version']}"
    answer = _call("PATCH", f"/people/{row['remote_id']}", _some(row, "email", "name", "plan"), key)
    if isinstance(answer, ENDED):
        return answer
    now = _read(job)
    if now is not None and now["version"] != row["version"]:
        return pgqueue.Snooze(timedelta(0))  # another push may have come first: once more
    return None


def _create(job: pgqueue.Job[Row], path: str, *fields: str) -> object:
    row = _read(job)
    if row is None:
        return pgqueue.Skip("the sign-up is deleted")
    answer = _call("POST", path, _some(row, *fields), str(job.id))
    if isinstance(answer, ENDED):
        return answer
    with psycopg.connect(client.dsn) as conn:
        now = conn.execute(
            "update signup set remote_id = %s where id = %s returning version",
            (answer["id"], row["id"]),
        ).fetchone()
        if now is not None and now[0] > 1:
            # Changed since it was stored. What was pushed, now or by an attempt whose answer was
            # lost, may be older, and the update of that change may have come too early.
            update.enqueue(client, job.payload, conn=conn)
        job.ack(conn=conn)  # all or nothing
    return None


def _read(job: pgqueue.Job[Row]) -> DictRow | None:
    """The row as it is; no connection is held while the third party takes its time."""
    with psycopg.connect(client.dsn, row_factory=dict_row) as conn:
        return conn.execute("select * from signup where id = %s", (job.payload.signup,)).fetchone()


def _some(row: DictRow, *fields: str) -> dict[str, object]:
    return {field: row[field] for field in fields}


# The third party


def setting(name: str) -> str:
    """What the environment has to say, asked for before any call."""
    value = os.environ.get(name)
    if not value:
        raise RuntimeError(f"{name} is missing: put it into the environment of who runs the jobs")
    return value


def _call(
    method: str, path: str, body: dict[str, object], key: str
) -> dict[str, object] | pgqueue.Snooze | pgqueue.Cancel:
    """The answer, or how the attempt ends without one; an exception is tried again later."""
    url, api_key = setting("SIGNUP_API_URL"), setting("SIGNUP_API_KEY")
    headers = {"Authorization": f"Bearer {api_key}", "Idempotency-Key": key}
    answer = httpx.request(method, url + path, json=body, headers=headers, timeout=PATIENCE)
    if answer.status_code in ASKED_TO_WAIT and "Retry-After" in answer.headers:
        return pgqueue.Snooze(_wait(answer.headers["Retry-After"]))
    if answer.status_code in REFUSED:
        return pgqueue.Cancel(f"refused with {answer.status_code}: {answer.text:.200}")
    if not answer.is_success:
        raise RuntimeError(f"{method} {path} answered {answer.status_code}: {answer.text:.200}")
    content: dict[str, object] = answer.json()  # an error, too, where it is no JSON
    return content


def _wait(retry_after: str) -> timedelta:
    """What the third party asks for, an hour at most; a date is taken as a minute."""
    try:
        return timedelta(seconds=min(3600.0, max(0.0, float(retry_after))))
    except ValueError:
        return timedelta(minutes=1)


# At most 10 jobs a poke, claimed in batches of 5. While the secret is replaced: [new, old].
endpoint = Endpoint(
    client,
    handlers,
    secrets=os.environ.get("SIGNUP_ENDPOINT_SECRET") or secrets.token_urlsafe(32),
    limit=10,
    batch=5,
    concurrency=5,
)
