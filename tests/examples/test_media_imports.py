"""Media imports: each line of what the system has to do, on real pg_cron where that matters."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from types import ModuleType
from typing import Any

import attrs
import psycopg
import pytest
from examples.third_party import ThirdParty, third_party
from tests.hosted.database import until
from tests.hosted.fixtures import Hosted
from tests.hosted.serving import serving

from pgqueue.testing import travel

from .conftest import ROOT
from .shell import SECRET, Shell, deploy

RUN = "/api/media-imports/run"
BEARER = {"Authorization": f"Bearer {SECRET}"}
POKE = "select pgqueue.poke('media')"
TWO_MINUTES = 130
"""Seconds until pg_cron has started a run and that has spread its minute."""
CLASSES = {
    "error": ["HTTPStatusError"],
    "slow": ["ReadTimeout"],
    "reset": ["ReadError", "RemoteProtocolError"],
    "garbage": ["JSONDecodeError"],
}
"""Of the error that each trouble is."""


@attrs.frozen
class Deployed:
    """The system after a deployment: served at a URL, beside pg_cron, which does nothing yet."""

    app: ModuleType
    url: str
    hosted: Hosted
    shell: Shell

    def ask(self, *names: str) -> list[int]:
        """Asks for imports as a browser does; gives the jobs."""
        browser = self.app.app.test_client()
        return [browser.put(f"/imports/{name}").get_json()["job"] for name in names]

    def install(self, *options: str) -> None:
        """What is run after each deployment."""
        self.shell("cron", "sync-secret", "media_imports", stdin=SECRET)
        url = ("--url", self.url + RUN, "--queue", "media", "--secret", "media_imports")
        self.shell("cron", "install", *url, "--every", "10s", *options)

    def poke(self, *, force: bool = False) -> Any:
        """Calls the wrapper; gives the id of the request once that is answered, or None."""
        request = self.hosted.sql.one(f"select pgqueue.poke('media', {force})")
        answered = "select count(*) from net._http_response where id = %s"
        until(lambda: request is None or self.hosted.sql.one(answered, request))
        return request


@pytest.fixture
def source() -> Iterator[ThirdParty]:
    """Where the media come from."""
    with third_party() as served:
        for number in range(10):
            served.put(f"/media/{number}", {"caption": f"number {number}"})
        yield served


def variables(dsn: str, source: ThirdParty) -> dict[str, str]:
    """What a deployment sets."""
    return {
        "PGQUEUE_DSN": dsn,
        "MEDIA_SOURCE": source.url,
        "MEDIA_SECRET": SECRET,
        "MEDIA_TIMEOUT": "5",
    }


def started(app: ModuleType) -> Iterator[ModuleType]:
    """The app, set up, until the test is over."""
    done = app.app.test_cli_runner().invoke(args=["set-up"])
    assert done.exit_code == 0, done.output
    yield app
    app.endpoint.close()
    app.client.close()


@pytest.fixture
def app(
    pgqueue_dsn: str, source: ThirdParty, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ModuleType]:
    """The app where there is no pg_cron."""
    yield from started(deploy("media_imports", monkeypatch, **variables(pgqueue_dsn, source)))


@pytest.fixture
def deployed(
    hosted: Hosted, source: ThirdParty, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Deployed]:
    """See `Deployed`."""
    env = variables(hosted.dsn, source)
    for app in started(deploy("media_imports", monkeypatch, **env)):
        with serving(app.app) as url:
            yield Deployed(app, url, hosted, Shell(env))


# Every 10 seconds pg_cron calls a wrapper that validates secrets, POSTs to the worker endpoint, and
# returns the request id.


def test_wrapper_validates_its_secret_before_any_call(deployed: Deployed) -> None:
    """Also while there is nothing to import; the error names the secret and the command."""
    deployed.install()
    deployed.shell("cron", "sync-secret", "other", stdin=SECRET)
    deployed.hosted.sql("select pgqueue.remove_secret('media_imports')")
    with pytest.raises(psycopg.Error, match=r"'media_imports' is missing.*cron sync-secret"):
        deployed.hosted.sql(POKE)
    assert deployed.hosted.sql("select * from pgqueue.poke_request") == []
    verified = deployed.shell("cron", "verify", code=1)
    assert "its secret 'media_imports' is missing" in verified


def test_wrapper_posts_to_the_endpoint_and_returns_the_request_id(deployed: Deployed) -> None:
    """Only if something is pending; the import is done when the request is answered."""
    deployed.install()
    assert deployed.poke() is None
    (job,) = deployed.ask("7")
    request = deployed.poke()
    answer = "select id, status_code from net._http_response"
    assert deployed.hosted.sql(answer) == [(request, 200)]
    assert deployed.app.client.get(job).state == "succeeded"
    assert deployed.hosted.sql("select media from media_import") == [({"caption": "number 7"},)]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_pg_cron_without_seconds_pokes_every_ten_seconds(
    deployed: Deployed, source: ThirdParty
) -> None:
    """Six pokes in a minute, one import each, though the third party fails once."""
    jobs = deployed.ask("1", "2", "3", "4", "5")
    source.next(1, "error", path="/media/3")
    sql = deployed.hosted.sql
    deployed.install("--body", '{"limit": 1}')
    version = sql.one("select extversion from pg_extension where extname = 'pg_cron'")
    schedule, command = sql("select schedule, command from cron.job where jobname ~ 'poke'")[0]
    if version < "1.5":
        assert (schedule, command) == (
            "* * * * *",
            "call \"pgqueue\".run_minute('10 seconds', 'media')",
        )
    deployed.hosted.wait_for_run(
        "poke:media", more=1 if version < "1.5" else 6, seconds=TWO_MINUTES
    )
    until(lambda: {deployed.app.client.get(job).state for job in jobs} == {"succeeded"})
    times = [row[0] for row in sql("select requested_at from pgqueue.poke_request order by 1")]
    assert len(times) == 6
    assert times[-1] - times[0] < timedelta(seconds=60)
    assert all(timedelta(seconds=8) < b - a < timedelta(seconds=12) for a, b in pairwise(times))
    assert {status for status, _ in deployed.hosted.runs("poke:media")} == {"succeeded"}
    assert [attempt.outcome for attempt in deployed.app.client.get(jobs[2]).history] == ["failed"]


# GET on the endpoint answers a health check; POST processes pending imports.


def test_get_is_a_health_check_and_post_processes_pending_imports(
    app: ModuleType, source: ThirdParty
) -> None:
    """GET needs no secret and no database; POST without the secret does nothing."""
    browser = app.app.test_client()
    assert browser.get(RUN).get_json() == {"status": "ok", "queue": "media"}
    browser.put("/imports/7")
    assert browser.post(RUN).status_code == 401
    assert browser.get("/imports/7").get_json() == {"media": None, "state": "ready"}
    answer = browser.post(RUN, headers=BEARER).get_json()
    assert (answer["processed"], answer["succeeded"], answer["more"]) == (1, 1, False)
    assert browser.get("/imports/7").get_json()["media"] == {"caption": "number 7"}
    assert len(source.calls) == 1


def test_asking_again_meanwhile_is_one_import(app: ModuleType, source: ThirdParty) -> None:
    """And afterwards it is a new one; what does not exist is cancelled, not tried again."""
    browser = app.app.test_client()
    first = browser.put("/imports/7").get_json()
    assert browser.put("/imports/7").get_json() == {"job": first["job"], "duplicate": True}
    browser.put("/imports/none")
    app.endpoint.process()
    assert sorted(call.path for call in source.calls) == ["/media/7", "/media/none"]
    assert browser.get("/imports/none").get_json() == {"media": None, "state": "cancelled"}
    assert browser.get("/imports/other").status_code == 404
    assert not browser.put("/imports/7").get_json()["duplicate"]


@pytest.mark.parametrize("trouble", ["error", "slow", "reset", "garbage"])
def test_import_that_fails_is_tried_again_later(
    app: ModuleType, source: ThirdParty, trouble: str
) -> None:
    """Whatever the third party does wrong; what it was is in the job's history."""
    job = app.app.test_client().put("/imports/7").get_json()["job"]
    source.next(1, trouble)
    app.app.config["TIMEOUT"] = 0.5 if trouble == "slow" else 5
    assert app.endpoint.process()["failed"] == 1
    assert app.endpoint.process()["processed"] == 0
    assert app.client.get(job).state == "scheduled"
    travel(app.client, timedelta(seconds=3))
    assert app.endpoint.process()["succeeded"] == 1
    (attempt,) = app.client.get(job).history
    assert attempt.outcome == "failed"
    assert attempt.error_class in CLASSES[trouble]


def test_import_that_is_too_early_waits_as_it_was_told(app: ModuleType, source: ThirdParty) -> None:
    """429 with Retry-After: so long, and no attempt is used up."""
    job = app.app.test_client().put("/imports/7").get_json()["job"]
    source.next(1, "busy", retry_after=90)
    app.endpoint.process()
    waiting = app.client.get(job)
    assert (waiting.state, waiting.attempt) == ("scheduled", 0)
    travel(app.client, timedelta(seconds=85))
    assert app.endpoint.process()["processed"] == 0
    travel(app.client, timedelta(seconds=10))
    assert app.endpoint.process()["succeeded"] == 1
    assert app.client.get(job).attempt == 1


# Failed HTTP calls of the last N requests are one call away (status, error, when).


def test_failed_calls_are_one_call_away(deployed: Deployed, source: ThirdParty) -> None:
    """In SQL and in the shell: of the last so many requests, each with status, error and time."""
    deployed.install("--timeout", "300ms")
    sql = deployed.hosted.sql
    good = deployed.poke(force=True)
    sql("update pgqueue.poke set url = %s", f"{source.url}/elsewhere")
    failed = []
    for trouble in ("error", "busy", "slow", "refusal"):
        source.next(1, trouble)
        failed.append(deployed.poke(force=True))
    columns = "request_id, status, timed_out, error, requested_at"
    rows = sql(f"select {columns} from pgqueue.poke_failures(100)")
    assert [row[:3] for row in rows[::-1]] == [
        (failed[0], 500, False),
        (failed[1], 429, False),
        (failed[2], None, True),
        (failed[3], 422, False),
    ]
    assert good not in [row[0] for row in rows]
    assert all(row[3] and row[4] for row in rows)
    assert len(sql("select * from pgqueue.poke_failures(2)")) == 2
    printed = deployed.shell("cron", "failures", "-n", "4", code=1)
    for words in ("HTTP 500", "HTTP 429", "HTTP 422", "Timeout of 300 ms reached"):
        assert words in printed
    assert re.search(r"^poke:media: (now|\d+s ago): HTTP 422", printed, re.MULTILINE)


# Pause and resume without unscheduling; full removal that also removes its secrets.


def test_pause_and_resume_keep_the_schedule(deployed: Deployed) -> None:
    """What is done by hand still works meanwhile."""
    deployed.install()
    active = "select active from cron.job where jobname ~ 'poke:media'"
    assert "paused 1 job: poke:media" in deployed.shell("cron", "pause", "poke:media")
    assert deployed.hosted.sql(active) == [(False,)]
    deployed.install()
    assert deployed.hosted.sql(active) == [(False,)]
    (job,) = deployed.ask("7")
    deployed.shell("cron", "run", "media")
    assert deployed.app.client.wait(job, timeout=timedelta(seconds=10)).state == "succeeded"
    deployed.shell("cron", "resume")
    assert deployed.hosted.sql(active) == [(True,)]


@pytest.mark.parametrize("vault", [False, True], ids=["table", "vault"])
def test_removal_leaves_nothing_but_the_jobs(deployed: Deployed, vault: bool) -> None:  # noqa: FBT001
    """No schedule, no URL and no secret, wherever that was; pending imports stay."""
    sql = deployed.hosted.sql
    if vault:
        sql.double("vault")
    deployed.install()
    (job,) = deployed.ask("7")
    deployed.shell("cron", "remove", "--yes")
    tables = ["cron.job", "pgqueue.poke", "pgqueue.poke_request", "pgqueue.secret"]
    for table in [*tables, *(["vault.secrets"] if vault else [])]:
        assert sql.one(f"select count(*) from {table}") == 0, table
    assert deployed.app.client.get(job).state == "ready"


# URLs differ by environment and exist only after deployment; a stale secret (401) is found and
# named by the check, and mended by one command that syncs it.


def test_urls_are_set_up_after_deployment_and_differ_by_environment(deployed: Deployed) -> None:
    """A migration brings none; after the next deployment there is the next one, still once."""
    sql = deployed.hosted.sql
    assert sql.one("select count(*) from pgqueue.poke") == 0
    assert sql.one("select count(*) from cron.job") == 0
    assert "run `pgqueue cron install`" in deployed.shell("cron", "verify", code=1)
    deployed.install()
    jobs = sql("select jobid, jobname from cron.job order by 1")
    with serving(deployed.app.app) as url:
        attrs.evolve(deployed, url=url).install()
        assert sql("select url from pgqueue.poke") == [(url + RUN,)]
        assert sql("select jobid, jobname from cron.job order by 1") == jobs
        (job,) = deployed.ask("7")
        deployed.poke()
    assert deployed.app.client.get(job).state == "succeeded"


def test_stale_secret_is_named_by_verify_and_mended_by_one_command(deployed: Deployed) -> None:
    """401: the deployment has another one than the database. No import is lost meanwhile."""
    deployed.install()
    deployed.shell("cron", "sync-secret", "media_imports", stdin="that-of-last-week")
    (job,) = deployed.ask("7")
    deployed.poke()
    found = deployed.shell("cron", "verify", code=1)
    assert "poke:media: HTTP 401" in found
    assert "the secret 'media_imports' is stale" in found
    assert "pgqueue cron sync-secret media_imports --from-env" in found
    assert deployed.app.client.get(job).state == "ready"
    mend = ("cron", "sync-secret", "media_imports", "--from-env", "MEDIA_SECRET")
    deployed.shell(*mend)
    deployed.shell("cron", "verify")
    deployed.poke()
    assert deployed.app.client.get(job).state == "succeeded"
    deployed.shell("cron", "verify")


def test_secret_is_replaced_while_both_are_valid(
    deployed: Deployed, source: ThirdParty, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The endpoint knows the new and the old; nothing is scheduled anew, and no call is refused."""
    deployed.install()
    new = "another-horse-battery-staple"
    env = {**variables(deployed.hosted.dsn, source), "MEDIA_SECRET": f"{new},{SECRET}"}
    for again in started(deploy("media_imports", monkeypatch, **env)):
        with serving(again.app) as url:
            deployed.hosted.sql("update pgqueue.poke set url = %s", url + RUN)
            deployed.poke(force=True)
            deployed.shell("cron", "sync-secret", "media_imports", stdin=new)
            deployed.poke(force=True)
    assert deployed.hosted.sql("select status_code from net._http_response") == [(200,), (200,)]


# And where the extension cannot be had.


def test_worker_imports_without_pg_cron(
    app: ModuleType, pgqueue_dsn: str, source: ThirdParty
) -> None:
    """`pgqueue worker` alone: it needs no poke, and does its own retries."""
    env = {**os.environ, **variables(pgqueue_dsn, source)}
    source.next(1, "error")
    command = ["-m", "pgqueue", "worker", "examples.media_imports.app:handlers"]
    with subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=env, stderr=subprocess.DEVNULL
    ) as worker:
        job = app.app.test_client().put("/imports/7").get_json()["job"]
        assert app.client.wait(job, timeout=timedelta(seconds=30)).state == "succeeded"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
    assert len(source.calls) == 2
