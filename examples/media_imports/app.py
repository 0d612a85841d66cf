"""Media imports: what users ask for is fetched from a third party and stored, each exactly once.

Served by `flask --app examples.media_imports.app run`, and poked by pg_cron every 10 seconds. Where
a process may stay up, `pgqueue worker examples.media_imports.app:handlers` does the same sooner.
"""

import json
import os
import secrets
from datetime import timedelta
from pathlib import Path

import attrs
import httpx
import psycopg
from flask import Flask, abort, request
from flask.typing import ResponseReturnValue
from werkzeug import Response

import pgqueue
from pgqueue.endpoint import Endpoint

client = pgqueue.Client()
handlers = pgqueue.Handlers()
app = Flask(__name__)
app.config.update(SOURCE="http://127.0.0.1:8900", TIMEOUT=10)
app.config.from_prefixed_env("MEDIA")  # MEDIA_SOURCE and MEDIA_TIMEOUT, in seconds


@attrs.frozen
class Import:
    """The payload."""

    media_id: str


@handlers.register(
    "media.import",
    payload=Import,
    queue="media",
    dedupe=lambda wanted: wanted.media_id,
    retry=pgqueue.Exponential(base=timedelta(seconds=2), cap=timedelta(minutes=10)),
    max_attempts=8,
)
def import_media(job: pgqueue.Job[Import]) -> object:
    """Fetch and store; the write and the job's end are one transaction."""
    url = f"{app.config['SOURCE']}/media/{job.payload.media_id}"
    answer = httpx.get(url, timeout=app.config["TIMEOUT"])
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:  # no attempt is used up
        return pgqueue.Snooze(timedelta(seconds=float(answer.headers.get("Retry-After", 60))))
    if answer.status_code == httpx.codes.NOT_FOUND:
        return pgqueue.Cancel("there is no such media")
    media = answer.raise_for_status().json()  # an exception is a failed attempt
    with psycopg.connect(client.dsn) as conn:
        sql = "update media_import set media = %s, imported_at = now() where media_id = %s"
        conn.execute(sql, (json.dumps(media), job.payload.media_id))
        job.ack(conn=conn, result={"imported": True})
    return None


endpoint = Endpoint(
    client,
    handlers,
    # Without the variable nobody gets in. While it is replaced: "new,old".
    secrets=os.environ.get("MEDIA_SECRET", secrets.token_urlsafe(32)).split(","),
)


@app.route("/api/media-imports/run", methods=["GET", "POST"])
def run() -> Response:
    """GET is a health check, POST processes pending imports."""
    return Response.from_app(endpoint.wsgi, request.environ)


@app.put("/imports/<media_id>")
def ask(media_id: str) -> ResponseReturnValue:
    """Have it imported: a row and a job, both or neither. Asked again meanwhile, it is one job."""
    with psycopg.connect(client.dsn) as conn:
        sql = "insert into media_import (media_id) values (%s) on conflict do nothing"
        conn.execute(sql, (media_id,))
        queued = import_media.enqueue(client, Import(media_id), ref=f"media:{media_id}", conn=conn)
    return {"job": queued.id, "duplicate": queued.duplicate}, 202


@app.get("/imports/<media_id>")
def show(media_id: str) -> ResponseReturnValue:
    """Say how it is doing."""
    with psycopg.connect(client.dsn) as conn:
        sql = "select media from media_import where media_id = %s"
        row = conn.execute(sql, (media_id,)).fetchone()
    if row is None:
        abort(404, "nobody asked for it")
    jobs = client.list(ref=f"media:{media_id}", limit=1)
    return {"media": row[0], "state": jobs[0].state if jobs else "forgotten"}


@app.cli.command()
def set_up() -> None:
    """Make what is missing in the database, in each deployment; no URL and no secret is in it."""
    client.migrate()
    with psycopg.connect(client.dsn) as conn:
        conn.execute(Path(__file__).with_name("schema.sql").read_bytes())
