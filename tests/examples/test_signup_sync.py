"""The sign-up sync: what its team's own version did, line by line, and what that could not do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from types import ModuleType

import httpx
import psycopg
import pytest
from examples.third_party import ThirdParty, third_party
from tests.hosted.database import Sql, until
from tests.hosted.fixtures import Hosted
from tests.hosted.net_double import Sender
from tests.hosted.serving import serving

import pgqueue
from pgqueue import SecretMissing
from pgqueue.pg_cron import PgCron, Poke
from pgqueue.testing import travel

from .conftest import EXAMPLES, ROOT, LoadApp

SCHEMA = (EXAMPLES / "signup_sync" / "schema.sql").read_text("utf-8")
SETUP = (EXAMPLES / "signup_sync" / "setup.sql").read_text("utf-8")
URL = "https://app.example.org/api/jobs/run"
"""What setup.sql has; a reader puts in another."""
SECRET = "correct-horse-battery-staple"
BACKOFF = timedelta(seconds=30)


@pytest.fixture
def api() -> Iterator[ThirdParty]:
    """The third party."""
    with third_party() as served:
        yield served


@pytest.fixture
def app(pgqueue_dsn: str, load_app: LoadApp, api: ThirdParty) -> ModuleType:
    """The application, with its table."""
    loaded = load_app(
        "signup_sync",
        pgqueue_dsn,
        SIGNUP_API_URL=api.url,
        SIGNUP_API_KEY="k3y",
        SIGNUP_ENDPOINT_SECRET=SECRET,
    )
    with psycopg.connect(pgqueue_dsn) as conn:
        conn.execute(SCHEMA.encode())
    return loaded


@pytest.fixture
def sql(pgqueue_dsn: str) -> Iterator[Sql]:
    """The application's database, with the double of pg_net, and all of setup.sql but pg_cron."""
    made = Sql(pgqueue_dsn)
    made.double("net")
    made(SETUP[: SETUP.index("do $pgqueue$")])
    yield made
    made.conn.close()


@pytest.fixture
def cron(app: ModuleType) -> PgCron:
    """The adapter; pg_cron itself is not needed for what is done by hand."""
    return PgCron(app.client)


def sign_up(app: ModuleType, count: int = 1) -> list[int]:
    """Some people sign up."""
    with psycopg.connect(app.client.dsn) as conn:
        return [app.sign_up(conn, f"{n}@example.org", f"No {n}", "pro") for n in range(count)]


def change(app: ModuleType, signup: int, plan: str) -> None:
    """Somebody takes another plan."""
    with psycopg.connect(app.client.dsn) as conn:
        app.change(conn, signup, plan=plan)


def states(app: ModuleType) -> Counter[str]:
    """How many jobs there are of each state."""
    return Counter(str(job.state) for job in app.client.list(queue="signup", limit=1000))


def only(app: ModuleType) -> pgqueue.JobDetail:
    """The one job there is."""
    (job,) = app.client.list(queue="signup")
    found: pgqueue.JobDetail = app.client.get(job.id)
    return found


# The operations


def test_each_operation_is_pushed_in_its_own_way(app: ModuleType, api: ThirdParty) -> None:
    """SIGNUP_ATOMIC has person and plan at once, INSERT the person, UPDATE what has changed."""
    (ada,) = sign_up(app)
    with psycopg.connect(app.client.dsn) as conn:
        app.add(conn, "bob@example.org", "Bob")
    assert app.endpoint.process()["succeeded"] == 2
    change(app, ada, "team")
    assert app.endpoint.process()["succeeded"] == 1
    pushed = {(call.method, call.path.split("/")[1]): call.body for call in api.effects}
    assert pushed == {
        ("POST", "signups"): {"email": "0@example.org", "name": "No 0", "plan": "pro"},
        ("POST", "people"): {"email": "bob@example.org", "name": "Bob"},
        ("PATCH", "people"): {"email": "0@example.org", "name": "No 0", "plan": "team"},
    }
    assert {call.headers["Authorization"] for call in api.calls} == {"Bearer k3y"}


def test_signup_and_its_job_are_stored_both_or_neither(app: ModuleType, api: ThirdParty) -> None:
    """The job is enqueued in the application's own transaction."""
    with psycopg.connect(app.client.dsn) as conn:
        app.sign_up(conn, "ada@example.org", "Ada", "free")
        conn.rollback()
        assert conn.execute("select count(*) from signup").fetchone() == (0,)
    assert states(app) == {}
    with psycopg.connect(app.client.dsn) as conn:
        app.sign_up(conn, "ada@example.org", "Ada", "free")
        assert states(app) == {}  # nobody sees it before the commit
        conn.commit()
        assert states(app) == {"ready": 1}
        with pytest.raises(psycopg.errors.UniqueViolation):
            app.sign_up(conn, "ada@example.org", "Ada", "free")
    assert states(app) == {"ready": 1}
    assert api.calls == []


def test_changes_before_the_push_are_one_push(app: ModuleType, api: ThirdParty) -> None:
    """With what is true by then."""
    (ada,) = sign_up(app)
    app.endpoint.process()
    for plan in ("team", "free", "team"):
        change(app, ada, plan)
    app.endpoint.process()
    assert states(app) == {"succeeded": 2}
    pushed = [(call.method, call.body["plan"]) for call in api.effects]
    assert pushed == [("POST", "pro"), ("PATCH", "team")]


@pytest.mark.parametrize("trouble", ["busy", "reset"])
def test_change_before_its_signup_is_pushed_is_not_lost(
    app: ModuleType, api: ThirdParty, trouble: str
) -> None:
    """Even if the attempt before it has had an effect; its attempts all send the same."""
    (ada,) = sign_up(app)
    api.next(1, trouble, retry_after=9)
    app.endpoint.process()
    change(app, ada, "team")
    assert app.endpoint.process()["skipped"] == 1
    travel(app.client, BACKOFF)
    app.endpoint.process()
    assert states(app) == {"succeeded": 2, "skipped": 1}
    assert (api.effects[-1].method, api.effects[-1].body["plan"]) == ("PATCH", "team")
    # Third parties refuse another body with a key that they know.
    assert all(call.body["plan"] == "pro" for call in api.calls if call.method == "POST")


def test_change_during_a_push_is_what_counts_in_the_end(app: ModuleType, api: ThirdParty) -> None:
    """A push that is overtaken by a newer one is made once more, with what is true by then."""
    (ada,) = sign_up(app)
    app.endpoint.process()
    change(app, ada, "team")
    api.next(1, "slow", seconds=1)
    first = threading.Thread(target=app.endpoint.process)
    first.start()
    until(lambda: len(api.calls) == 2)
    change(app, ada, "free")
    app.endpoint.process()
    until(lambda: states(app)["succeeded"] == 2)  # the newer one, while the older still waits
    first.join(20)
    app.endpoint.process()
    assert states(app) == {"succeeded": 3}
    plans = [call.body["plan"] for call in api.effects if call.method == "PATCH"]
    assert plans == ["team", "free", "free"]


def test_signup_that_is_gone_is_skipped(app: ModuleType, api: ThirdParty) -> None:
    """No call is made for it."""
    (ada,) = sign_up(app)
    change(app, ada, "team")
    with psycopg.connect(app.client.dsn) as conn:
        conn.execute("delete from signup")
    assert app.endpoint.process()["skipped"] == 2
    assert api.calls == []


# The poke


def test_nothing_is_called_while_nothing_is_pending(
    app: ModuleType, sql: Sql, cron: PgCron
) -> None:
    """Not even the endpoint; nor while a retry waits for its time."""
    cron.sync_secret(SECRET, "signup_endpoint")
    assert cron.run("signup") is None
    sign_up(app)
    assert cron.run("signup") is not None
    sql("delete from net.http_request_queue")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SIGNUP_API_KEY")
        app.endpoint.process()
    assert states(app) == {"scheduled": 1}
    assert cron.run("signup") is None
    assert sql("select * from net.http_request_queue") == []
    assert sql.one("select count(*) from pgqueue.poke_request") == 1


def test_a_poke_takes_ten_jobs_in_batches_of_five(app: ModuleType, api: ThirdParty) -> None:
    """What is left over is for the next one."""
    sign_up(app, 12)
    api.next(10, "slow", seconds=0.2)
    answers = []
    poke = threading.Thread(target=lambda: answers.append(app.endpoint.process()))
    poke.start()
    claimed = set()
    while poke.is_alive():
        claimed.add(states(app)["claimed"])
    assert max(claimed) == 5
    assert (answers[0]["processed"], answers[0]["more"], len(api.calls)) == (10, True, 10)
    assert (app.endpoint.process()["processed"], states(app)) == (2, {"succeeded": 12})


def test_endpoint_is_given_thirty_seconds(app: ModuleType, sql: Sql, cron: PgCron) -> None:
    """And answers within 25, in which both batches fit."""
    cron.sync_secret(SECRET, "signup_endpoint")
    cron.run("signup", force=True)
    assert sql.one("select timeout_milliseconds from net.http_request_queue") == 30_000
    assert app.endpoint.limits.budget < timedelta(seconds=30)
    assert app.endpoint.limits.budget.total_seconds() > 2 * app.PATIENCE


def test_missing_secret_is_named_before_any_call(app: ModuleType, sql: Sql, cron: PgCron) -> None:
    """By the poke that pg_cron makes, also while there is no work; and in the check."""
    with pytest.raises(SecretMissing, match="the secret 'signup_endpoint' is missing"):
        cron.run("signup")
    sign_up(app)
    with pytest.raises(SecretMissing):
        cron.run("signup")
    assert sql("select * from net.http_request_queue") == []


@pytest.mark.parametrize("name", ["SIGNUP_API_URL", "SIGNUP_API_KEY"])
def test_missing_setting_is_named_before_any_call(
    app: ModuleType, api: ThirdParty, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The job is tried again later."""
    monkeypatch.delenv(name)
    sign_up(app)
    app.endpoint.process()
    job = only(app)
    assert (job.state, api.calls) == ("scheduled", [])
    assert f"{name} is missing" in str(job.history)


def test_manual_trigger_does_what_the_cron_would(
    app: ModuleType, sql: Sql, cron: PgCron, api: ThirdParty
) -> None:
    """`pgqueue cron run signup`; with --force also where nothing is pending; or plain HTTP."""
    cron.sync_secret(SECRET, "signup_endpoint")
    with serving(app.endpoint.wsgi) as url:
        sql("update pgqueue.poke set url = %s", url)
        sign_up(app)
        assert cron.run("signup") is not None
        Sender(sql.dsn).send()
        assert states(app) == {"succeeded": 1}
        assert cron.run("signup", force=True) is not None
        answer = httpx.post(url, headers={"Authorization": f"Bearer {SECRET}"})
        assert (answer.status_code, answer.json()["processed"]) == (200, 0)
    assert len(api.effects) == 1


# The third party misbehaves


@pytest.mark.parametrize("trouble", ["error", "slow", "reset", "garbage"])
def test_trouble_is_retried_and_takes_effect_once(
    app: ModuleType, api: ThirdParty, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    """With a growing delay, and the same key, so that an effect whose answer was lost stays one."""
    monkeypatch.setattr(app, "PATIENCE", 0.5)
    (ada,) = sign_up(app)
    api.next(2, trouble)
    for attempt in (1, 2):
        app.endpoint.process()
        assert (only(app).state, only(app).attempt) == ("scheduled", attempt)
        assert app.endpoint.process()["processed"] == 0
        travel(app.client, attempt * BACKOFF)
    app.endpoint.process()
    assert only(app).state == "succeeded"
    assert (len(api.calls), len(api.effects)) == (3, 1)
    assert {call.key for call in api.calls} == {str(only(app).id)}
    with psycopg.connect(app.client.dsn) as conn:
        row = conn.execute("select remote_id from signup where id = %s", (ada,)).fetchone()
    assert row == (1,)


def test_retry_after_is_honoured_and_costs_no_attempt(app: ModuleType, api: ThirdParty) -> None:
    """As many times as the third party asks for it; an hour at most."""
    sign_up(app)
    api.next(9, "busy", retry_after=120)
    for _ in range(9):
        app.endpoint.process()
        travel(app.client, timedelta(seconds=110))
        assert app.endpoint.process()["processed"] == 0
        travel(app.client, timedelta(seconds=11))
    app.endpoint.process()
    job = only(app)
    assert (job.state, job.attempt) == ("succeeded", 1)
    assert len(api.calls) == 10
    assert app._wait("86400") == timedelta(hours=1)
    assert app._wait("Thu, 26 Nov 2026 14:00:00 GMT") == timedelta(minutes=1)


def test_refused_signup_is_not_tried_again(app: ModuleType, api: ThirdParty) -> None:
    """The reason is kept on the job."""
    sign_up(app)
    api.next(1, "refusal")
    app.endpoint.process()
    job = only(app)
    assert (job.state, len(api.calls)) == ("cancelled", 1)
    assert "refused with 422" in str(job.history)


def test_attempts_are_used_up_at_last_and_can_be_had_again(
    app: ModuleType, api: ThirdParty
) -> None:
    """After eight; the job is dead, is seen in the check, and is redriven."""
    sign_up(app)
    api.next(8, "error")
    for _ in range(8):
        app.endpoint.process()
        travel(app.client, timedelta(hours=1))
    assert (only(app).state, len(api.calls)) == ("dead", 8)
    assert app.client.redrive("signup") == 1
    app.endpoint.process()
    assert (only(app).state, len(api.effects)) == ("succeeded", 1)


# Who runs it


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_pg_cron_pokes_for_new_jobs_and_for_retries(
    hosted: Hosted, load_app: LoadApp, api: ThirdParty
) -> None:
    """One job of pg_cron does both, in one minute; idle or without its secret it calls nobody."""
    app = load_app(
        "signup_sync",
        hosted.dsn,
        SIGNUP_API_URL=api.url,
        SIGNUP_API_KEY="k3y",
        SIGNUP_ENDPOINT_SECRET=SECRET,
        SIGNUP_BACKOFF="0.1",
    )
    app.client.migrate()
    hosted.sql.double("vault")
    hosted.sql(SCHEMA)
    cron = PgCron(app.client)
    with serving(app.endpoint.wsgi) as url:
        hosted.sql(SETUP.replace(URL, url))
        names = [(job.name, job.schedule, job.active) for job in cron.jobs()]
        assert names == [("history", "23 3 * * *", True), ("poke:signup", "* * * * *", True)]
        assert cron.sync_secret(SECRET, "signup_endpoint") == "vault"
        cron.install(Poke(name="idle", url=url, queue="idle", secret="signup_endpoint"))
        cron.install(Poke(name="bare", url=url, queue="signup", secret="nowhere"))
        sign_up(app, 3)
        api.next(1, "error")
        app.endpoint.process(limit=1)
        assert states(app) == {"scheduled": 1, "ready": 2}
        hosted.wait_for_run("poke:signup")
        until(lambda: states(app) == {"succeeded": 3})
        until(lambda: hosted.runs("poke:idle") and hosted.runs("poke:bare"))
        assert hosted.runs("poke:signup")[0][0] == "succeeded"
        assert hosted.runs("poke:idle")[0][0] == "succeeded"
        ((status, message),) = hosted.runs("poke:bare")
        assert (status, "the secret 'nowhere' is missing" in message) == ("failed", True)
        assert hosted.sql("select poke, count(*) from pgqueue.poke_request group by 1") == [
            ("signup", 1)
        ]
    assert len(api.effects) == 3


def test_check_prints_all_that_the_teams_own_did(hosted: Hosted, load_app: LoadApp) -> None:
    """Extension, job, schedule, active, database, secrets; the queue by state and operation."""
    app = load_app("signup_sync", hosted.dsn, SIGNUP_ENDPOINT_SECRET=SECRET)
    app.client.migrate()
    hosted.sql(SCHEMA)
    hosted.sql(SETUP)
    cron = PgCron(app.client)
    with psycopg.connect(hosted.dsn) as conn:
        ada = app.sign_up(conn, "ada@example.org", "Ada", "pro")
        app.add(conn, "bob@example.org", "Bob")
        app.change(conn, ada, plan="team")
    hosted.sql("update pgqueue.job set enqueued_at = enqueued_at - interval '2 hours'")
    sign_up(app, 2)
    hosted.sql("update pgqueue.job set max_attempts = 1 where kind = 'signup.update'")
    (update,) = app.client.claim("signup", kinds=["signup.update"])
    app.client.fail(update, "broken")

    seen = {finding.check: finding for finding in cron.verify()}
    assert "pg_cron 1." in seen["extension"].seen
    assert (
        seen["job poke:signup"].seen
        == "'* * * * *' in database 'postgres' as 'postgres', active, has not run yet"
    )
    assert "'signup_endpoint' is missing" in seen["endpoint signup"].seen
    cron.sync_secret(SECRET, "signup_endpoint")
    counts = " ".join(f.seen for f in cron.verify() if f.check == "queue signup")
    expected = (
        r"signup.atomic: 3 ready, enqueued 2h to [\d.]+s ago "
        r"signup.insert: 1 ready, enqueued 2h to 2h ago "
        r"signup.update: 1 dead, died [\d.]+s to [\d.]+s ago"
    )
    assert re.fullmatch(expected, counts)

    # The same in an SQL editor: the last statement of setup.sql, which may be run again.
    found = hosted.sql(SETUP)
    rows = {name: (text, ok) for name, text, ok in found}
    assert rows["job pgqueue.poke:signup@postgres"][0].endswith("active, last run never")
    assert f"{URL} for queue signup" in rows["endpoint signup"][0]
    assert "secret 'signup_endpoint': table" in rows["endpoint signup"][0]
    queued = [(text, ok) for name, text, ok in found if name == "queue signup"]
    assert [(text.split(",")[0], ok) for text, ok in sorted(queued)] == [
        ("signup.atomic: 3 ready", True),
        ("signup.insert: 1 ready", True),
        ("signup.update: 1 dead", False),
    ]


def test_worker_inside_the_application_needs_no_cron(
    app: ModuleType, load_app: LoadApp, api: ThirdParty
) -> None:
    """Its upkeep makes retries ready in time, and a sign-up is pushed at once."""
    app = load_app("signup_sync", app.client.dsn, SIGNUP_BACKOFF="0.1")
    worker = pgqueue.Worker(app.client, app.handlers, queues="signup", concurrency=5)
    running = threading.Thread(target=worker.run)
    running.start()
    try:
        api.next(3, "error")
        sign_up(app, 4)
        until(lambda: states(app) == {"succeeded": 4})
    finally:
        worker.stop()
        running.join(20)
    assert (len(api.calls), len(api.effects)) == (7, 4)


def test_plain_workers_share_the_queue(app: ModuleType, api: ThirdParty) -> None:
    """Two processes of the command line; each sign-up is pushed once."""
    sign_up(app, 20)
    command = ["worker", "examples.signup_sync.app", "-q", "signup", "--drain"]
    workers = [
        subprocess.Popen([sys.executable, "-m", "pgqueue", *command], cwd=ROOT, env=os.environ)
        for _ in range(2)
    ]
    assert [worker.wait(30) for worker in workers] == [0, 0]
    assert states(app) == {"succeeded": 20}
    assert (len(api.calls), len(api.effects)) == (20, 20)
