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
class New:
    """The payload of what creates: as it was stored, so that all attempts send the same."""

    signup: int
    email: str
    name: str
    plan: str


@attrs.frozen
class Changed:
    """The payload of an update: which sign-up. What is sent is what it is by then."""

    signup: int


operation = functools.partial(
    handlers.register,
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
    update.enqueue(client, Changed(signup), conn=conn)


def _store(
    conn: psycopg.Connection, kind: pgqueue.Kind[New], email: str, name: str, plan: str
) -> int:
    ((signup,),) = conn.execute(
        "insert into signup (email, name, plan) values (%s, %s, %s) returning id",
        (email, name, plan),
    )
    kind.enqueue(client, New(signup, email, name, plan), conn=conn)
    return int(signup)


# The handlers


@operation("signup.atomic", payload=New)
def signup_atomic(job: pgqueue.Job[New]) -> object:
    """Push a person with the plan."""
    return _create(job, "/signups", "email", "name", "plan")


@operation("signup.insert", payload=New)
def insert(job: pgqueue.Job[New]) -> object:
    """Push a person."""
    return _create(job, "/people", "email", "name")


@operation("signup.update", payload=Changed, dedupe=lambda of: str(of.signup), dedupe_until="start")
def update(job: pgqueue.Job[Changed]) -> object:
    """Push what a person is now."""
    row = _read(job.payload.signup)
    if row is None:
        return pgqueue.Skip("the sign-up is deleted")
    if row["remote_id"] is None:
        return pgqueue.Skip("the third party does not have the person yet: see _create")
    # An answer that was lost is asked for again by the key; a newer version has another one.
    key = f"{job.id}:{row['version']}"
    body = {field: row[field] for field in ("email", "name", "plan")}
    answer = _call("PATCH", f"/people/{row['remote_id']}", body, key)
    if isinstance(answer, ENDED):
        return answer
    now = _read(job.payload.signup)
    if now is not None and now["version"] != row["version"]:
        return pgqueue.Snooze(timedelta(0))  # another push may have come first: once more
    return None


def _create(job: pgqueue.Job[New], path: str, *fields: str) -> object:
    if _read(job.payload.signup) is None:
        return pgqueue.Skip("the sign-up is deleted")
    body = {field: getattr(job.payload, field) for field in fields}
    answer = _call("POST", path, body, str(job.id))
    if isinstance(answer, ENDED):
        return answer
    with psycopg.connect(client.dsn) as conn:
        now = conn.execute(
            "update signup set remote_id = %s where id = %s returning version",
            (answer["id"], job.payload.signup),
        ).fetchone()
        if now is not None and now[0] > 1:
            # Changed since it was stored, and the job of that change may have come too early.
            update.enqueue(client, Changed(job.payload.signup), conn=conn)
        job.ack(conn=conn)  # all or nothing
    return None


def _read(signup: int) -> DictRow | None:
    """The row as it is; no connection is held while the third party takes its time."""
    with psycopg.connect(client.dsn, row_factory=dict_row) as conn:
        return conn.execute("select * from signup where id = %s", (signup,)).fetchone()


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
