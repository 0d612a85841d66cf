"""Game statistics of coaches, refreshed from a third party by jobs that one HTTP endpoint runs.

Served by `flask --app examples.stats_orchestrator.app run`, and poked by pg_cron. Where a process
may stay up, `pgqueue worker examples.stats_orchestrator.app:handlers` does the same sooner.
"""

import logging
import os
import secrets
from datetime import timedelta
from pathlib import Path

import attrs
import httpx
import psycopg
from flask import Flask, Request, abort, redirect, request, session
from pythonjsonlogger.json import JsonFormatter
from starlette.requests import Request as Asked
from werkzeug import Response

import pgqueue
from pgqueue.alerts import DeadJobs, Notice, PokeTrouble, RepeatedFailures, Watch, Webhook
from pgqueue.dashboard import Dashboard, User
from pgqueue.endpoint import Endpoint
from pgqueue.pg_cron import PgCron

UPSERT = """
insert into game_stat (game_id, coach_id, points) values (%s, %s, %s)
on conflict (game_id) do update set points = excluded.points, refreshed_at = now()
"""
client = pgqueue.Client()
handlers = pgqueue.Handlers(declared_by="stats_orchestrator")
app = Flask(__name__)
app.config.update(SOURCE="http://127.0.0.1:8900", TIMEOUT=10)
app.config.from_prefixed_env("STATS")  # STATS_SOURCE and STATS_TIMEOUT, in seconds


@attrs.frozen
class Options:
    """The payload: one coach or, without an id, all of them."""

    coach_id: int | None = None
    dry_run: bool = False


@handlers.register("stats.refresh_all", payload=Options, queue="stats")
def refresh_all(job: pgqueue.Job[Options]) -> None:
    """Enqueue a job for each coach: one that fails does not hold up the others."""
    with psycopg.connect(client.dsn) as conn:
        coaches = [row[0] for row in conn.execute("select id from coach order by id")]
        options = [attrs.evolve(job.payload, coach_id=coach) for coach in coaches]
        client.enqueue_many([refresh.new(each) for each in options], conn=conn)
        job.ack(conn=conn, result={"coaches": len(coaches)})


@handlers.register(
    "stats.refresh",
    payload=Options,
    queue="stats",
    dedupe=lambda options: f"{options.coach_id}:{options.dry_run}",
    retry=pgqueue.Exponential(base=timedelta(seconds=2), cap=timedelta(minutes=30)),
    max_attempts=5,
)
def refresh(job: pgqueue.Job[Options]) -> object:
    """Fetch a coach's games and store them; the summary, with what made no sense, is kept."""
    coach, dry_run = job.payload.coach_id, job.payload.dry_run
    url = f"{app.config['SOURCE']}/coaches/{coach}/games"
    answer = httpx.get(url, timeout=app.config["TIMEOUT"])
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:  # no attempt is used up
        return pgqueue.Snooze(timedelta(seconds=float(answer.headers.get("Retry-After", 60))))
    games = answer.raise_for_status().json()  # an exception is a failed attempt
    good = [game for game in games if isinstance(game.get("points"), int)]
    errors = [f"game {game['id']} has no points" for game in games if game not in good]
    summary: dict[str, pgqueue.Json] = {
        "games": len(games),
        "written": 0 if dry_run else len(good),
        "errors": errors,
    }
    with psycopg.connect(client.dsn) as conn:
        if not dry_run:
            rows = [(game["id"], coach, game["points"]) for game in good]
            conn.cursor().executemany(UPSERT, rows)
        job.ack(conn=conn, result=summary)
    return None


handlers.schedule("stats.nightly", refresh_all, cron="0 6 * * *", timezone="America/New_York")

# One line of JSON for each attempt: job_id, kind, attempt, duration, outcome and more.
lines = logging.StreamHandler()
lines.setFormatter(JsonFormatter(timestamp=True))
logging.getLogger("pgqueue.attempts").setLevel(logging.INFO)
logging.getLogger("pgqueue.attempts").handlers = [lines]


def alert(notice: Notice) -> None:
    """Tell people, once for all processes: by a webhook (or Sentry), or in the log."""
    if "ALERT_URL" in app.config:
        Webhook(app.config["ALERT_URL"])(notice)
    else:
        app.logger.error(notice.title)


rules = [RepeatedFailures(least=3), DeadJobs(), PokeTrouble(cron=PgCron(client))]
watch = Watch(client, senders=[alert], rules=rules)
endpoint = Endpoint(
    client,
    handlers,
    # Without the variable nobody gets in. While it is replaced: "new,old".
    secrets=os.environ.get("STATS_SECRET", secrets.token_urlsafe(32)).split(","),
    limit=20,
    show_errors=True,
    observers=[watch],
)


@app.route("/api/jobs/run", methods=["GET", "POST"])
def run() -> Response:
    """GET is a health check, POST processes due jobs."""
    return Response.from_app(endpoint.wsgi, request.environ)


@app.post("/login")
def login() -> Response:
    """The app's own login, whatever that is: here, who knows STATS_ADMIN."""
    admin = os.environ.get("STATS_ADMIN", "")
    if not admin or not secrets.compare_digest(request.form["token"].encode(), admin.encode()):
        abort(403)
    session["admin"] = "admin"
    return redirect("/admin/queue/")


def operator(asked: Asked) -> User | None:
    """Who is logged in may see the queue, and mend it."""
    found = app.session_interface.open_session(app, Request(asked.scope["wsgi_environ"]))
    return User(found["admin"], "operator") if found and "admin" in found else None


app.secret_key = os.environ.get("STATS_SESSION_KEY", secrets.token_urlsafe(32))
dashboard = Dashboard(client, auth=operator)
app.wsgi_app = dashboard.beside(app.wsgi_app, "/admin/queue")  # type: ignore[assignment,method-assign]


@app.cli.command()
def set_up() -> None:
    """Make what is missing in the database, in each deployment; no URL and no secret is in it."""
    client.migrate()
    with psycopg.connect(client.dsn) as conn:
        conn.execute(Path(__file__).with_name("schema.sql").read_bytes())
    client.schedules.sync(handlers.schedules, "stats_orchestrator")
