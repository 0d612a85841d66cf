"""Auto-sync: users' schedules of what is fetched from third parties, each with a key of its own.

schema.sql has the tables and who may read them, README.md says how to run it.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, time, timedelta

import attrs
import httpx
import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import class_row

import pgqueue
from pgqueue.endpoint import Endpoint

API_URL = os.environ.get("AUTOSYNC_URL", "http://127.0.0.1:8900")
TIMEOUT = float(os.environ.get("AUTOSYNC_TIMEOUT", "10"))  # seconds
# Which key, as of now: not as of when the schedule was made. A job is worth the key of its own
# tenant only, whatever integration its payload names.
KEY = """
select i.service, c.api_key from pgqueue.job j
join autosync.integration i on i.id = (j.payload ->> 'integration')::bigint and i.owner = j.tenant
join autosync.credential c on c.integration_id = i.id
where j.id = %s
"""
MINE = "select from autosync.integration where id = %s"
HISTORY = """
select r.slot, r.outcome, j.state, j.attempt, j.finished_at,
    coalesce(r.error, j.history -> -1 ->> 'error') as error
from pgqueue.schedule s
join pgqueue.schedule_run r on r.schedule_id = s.id
left join pgqueue.all_jobs j on j.id = r.job_id
where s.name = %s order by r.slot desc limit 50
"""

client = pgqueue.Client()
WEB_DSN = os.environ.get("AUTOSYNC_WEB_DSN") or make_conninfo(
    client.dsn, options="-c role=autosync_web"
)
handlers = pgqueue.Handlers()


@handlers.register("autosync.run", queue="autosync")
def run(job: pgqueue.Job) -> object:
    """Have the third party synchronise, once for each slot, with the key that holds now."""
    with psycopg.connect(client.dsn) as conn:
        found = conn.execute(KEY, (job.id,)).fetchone()
    if found is None:
        return pgqueue.Cancel("the integration has no key, or is gone")
    service, key = found
    response = httpx.post(
        f"{API_URL}/{service}/sync",
        json={"slot": (job.metadata or {})["slot"]},
        headers={"Authorization": f"Bearer {key}", "Idempotency-Key": f"autosync-{job.id}"},
        timeout=TIMEOUT,
    )
    if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
        return asked_to_wait(response)
    response.raise_for_status()
    return {"sync": response.json()["id"]}


def asked_to_wait(response: httpx.Response) -> pgqueue.Snooze:
    """As long as a 429 says, an hour at most, a minute if it does not; no attempt is used up."""
    seconds = response.headers.get("Retry-After", "")
    return pgqueue.Snooze(timedelta(seconds=min(int(seconds), 3600) if seconds.isdigit() else 60))


@contextmanager
def as_user(user: str) -> Iterator[psycopg.Connection]:
    """A transaction in which the database shows and takes what is this user's, and no more."""
    with psycopg.connect(WEB_DSN) as conn:
        conn.execute("select set_config('pgqueue.tenant', %s, true)", (user,))
        yield conn


@attrs.frozen(kw_only=True)
class Settings:
    """What a user sets on the page."""

    frequency_minutes: int
    time_window: tuple[time, time] | None = None
    """Only from the first to just before the second, each day; it may span midnight."""
    timezone: str = "UTC"
    enabled: bool = True


@attrs.frozen
class Run:
    """A slot of the history, and what became of its job."""

    slot: datetime
    outcome: str
    state: str | None
    attempt: int | None
    finished_at: datetime | None
    error: str | None


def connect(user: str, service: str, key: str) -> int:
    """Store an integration of the user's, or a new key for it; give its id."""
    with as_user(user) as conn:
        found = conn.execute("select autosync.connect(%s, %s)", (service, key)).fetchall()
        return int(found[0][0])


def disconnect(user: str, integration: int) -> bool:
    """Delete an integration, its key, its schedule and its unfinished jobs."""
    with as_user(user) as conn:
        gone = conn.execute("delete from autosync.integration where id = %s", (integration,))
        return gone.rowcount > 0


def save(user: str, integration: int, settings: Settings) -> pgqueue.ScheduleState:
    """Make or change the one schedule of an integration; the database computes the next run.

    Raises:
        LookupError: the user has no such integration.
        pgqueue.InvalidSchedule: the settings cannot be; the message is fit to be shown.
    """
    schedule = pgqueue.Schedule(
        f"autosync:{integration}",
        "autosync.run",
        {"integration": integration},
        every=timedelta(minutes=settings.frequency_minutes),
        window=settings.time_window,
        timezone=settings.timezone,
        enabled=settings.enabled,
        overlap="skip",  # while the last one is not done, or backs off
        queue="autosync",
        max_attempts=5,
        retry=pgqueue.Exponential(base=timedelta(seconds=10), cap=timedelta(minutes=5)),
        ref=f"integration:{integration}",
    )
    with as_user(user) as conn:
        if not conn.execute(MINE, (integration,)).rowcount:
            raise LookupError(f"{user} has no integration {integration}")
        client.schedules.put(schedule, conn=conn)
        return client.schedules.get(schedule.name, conn=conn)


def schedules(user: str) -> list[pgqueue.ScheduleState]:
    """The user's schedules, with the next run and the last one of each."""
    with as_user(user) as conn:
        return client.schedules.list(conn=conn)


def history(user: str, integration: int) -> list[Run]:
    """What became of a schedule's slots, the latest first."""
    with as_user(user) as conn, conn.cursor(row_factory=class_row(Run)) as cursor:
        return cursor.execute(HISTORY, (f"autosync:{integration}",)).fetchall()


def run_now(user: str, integration: int) -> int:
    """Run a schedule by hand; give the job's id."""
    with as_user(user) as conn:
        return client.schedules.run_now(f"autosync:{integration}", conn=conn)


# What pg_cron pokes where no worker may stay up. Without the variable nobody gets in.
endpoint = Endpoint(
    client, handlers, secrets=os.environ.get("AUTOSYNC_SECRET") or secrets.token_urlsafe(32)
)
