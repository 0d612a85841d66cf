"""Reminders: who has a sync that runs unconfirmed for a day is asked; two days later it is paused.

reminders.sql has the triggers and all delays, README.md says how to run it.
"""

import os
import secrets
from datetime import timedelta

import httpx
import psycopg

import pgqueue
from pgqueue.endpoint import Endpoint

MESSAGES_URL = os.environ.get("REMINDERS_URL", "http://127.0.0.1:8900/messages")
TIMEOUT = float(os.environ.get("REMINDERS_TIMEOUT", "10"))  # seconds
OPEN = """
select owner, recipients from sync_app.sync
where id = %s and status = 'running' and confirmed_at is null
"""
PAUSE = """
update sync_app.sync set status = 'paused'
where id = %s and status = 'running' and confirmed_at is null returning id
"""
NOTHING_LEFT = pgqueue.Skip("confirmed, not running any more, or deleted")

client = pgqueue.Client()
handlers = pgqueue.Handlers()


@handlers.register("reminder.due", queue="reminders")
def remind(job: pgqueue.Job) -> object:
    """Enqueue a message to each person and the follow-up, and ack: all of it or nothing."""
    sync_id = job.payload["sync_id"]
    with psycopg.connect(client.dsn) as conn:
        # Locked, so that a deletion comes before this, or after it and takes the new jobs along.
        found = conn.execute(OPEN + "for update", (sync_id,)).fetchone()
        if found is None:
            return NOTHING_LEFT
        owner, recipients = found
        conn.execute("select set_config('pgqueue.tenant', %s, true)", (owner,))
        for to in recipients:
            message = {"sync_id": sync_id, "to": to, "text": "Your sync runs. Shall it go on?"}
            send.enqueue(client, message, ref=job.ref, conn=conn)
        conn.execute("select reminders.plan(%s, %s, 'reminder.follow_up')", (sync_id, owner))
        job.ack(conn=conn)
    return None


@handlers.register(
    "message.send",
    queue="reminders",
    retry=pgqueue.Exponential(base=timedelta(seconds=10), cap=timedelta(minutes=30)),
    max_attempts=8,
)
def send(job: pgqueue.Job) -> object:
    """Send one message; the other side drops a second one with the same Idempotency-Key."""
    with psycopg.connect(client.dsn) as conn:
        if conn.execute(OPEN, (job.payload["sync_id"],)).fetchone() is None:
            return NOTHING_LEFT
    response = httpx.post(
        MESSAGES_URL,
        json={"to": job.payload["to"], "text": job.payload["text"]},
        headers={"Idempotency-Key": f"message-{job.id}"},
        timeout=TIMEOUT,
    )
    if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
        return asked_to_wait(response)
    response.raise_for_status()
    return {"message": response.json()["id"]}


def asked_to_wait(response: httpx.Response) -> pgqueue.Snooze:
    """As long as a 429 says, an hour at most, a minute if it does not; no attempt is used up."""
    seconds = response.headers.get("Retry-After", "")
    return pgqueue.Snooze(timedelta(seconds=min(int(seconds), 3600) if seconds.isdigit() else 60))


@handlers.register("reminder.follow_up", queue="reminders")
def follow_up(job: pgqueue.Job) -> object:
    """Pause a sync that nobody has confirmed, and ack: both, or neither."""
    with psycopg.connect(client.dsn) as conn:
        if conn.execute(PAUSE, (job.payload["sync_id"],)).fetchone() is None:
            return NOTHING_LEFT
        job.ack(conn=conn, result={"paused": True})
    return None


# What pg_cron pokes where no worker may stay up. Without the variable nobody gets in.
endpoint = Endpoint(
    client,
    handlers,
    secrets=os.environ.get("REMINDERS_SECRET") or secrets.token_urlsafe(32),
    limit=10,  # jobs a poke
)
