"""The game-stats orchestrator: each line of what the system has to do."""

from __future__ import annotations

import json
import logging
import re
import shlex
import threading
from collections.abc import Iterator
from datetime import timedelta
from types import ModuleType
from typing import Any

import attrs
import pytest
from examples.third_party import ThirdParty, third_party
from tests.hosted.database import Sql, until
from tests.hosted.fixtures import Hosted
from tests.hosted.serving import serving

import pgqueue
from pgqueue.testing import travel

from .conftest import EXAMPLES
from .shell import SECRET, Shell, deploy

RUN = "/api/jobs/run"
BEARER = {"Authorization": f"Bearer {SECRET}"}
GAMES = [{"id": 1, "points": 3}, {"id": 2, "points": 7}, {"id": 3}]
PLAYBOOK = re.compile(r"^```(sh|sql)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@attrs.frozen
class Stats:
    """The system, and who asks it."""

    app: ModuleType
    sql: Sql
    source: ThirdParty
    shell: Shell

    @property
    def client(self) -> pgqueue.Client:
        """That of the app."""
        found: pgqueue.Client = self.app.client
        return found

    def enqueue(self, coach: int = 7, **options: Any) -> int:
        """A job of one coach."""
        found = self.app.refresh.enqueue(
            self.client, self.app.Options(coach_id=coach), dedupe_key=None, **options
        )
        return int(found.id)

    def post(self, secret: str = SECRET, **body: object) -> Any:
        """What comes of a POST: its status and content."""
        headers = {"Authorization": f"Bearer {secret}"}
        answer = self.app.app.test_client().post(RUN, headers=headers, json=body)
        return answer.status_code, answer.get_json()

    def points(self) -> list[tuple[Any, ...]]:
        """What is stored."""
        return self.sql("select game_id, points from game_stat order by 1")


@pytest.fixture
def source() -> Iterator[ThirdParty]:
    """Where the statistics come from."""
    with third_party() as served:
        served.put("/coaches/7/games", GAMES)
        served.put("/coaches/8/games", [])
        yield served


def started(dsn: str, source: ThirdParty, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stats]:
    """The system, deployed and set up, until the test is over."""
    env = {
        "PGQUEUE_DSN": dsn,
        "STATS_SOURCE": source.url,
        "STATS_SECRET": SECRET,
        "STATS_TIMEOUT": "5",
    }
    app = deploy("stats_orchestrator", monkeypatch, **env)
    done = app.app.test_cli_runner().invoke(args=["set-up"])
    assert done.exit_code == 0, done.output
    sql = Sql(dsn)
    sql("insert into coach values (7, 'Ada'), (8, 'Bob')")
    yield Stats(app, sql, source, Shell(env))
    app.endpoint.close()
    app.client.close()
    sql.conn.close()
    logging.getLogger("pgqueue.attempts").handlers = []


@pytest.fixture
def stats(pgqueue_dsn: str, source: ThirdParty, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stats]:
    """The system where there is no pg_cron."""
    yield from started(pgqueue_dsn, source, monkeypatch)


@pytest.fixture
def installed(
    hosted: Hosted, source: ThirdParty, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stats]:
    """The system on a server with pg_cron, which pokes it once a minute."""
    for made in started(hosted.dsn, source, monkeypatch):
        with serving(made.app.app) as url:
            made.shell("cron", "sync-secret", "stats_orchestrator", stdin=SECRET)
            where = ("--url", url + RUN, "--queue", "stats", "--secret", "stats_orchestrator")
            made.shell("cron", "install", *where, "--every", "1m")
            yield made


def answered(stats: Stats, request: object) -> int:
    """The status of a request of pg_net, once it is there."""
    query = "select status_code from net._http_response where id = %s"
    until(lambda: stats.sql(query, request))
    return int(stats.sql.one(query, request))


# Jobs: task_type, payload, status, run_at, attempts, max_attempts, last_error. Enqueue, claim with
# SKIP LOCKED, success, failure with backoff.


def test_job_has_all_that_the_old_table_had(stats: Stats) -> None:
    """By other names: kind, state, attempt, and the error in its history."""
    job = stats.enqueue()
    stats.source.next(1, "error")
    stats.post()
    found = stats.client.get(job)
    assert (found.kind, found.state) == ("stats.refresh", "scheduled")
    assert found.payload == {"coach_id": 7, "dry_run": False}
    assert (found.attempt, found.max_attempts) == (1, 5)
    assert found.run_at > found.enqueued_at
    assert "500 Internal Server Error" in (found.history[-1].error or "")


def test_jobs_are_claimed_once_by_many_at_a_time(stats: Stats) -> None:
    """Pokes that overlap pass over each other's jobs."""
    jobs = [stats.enqueue() for _ in range(24)]
    answers: list[Any] = []
    pokes = [threading.Thread(target=lambda: answers.append(stats.post())) for _ in range(3)]
    for poke in pokes:
        poke.start()
    for poke in pokes:
        poke.join(30)
    done = [result["id"] for _, answer in answers for result in answer["results"]]
    assert sorted(done) == sorted(jobs)
    assert len(stats.source.calls) == 24


@pytest.mark.parametrize("trouble", ["error", "slow", "reset", "garbage"])
def test_failure_backs_off_and_success_follows(stats: Stats, trouble: str) -> None:
    """Whatever the third party does wrong; after five attempts the job is dead."""
    job = stats.enqueue()
    stats.source.next(1, trouble)
    stats.app.app.config["TIMEOUT"] = 0.5 if trouble == "slow" else 5
    assert stats.post()[1]["failed"] == 1
    assert stats.post()[1]["processed"] == 0
    travel(stats.client, timedelta(seconds=3))
    assert stats.post()[1]["succeeded"] == 1
    assert stats.client.get(job).state == "succeeded"
    assert stats.points() == [(1, 3), (2, 7)]


def test_third_party_that_is_busy_is_asked_when_it_said(stats: Stats) -> None:
    """429 with Retry-After: so long, and no attempt is used up."""
    job = stats.enqueue()
    stats.source.next(1, "busy", retry_after=90)
    stats.post()
    assert (stats.client.get(job).state, stats.client.get(job).attempt) == ("scheduled", 0)
    travel(stats.client, timedelta(seconds=85))
    assert stats.post()[1]["processed"] == 0
    travel(stats.client, timedelta(seconds=10))
    assert stats.post()[1]["succeeded"] == 1


# Handler options (dry run, coach id) come in the payload; the handler's summary and errors are kept
# on the job.


def test_options_come_in_the_payload(stats: Stats) -> None:
    """A dry run asks, and writes nothing; a job without a coach enqueues one for each."""
    options = stats.app.Options
    tried = stats.app.refresh.enqueue(stats.client, options(coach_id=7, dry_run=True)).id
    stats.post()
    assert stats.client.get(tried).result["written"] == 0
    assert stats.points() == []
    everyone = stats.app.refresh_all.enqueue(stats.client, options()).id
    answer = stats.post()[1]
    assert sorted(result["kind"] for result in answer["results"]) == [
        "stats.refresh",
        "stats.refresh",
        "stats.refresh_all",
    ]
    assert stats.client.get(everyone).result == {"coaches": 2}
    assert stats.points() == [(1, 3), (2, 7)]


def test_summary_and_errors_are_kept_on_the_job(stats: Stats) -> None:
    """What the handler says as its result; what went wrong before, with tracebacks, as history."""
    job = stats.enqueue()
    stats.source.next(1, "error")
    stats.post()
    travel(stats.client, timedelta(seconds=3))
    stats.post()
    found = stats.client.get(job)
    assert found.result == {"games": 3, "written": 2, "errors": ["game 3 has no points"]}
    (attempt,) = found.history
    assert (attempt.outcome, attempt.error_class) == ("failed", "HTTPStatusError")
    assert "raise_for_status" in (attempt.traceback or "")
    shown = stats.shell("job", str(job))
    assert "game 3 has no points" in shown
    assert "HTTPStatusError" in shown


# POST /api/jobs/run: checks a shared secret, processes up to N due jobs, answers {"processed",
# "succeeded", "failed", "results"}. The cron payload stays minimal. Secret rotation.


def test_post_checks_the_secret_and_processes_up_to_so_many(stats: Stats) -> None:
    """Without it nothing is done; GET is a health check."""
    jobs = [stats.enqueue() for _ in range(22)]
    stats.source.next(1, "error")
    assert stats.post(secret="wrong-horse-battery-staple")[0] == 401
    assert stats.app.app.test_client().post(RUN).status_code == 401
    assert stats.app.app.test_client().get(RUN).get_json() == {"status": "ok", "queue": "stats"}
    assert stats.source.calls == []
    status, answer = stats.post(limit=3)
    assert (status, answer["processed"]) == (200, 3)
    assert (answer["succeeded"], answer["failed"], answer["more"]) == (2, 1, True)
    (failed,) = [result for result in answer["results"] if result["outcome"] == "failed"]
    assert failed["id"] in jobs
    assert failed["error"].startswith("HTTPStatusError: Server error '500")
    assert stats.post(limit=21)[0] == 400
    assert stats.post()[1]["processed"] >= 19


def test_cron_payload_is_minimal(installed: Stats) -> None:
    """Nothing but {}: what is to be done is in the jobs."""
    job = installed.enqueue()
    assert installed.sql("select body from pgqueue.poke") == [({},)]
    command = "select command from cron.job where jobname ~ 'poke'"
    assert installed.sql.one(command) == "select \"pgqueue\".poke('stats')"
    request = installed.sql.one("select pgqueue.poke('stats')")
    assert answered(installed, request) == 200
    assert installed.client.get(job).state == "succeeded"


def test_old_and_new_secret_are_valid_for_a_while(
    stats: Stats, source: ThirdParty, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deployed as "new,old", then the caller has the new one, then the old one is dropped."""
    new = "another-horse-battery-staple"
    for value, accepted in ((f"{new},{SECRET}", {new, SECRET}), (new, {new})):
        env = {"STATS_SECRET": value, "STATS_SOURCE": source.url}
        app = deploy("stats_orchestrator", monkeypatch, **env)
        again = attrs.evolve(stats, app=app)
        statuses = {secret: again.post(secret)[0] for secret in (new, SECRET)}
        assert {secret for secret, status in statuses.items() if status == 200} == accepted
        app.endpoint.close()
        app.client.close()


# One structured log line per attempt; alerts on repeated failures.


def test_each_attempt_is_one_line_of_json(stats: Stats) -> None:
    """With the job's id, kind, attempt, duration and outcome; never the payload."""
    written: list[str] = []
    (handler,) = logging.getLogger("pgqueue.attempts").handlers
    handler.emit = lambda record: written.append(handler.format(record))  # type: ignore[method-assign]
    job = stats.enqueue()
    stats.source.next(1, "error")
    stats.post()
    travel(stats.client, timedelta(seconds=3))
    stats.post()
    lines = [json.loads(line) for line in written]
    assert [(line["job_id"], line["kind"], line["attempt"], line["outcome"]) for line in lines] == [
        (job, "stats.refresh", 1, "failed"),
        (job, "stats.refresh", 2, "succeeded"),
    ]
    assert all(line["duration"] > 0 for line in lines)
    assert "coach_id" not in "".join(written)


def test_repeated_failures_alert_a_webhook_once(stats: Stats) -> None:
    """That of the deployment; Sentry takes the same. While nothing is wrong nobody is told."""
    with third_party() as pager:
        stats.app.app.config["ALERT_URL"] = f"{pager.url}/hook"
        stats.enqueue()
        stats.post()
        stats.app.endpoint.close()
        assert stats.app.watch.look() == 0
        stats.source.next(3, "error")
        for _ in range(3):
            stats.enqueue()
        stats.post()
        stats.app.endpoint.close()
        assert [stats.app.watch.look() for _ in range(2)] == [1, 0]
        (call,) = pager.calls
    assert "[FIRING] pgqueue repeated_failures stats.refresh: 3 of 4" in call.body["text"]


# Clean-up of succeeded jobs older than 14 days, daily. A switch pauses automatic processing while
# the manual tools still work.


def test_succeeded_jobs_go_after_fourteen_days(stats: Stats) -> None:
    """The upkeep drops them, by the day; nothing is scheduled for it. Dead ones stay longer."""
    job = stats.enqueue()
    stats.enqueue(8, max_attempts=1)
    stats.source.next(1, "error", path="/coaches/8")
    stats.post()
    travel(stats.client, timedelta(days=13))
    stats.client.maintain()
    assert stats.client.get(job).state == "succeeded"
    travel(stats.client, timedelta(days=3))
    stats.client.maintain()
    with pytest.raises(pgqueue.JobNotFound):
        stats.client.get(job)
    assert [found.state for found in stats.client.list(kind="stats.refresh")] == ["dead"]


def test_switch_pauses_all_automatic_processing_and_no_manual_tool(installed: Stats) -> None:
    """No claim, no schedule, no poke; but enqueue, retry, cancel, and one job by hand."""
    stats = installed
    stats.shell("pause", "--all", "--reason", "the third party is down")
    job = stats.enqueue()
    assert stats.sql.one("select pgqueue.poke('stats')") is None
    assert stats.post()[1]["processed"] == 0
    travel(stats.client, timedelta(days=1), any_database=True)
    stats.client.maintain()
    assert len(stats.client.list()) == 1
    stats.shell("run", str(job), "examples.stats_orchestrator.app:handlers")
    assert stats.client.get(job).state == "succeeded"
    assert stats.client.retry(job) == [job]
    stats.client.cancel(job)
    stats.shell("schedule", "run", "stats.nightly")
    assert stats.post()[1]["processed"] == 0
    stats.shell("resume", "--all")
    assert answered(stats, stats.sql.one("select pgqueue.poke('stats')")) == 200
    assert len(stats.client.list(kind="stats.refresh", state="succeeded")) >= 2


# A maintenance playbook: pause, replay, change the schema, drain pg_net's backlog (its queue and
# responses are watched; its own failures, "Out of memory" among them, are surfaced, not swallowed).


def test_every_command_of_the_playbook_runs(installed: Stats) -> None:
    """From top to bottom, with a dead job to be replayed."""
    stats = installed
    job = stats.enqueue(max_attempts=1)
    stats.source.next(1, "error")
    stats.post()
    assert stats.client.get(job).state == "dead"
    ids = {"$DEAD": job, "$JOB": stats.enqueue(8)}
    text = (EXAMPLES / "stats_orchestrator" / "MAINTENANCE.md").read_text("utf-8")
    for kind, block in PLAYBOOK.findall(text):
        if kind == "sql":
            for statement in filter(str.strip, block.split(";\n")):
                stats.sql(statement)
            continue
        for line in block.splitlines():
            playbook_command(stats, re.sub(r"\$[A-Z]+", lambda name: str(ids[name[0]]), line))
    until(lambda: stats.client.get(job).state == "succeeded")
    assert [found.active for found in stats.app.PgCron(stats.client).jobs()] == [True, True]
    assert not any(queue.paused_until for queue in stats.client.stats())


def playbook_command(stats: Stats, line: str) -> None:
    """Runs a line: those that look exit with 1 where they find something."""
    program, *args = shlex.split(line, comments=True)
    if program == "python":
        assert args[-1] == "set-up"
        assert stats.app.app.test_cli_runner().invoke(args=["set-up"]).exit_code == 0
    else:
        assert program == "pgqueue"
        looks = args[0] == "redrive" or args[:2] in (["cron", "verify"], ["cron", "failures"])
        stats.shell(*args, code=(0, 1) if looks else 0)


def test_failures_of_pg_net_itself_are_surfaced(installed: Stats) -> None:
    """Out of memory, say: by the check, the list of failures, and an alert to people."""
    stats = installed
    told: list[str] = []
    stats.app.app.logger.error = told.append
    stats.app.watch.look()
    assert told == []
    stats.sql("update pgqueue.poke set url = 'http://127.0.0.1:9/'")
    request = stats.sql.one("select pgqueue.poke('stats', true)")
    until(lambda: stats.sql("select 1 from net._http_response"))
    stats.sql("update net._http_response set error_msg = 'Out of memory' where id = %s", request)
    assert stats.sql("select status, error from pgqueue.poke_failures()") == [
        (None, "Out of memory")
    ]
    found = stats.shell("cron", "verify", code=1)
    assert "poke:stats: Out of memory" in found
    assert "lower pg_net.batch_size" in found
    stats.app.watch.look()
    (text,) = told
    assert "poke_trouble requests" in text
    assert "Out of memory" in text


# Under pg_cron, and under the in-process scheduler.


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_pg_cron_pokes_and_so_fires_schedules(installed: Stats, hosted: Hosted) -> None:
    """Within a minute the nightly job has run, and one for each coach, though one failed once."""
    stats = installed
    stats.source.next(1, "error", path="/coaches/8")
    travel(stats.client, timedelta(days=1), any_database=True)
    hosted.wait_for_run("poke:stats")
    assert hosted.runs("poke:stats")[0][0] == "succeeded"
    until(lambda: stats.points() == [(1, 3), (2, 7)])
    until(lambda: stats.sql("select 1 from net._http_response where status_code = 200"))
    states = {job.dedupe_key: job.state for job in stats.client.list(kind="stats.refresh")}
    assert states == {"7:False": "succeeded", "8:False": "scheduled"}


def test_worker_fires_the_schedule_without_pg_cron(stats: Stats) -> None:
    """Each night in New York, however this host's clock is set; it tells its attempts, too."""
    nightly = stats.client.schedules.get("stats.nightly")
    assert nightly.schedule.timezone == "America/New_York"
    travel(stats.client, timedelta(days=1))
    worker = pgqueue.Worker(stats.client, stats.app.handlers, observers=[stats.app.watch])
    working = threading.Thread(target=worker.run)
    working.start()
    until(lambda: stats.points() == [(1, 3), (2, 7)])
    worker.stop()
    working.join(20)
    (run,) = stats.client.schedules.runs("stats.nightly")
    assert run.outcome == "enqueued"


# Admin page: metrics, list with filters, detail (payload, attempt history), retry, cancel, run now,
# archive; guarded.

PAGES = "/admin/queue"


def test_admin_page_is_behind_the_login_of_the_app(
    stats: Stats, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is in without the token, and nobody at all where none was set."""
    http = stats.app.app.test_client()
    assert http.get(f"{PAGES}/").status_code == 403
    assert http.post("/login", data={"token": ""}).status_code == 403
    monkeypatch.setenv("STATS_ADMIN", "let-me-in")
    assert http.post("/login", data={"token": "wrong"}).status_code == 403
    assert http.post("/login", data={"token": "let-me-in"}).status_code == 302
    assert "Overview" in http.get(f"{PAGES}/").text


def test_admin_page_lists_shows_and_retries(stats: Stats, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the list of dead jobs to one of them, its payload and error, and back to work."""
    job = stats.enqueue(max_attempts=1)
    stats.source.next(1, "error")
    stats.post()
    monkeypatch.setenv("STATS_ADMIN", "let-me-in")
    http = stats.app.app.test_client()
    http.post("/login", data={"token": "let-me-in"})
    assert f"/jobs/{job}" in http.get(f"{PAGES}/jobs?state=dead&kind=stats.refresh").text
    shown = http.get(f"{PAGES}/jobs/{job}").text
    assert "coach_id" in shown
    assert "500 Internal Server Error" in shown
    (csrf, *_) = re.findall(r'name="csrf" value="(\w+)"', shown)
    where = {"Origin": "http://localhost"}
    refused = http.post(f"{PAGES}/jobs/{job}/retry", headers=where)
    assert refused.status_code == 403
    done = http.post(f"{PAGES}/jobs/{job}/retry", headers=where, data={"csrf": csrf})
    assert done.status_code == 303
    assert stats.client.get(job).state == "ready"
    assert stats.post()[1]["succeeded"] == 1
    (entry, *_) = stats.client.operations.audit(action="retry")
    assert (entry.actor, entry.via) == ("admin", "dashboard")
