"""The reminders: what the team's own version did, line by line, and what that could not do."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from types import ModuleType
from typing import Any

import attrs
import psycopg
import pytest
from examples.third_party import ThirdParty, third_party
from psycopg.conninfo import make_conninfo
from tests.hosted.database import Sql, until
from tests.hosted.fixtures import Hosted
from tests.hosted.serving import serving

import pgqueue
from pgqueue import doctor
from pgqueue.pg_cron import PgCron, Poke
from pgqueue.testing import run_pending, travel
from pgqueue.testing.databases import Databases

from .conftest import EXAMPLES, LoadApp

FOLDER = EXAMPLES / "reminders"
SECRET = "correct-horse-battery-staple"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ROLES = ("service", "user")
APPLICATION = (
    (
        "select relname, relkind, relrowsecurity, relacl::text from pg_class "
        "where relnamespace = 'sync_app'::regnamespace order by 1"
    ),
    (
        "select attrelid::regclass::text, attname, atttypid::regtype::text, attnotnull "
        "from pg_attribute where attnum > 0 and attrelid in (select oid from pg_class "
        "where relnamespace = 'sync_app'::regnamespace) order by 1, 2"
    ),
    (
        "select conname, pg_get_constraintdef(oid) from pg_constraint "
        "where connamespace = 'sync_app'::regnamespace order by 1"
    ),
    "select tgname from pg_trigger where tgrelid = 'sync_app.sync'::regclass",
    (
        "select polname, pg_get_expr(polqual, polrelid) from pg_policy "
        "where polrelid = 'sync_app.sync'::regclass"
    ),
    "select * from sync_app.sync order by id",
)
"""All that the application has."""


def set_up(dsn: str, *names: str) -> None:
    """Runs the example's scripts."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        for name in names:
            conn.execute((FOLDER / name).read_bytes())


@pytest.fixture(scope="module")
def pgqueue_template(_pgqueue_databases: Databases, pgqueue_schema: str) -> str:
    """What each test gets a copy of: the application with its reminders."""
    dsn = _pgqueue_databases.create_template(pgqueue_schema)
    set_up(dsn, "schema.sql", "reminders.sql")
    return dsn


@pytest.fixture(scope="module")
def logins(_pgqueue_databases: Databases, pgqueue_template: str) -> Iterator[dict[str, str]]:
    """Roles that log in: NOBYPASSRLS, no superusers, members of the example's own."""
    del pgqueue_template
    names = {role: f"pgqueue_test_{role}_{secrets.token_hex(4)}" for role in ROLES}
    with psycopg.connect(_pgqueue_databases.dsn, autocommit=True) as conn:
        for role, name in names.items():
            conn.execute(f"create role {name} login nobypassrls in role reminders_{role}".encode())
        yield names
        for name in names.values():
            conn.execute(f"drop role {name}".encode())


@pytest.fixture
def databases(_pgqueue_databases: Databases) -> Databases:
    """Makes empty ones."""
    return _pgqueue_databases


@pytest.fixture
def api() -> Iterator[ThirdParty]:
    """The third party, which sends the messages."""
    with third_party() as served:
        yield served


@pytest.fixture
def app(pgqueue_dsn: str, logins: dict[str, str], load_app: LoadApp, api: ThirdParty) -> ModuleType:
    """The service: it logs in as a role that row security binds."""
    return load_app(
        "reminders",
        make_conninfo(pgqueue_dsn, user=logins["service"]),
        REMINDERS_URL=f"{api.url}/messages",
        REMINDERS_SECRET=SECRET,
    )


@attrs.define
class Application:
    """The application, which writes its table and knows nothing of reminders."""

    dsn: str
    sql: Sql

    def start(self, *recipients: str, owner: str = "ada", status: str = "running") -> int:
        """A new sync; gives its id."""
        people = list(recipients or ["ada@example.org"])
        query = (
            "insert into sync_app.sync (owner, recipients, status) values (%s, %s, %s) returning id"
        )
        return int(self.sql.one(query, owner, people, status))

    def confirm(self, sync: int) -> None:
        """Somebody says that it shall go on."""
        self.sql("update sync_app.sync set confirmed_at = now() where id = %s", sync)

    def status(self, sync: int) -> str:
        """Of a sync."""
        return str(self.sql.one("select status from sync_app.sync where id = %s", sync))

    def delete(self, sync: int) -> None:
        """It is gone."""
        self.sql("delete from sync_app.sync where id = %s", sync)

    def jobs(self, sync: int) -> dict[str, list[str]]:
        """The states of a sync's jobs by kind, the oldest first."""
        found: dict[str, list[str]] = {}
        query = "select kind, state from pgqueue.all_jobs where ref = %s order by id"
        for kind, state in self.sql(query, f"sync:{sync}"):
            found.setdefault(kind, []).append(state)
        return found

    def wait_of(self, sync: int, kind: str) -> timedelta:
        """How long after its enqueue a job is due, to the second."""
        query = (
            "select run_at - enqueued_at from pgqueue.all_jobs where ref = %s and kind = %s "
            "order by id desc limit 1"
        )
        found: timedelta = self.sql.one(query, f"sync:{sync}", kind)
        return timedelta(seconds=round(found.total_seconds()))


@pytest.fixture
def application(pgqueue_dsn: str) -> Iterator[Application]:
    """See `Application`; it connects as the owner."""
    sql = Sql(pgqueue_dsn)
    yield Application(pgqueue_dsn, sql)
    sql.conn.close()


@pytest.fixture
def as_user(pgqueue_dsn: str, logins: dict[str, str]) -> Callable[..., Any]:
    """A session of the application for a user; one without a name is nobody's."""

    @contextmanager
    def session(user: str = "") -> Iterator[Sql]:
        sql = Sql(make_conninfo(pgqueue_dsn, user=logins["user"]))
        assert sql("select rolsuper, rolbypassrls from pg_roles where rolname = current_user") == [
            (False, False)
        ]
        sql("select set_config('sync_app.user', %s, false)", user)
        sql("select set_config('pgqueue.tenant', %s, false)", user)
        yield sql
        sql.conn.close()

    return session


def later(application: Application, app: ModuleType, by: timedelta) -> Counter[str]:
    """Lets time pass and runs what is due then; gives kinds and outcomes, counted."""
    travel(application.dsn, by)
    ended = run_pending(app.client, app.handlers, reraise=False)
    return Counter(f"{event.job.kind} {event.outcome}" for event in ended)


# A trigger AFTER INSERT, when status = 'running', enqueues a delayed job.


def test_running_sync_has_its_reminder_due_in_a_day(application: Application) -> None:
    """And one that does not run has none."""
    sync = application.start()
    assert application.jobs(sync) == {"reminder.due": ["scheduled"]}
    assert application.wait_of(sync, "reminder.due") == DAY
    assert application.jobs(application.start(status="paused")) == {}


def test_all_delays_are_settings_in_one_place(application: Application, app: ModuleType) -> None:
    """The trigger's and the handler's; minutes in demo mode."""
    application.sql("update reminders.setting set delay = delay / 2")
    sync = application.start()
    assert application.wait_of(sync, "reminder.due") == DAY / 2
    later(application, app, DAY / 2)
    assert application.wait_of(sync, "reminder.follow_up") == DAY
    application.sql("update reminders.setting set demo = true")
    sync = application.start()
    assert application.wait_of(sync, "reminder.due") == timedelta(minutes=1)
    later(application, app, timedelta(minutes=1))
    assert application.wait_of(sync, "reminder.follow_up") == timedelta(minutes=1)


@pytest.mark.parametrize(
    "harm,mend,sqlstate",
    [
        (
            "alter function pgqueue.enqueue rename to gone",
            "alter function pgqueue.gone rename to enqueue",
            "42883",
        ),
        (
            "alter schema pgqueue rename to gone",
            "alter schema gone rename to pgqueue",
            "3F000",
        ),
    ],
)
def test_insert_succeeds_where_the_enqueue_fails_and_the_failure_is_recorded(
    application: Application, app: ModuleType, harm: str, mend: str, sqlstate: str
) -> None:
    """It is made up for with a call, as of then, and once."""
    application.sql.conn.add_notice_handler(lambda _: None)
    application.sql(harm)
    sync, over = application.start(), application.start()
    application.sql("update sync_app.sync set status = 'finished' where id = %s", over)
    found = application.sql(
        "select sync_id, what, sqlstate, mended_at from reminders.failure order by 1"
    )
    assert found == [(sync, "enqueue", sqlstate, None), (over, "enqueue", sqlstate, None)]
    application.sql(mend)
    application.sql("update reminders.failure set failed_at = failed_at - interval '1 hour'")
    with psycopg.connect(app.client.dsn) as service:
        mended = [service.execute("select reminders.mend()").fetchall() for _ in "ab"]
    assert mended == [[(1,)], [(0,)]]
    assert application.wait_of(sync, "reminder.due") == DAY - HOUR
    assert application.jobs(over) == {}


# One waiting job per (sync_id, job_type), while another may be running.


def test_one_job_waits_for_each_sync_and_type_while_another_runs(
    application: Application, app: ModuleType
) -> None:
    """By a dedupe key that is held until the job starts."""
    one, other = application.start(), application.start()
    plan = "select reminders.plan(%s, 'ada', 'reminder.due')"
    first = application.sql.one(plan, one)
    assert application.sql.one(plan, one) == first
    assert application.sql.one(plan, other) != first
    follow_up = "select reminders.plan(%s, 'ada', 'reminder.follow_up')"
    assert application.sql.one(follow_up, one) != first
    travel(application.dsn, DAY)
    app.client.maintain()
    running = app.client.claim("reminders", limit=2)
    assert first in {job.id for job in running}
    second = application.sql.one(plan, one)
    assert second != first
    assert application.sql.one(plan, one) == second
    assert application.jobs(one)["reminder.due"] == ["claimed", "scheduled"]


# The handler re-checks the application's state, sends, and enqueues the follow-up.


@pytest.mark.parametrize(
    "change",
    [
        "update sync_app.sync set confirmed_at = now()",
        "update sync_app.sync set status = 'finished'",
        "update sync_app.sync set status = 'paused'",
        "set session_replication_role = replica; delete from sync_app.sync",
    ],
)
def test_reminder_is_skipped_where_nothing_is_left_to_do(
    application: Application, app: ModuleType, api: ThirdParty, change: str
) -> None:
    """The state is looked at when it runs: confirmed, finished, paused, or gone."""
    sync = application.start()
    application.sql(change)
    assert later(application, app, DAY) == {"reminder.due skipped": 1}
    assert application.jobs(sync) == {"reminder.due": ["skipped"]}
    assert api.calls == []


def test_message_is_skipped_if_the_sync_was_confirmed_meanwhile(
    application: Application, app: ModuleType, api: ThirdParty
) -> None:
    """One that had to be tried again looks again."""
    api.next(1, "error")
    sync = application.start()
    later(application, app, DAY)
    application.confirm(sync)
    assert later(application, app, HOUR) == {"message.send skipped": 1}
    assert len(api.calls) == 1


def test_reminder_sends_to_everybody_and_enqueues_the_follow_up(
    application: Application, app: ModuleType, api: ThirdParty
) -> None:
    """Two days later."""
    sync = application.start("ada@example.org", "bob@example.org")
    assert later(application, app, DAY) == {
        "reminder.due succeeded": 1,
        "message.send succeeded": 2,
    }
    assert sorted(call.body["to"] for call in api.effects) == ["ada@example.org", "bob@example.org"]
    assert application.jobs(sync)["reminder.follow_up"] == ["scheduled"]
    assert application.wait_of(sync, "reminder.follow_up") == 2 * DAY


def test_messages_and_follow_up_are_one_transaction(
    application: Application, app: ModuleType, api: ThirdParty
) -> None:
    """If the last of it fails, nothing has happened, and the next attempt does it all."""
    sync = application.start()
    application.sql("delete from reminders.setting where job_type = 'reminder.follow_up'")
    assert later(application, app, DAY) == {"reminder.due failed": 1}
    assert application.jobs(sync) == {"reminder.due": ["scheduled"]}
    assert api.calls == []
    application.sql("insert into reminders.setting values ('reminder.follow_up', '48 hours')")
    later(application, app, HOUR)
    assert application.jobs(sync) == {
        "reminder.due": ["succeeded"],
        "message.send": ["succeeded"],
        "reminder.follow_up": ["scheduled"],
    }


def test_follow_up_pauses_a_sync_that_nobody_confirmed(
    application: Application, app: ModuleType
) -> None:
    """And skips one that somebody did."""
    forgotten, confirmed = application.start(), application.start()
    later(application, app, DAY)
    application.confirm(confirmed)
    assert later(application, app, 2 * DAY) == {
        "reminder.follow_up succeeded": 1,
        "reminder.follow_up skipped": 1,
    }
    assert application.status(forgotten) == "paused"
    assert application.status(confirmed) == "running"


# Deleting the parent row removes its unfinished jobs.


def test_deleted_sync_takes_its_unfinished_jobs_along(
    application: Application, app: ModuleType
) -> None:
    """Those that wait end at once, one that runs is asked to stop; other syncs keep theirs."""
    sync, other = application.start("a", "b"), application.start()
    travel(application.dsn, DAY)
    app.client.maintain()
    running = next(
        job for job in app.client.claim("reminders", limit=2) if job.ref == f"sync:{sync}"
    )
    application.sql("select reminders.plan(%s, 'ada', 'reminder.follow_up')", sync)
    application.delete(sync)
    assert application.jobs(sync) == {
        "reminder.due": ["claimed"],
        "reminder.follow_up": ["cancelled"],
    }
    assert app.client.get(running.id).cancel_requested
    assert application.jobs(other) == {"reminder.due": ["claimed"]}


def test_deletion_succeeds_where_the_jobs_cannot_be_cancelled(
    application: Application, app: ModuleType
) -> None:
    """It is recorded, and the handler skips them."""
    application.sql.conn.add_notice_handler(lambda _: None)
    sync = application.start()
    application.sql("alter function pgqueue.cancel_ref rename to gone")
    application.delete(sync)
    assert application.sql("select sync_id, what from reminders.failure") == [(sync, "cancel")]
    assert later(application, app, DAY) == {"reminder.due skipped": 1}


# At most 10 jobs a run. Atomic claim. Idempotent.


def test_run_takes_ten_jobs_at_most(application: Application, app: ModuleType) -> None:
    """What a poke of the endpoint says, and what is left for the next ones."""
    syncs = [application.start() for _ in range(12)]
    travel(application.dsn, DAY)
    answer = app.endpoint.process()
    assert (answer["processed"], answer["more"]) == (10, True)
    while answer["more"]:
        answer = app.endpoint.process()
        assert answer["processed"] <= 10
    for sync in syncs:
        assert application.jobs(sync)["message.send"] == ["succeeded"]


def test_runs_at_once_share_the_jobs(
    application: Application, app: ModuleType, api: ThirdParty
) -> None:
    """Each is claimed by one of them."""
    for number in range(20):
        application.start(f"{number}@example.org")
    travel(application.dsn, DAY)
    with ThreadPoolExecutor(4) as pool:
        while any(pool.map(lambda _: app.endpoint.process()["processed"], range(4))):
            pass
    assert len(api.calls) == len({call.body["to"] for call in api.calls}) == 20
    assert application.sql.one("select max(attempt) from pgqueue.archive") == 1


def test_job_that_runs_twice_has_its_effects_once(
    application: Application, app: ModuleType, api: ThirdParty
) -> None:
    """A worker is held up beyond its lease, another one does the job, and the first goes on."""
    sync = application.start()
    travel(application.dsn, DAY)
    app.client.maintain()
    (zombie,) = app.client.claim("reminders")
    later(application, app, HOUR)
    later(application, app, HOUR)
    done = application.jobs(sync)
    assert done["reminder.due"] == ["succeeded"]
    with pytest.raises(pgqueue.LeaseLost):
        app.remind(zombie)
    assert application.jobs(sync) == done
    assert len(api.effects) == 1


# The third party misbehaves.


@pytest.mark.parametrize("trouble", ["error", "slow", "reset", "garbage"])
def test_message_is_sent_once_though_the_third_party_misbehaves(
    application: Application, app: ModuleType, api: ThirdParty, trouble: str
) -> None:
    """500, a time-out, a broken connection, an answer that is none: tried again under one key."""
    if trouble == "slow":
        app.TIMEOUT = 1  # type: ignore[attr-defined]
    api.next(2, trouble)
    sync = application.start()
    assert later(application, app, DAY)["message.send failed"] == 1
    assert later(application, app, HOUR)["message.send failed"] == 1
    assert later(application, app, HOUR)["message.send succeeded"] == 1
    assert application.jobs(sync)["message.send"] == ["succeeded"]
    assert (len(api.calls), len({call.key for call in api.calls}), len(api.effects)) == (3, 1, 1)


def test_message_waits_as_long_as_a_429_asks_for(
    application: Application, app: ModuleType, api: ThirdParty
) -> None:
    """And no attempt is used up."""
    api.next(1, "busy", retry_after=90)
    sync = application.start()
    later(application, app, DAY)
    assert later(application, app, timedelta(seconds=85)) == {}
    assert later(application, app, timedelta(seconds=10)) == {"message.send succeeded": 1}
    query = "select attempt from pgqueue.all_jobs where kind = 'message.send' and ref = %s"
    assert application.sql.one(query, f"sync:{sync}") == 1


def test_message_that_is_never_taken_ends_dead_and_is_redriven(
    application: Application, app: ModuleType, api: ThirdParty
) -> None:
    """Eight attempts; the sync's other jobs go on."""
    api.next(8, "error")
    sync = application.start()
    later(application, app, DAY)
    for _ in range(7):
        later(application, app, HOUR)
    assert application.jobs(sync) == {
        "reminder.due": ["succeeded"],
        "message.send": ["dead"],
        "reminder.follow_up": ["scheduled"],
    }
    assert app.client.redrive("reminders") == 1
    later(application, app, timedelta(0))
    assert len(api.effects) == 1


# Finished jobs older than 3 days go away. Stuck jobs are one query or command.


def test_finished_jobs_go_after_three_days(application: Application, app: ModuleType) -> None:
    """With the day on which they finished; those that are unfinished stay."""
    sync = application.start()
    application.sql("update reminders.setting set delay = '30 days' where job_type ~ 'follow'")
    later(application, app, DAY)
    travel(application.dsn, 2 * DAY)
    app.client.maintain()
    assert len(application.jobs(sync)) == 3
    travel(application.dsn, 2 * DAY)
    app.client.maintain()
    assert application.jobs(sync) == {"reminder.follow_up": ["scheduled"]}


def test_stuck_jobs_are_one_query_or_one_command(application: Application, app: ModuleType) -> None:
    """Those that nobody promotes, claims or ends; the doctor tells of them, too."""
    assert application.sql("select * from reminders.stuck_jobs()") == []
    claimed, ready, scheduled = (application.start() for _ in range(3))
    set_due = "update pgqueue.job set run_at = pgqueue.clock() where ref = %s"
    for sync in (claimed, ready):
        application.sql(set_due, f"sync:{sync}")
        app.client.maintain()
    until(
        lambda: app.client.maintain() and len(app.client.list(queue="reminders", state="ready")) > 1
    )
    app.client.claim("reminders")
    travel(application.dsn, DAY + HOUR)
    found = application.sql("select ref, state, why from reminders.stuck_jobs() order by id")
    assert [(ref, state) for ref, state, _ in found] == [
        (f"sync:{claimed}", "claimed"),
        (f"sync:{ready}", "ready"),
        (f"sync:{scheduled}", "scheduled"),
    ]
    assert "the worker is gone" in found[0][2]
    seen = " ".join(each.seen for each in doctor.examine(app.client) if each.level != "ok")
    for words in ("claim expired", "job is due", "reminder.due in queue reminders"):
        assert words in seen, seen
    run_pending(app.client, app.handlers)
    assert application.sql("select * from reminders.stuck_jobs()") == []


# Row-level security.


def test_user_reads_the_jobs_of_own_syncs_alone(
    application: Application, app: ModuleType, as_user: Callable[..., Any]
) -> None:
    """Whoever made the sync; finished ones, too, and those that a handler enqueued."""
    application.start(owner="bob")
    with as_user("ada") as ada:
        ada(
            "insert into sync_app.sync (owner, recipients, status) values ('ada', '{a}', 'running')"
        )
    with as_user("bob") as bob, as_user("ada") as ada, as_user() as nobody:
        later(application, app, DAY)
        for session, user in ((ada, "ada"), (bob, "bob")):
            rows = session("select kind, state, tenant from pgqueue.all_jobs order by id")
            assert rows == [
                ("reminder.due", "succeeded", user),
                ("message.send", "succeeded", user),
                ("reminder.follow_up", "scheduled", user),
            ]
            assert session("select owner from sync_app.sync") == [(user,)]
        assert nobody("select * from pgqueue.all_jobs") == []
    assert len(app.client.list(queue="reminders")) == 6


@pytest.mark.parametrize(
    "statement",
    [
        "select pgqueue.enqueue('reminder.due')",
        "select pgqueue.cancel_ref('sync:1')",
        "select * from pgqueue.claim('{reminders}')",
        "update pgqueue.job set run_at = now()",
        "delete from pgqueue.job",
        "insert into pgqueue.job (kind, queue, payload, max_attempts) values ('k', 'q', '1', 1)",
        "select reminders.plan(1, 'ada', 'reminder.due')",
        "select * from reminders.failure",
        "update reminders.setting set demo = true",
    ],
)
def test_user_does_nothing_with_jobs_but_read(as_user: Callable[..., Any], statement: str) -> None:
    """The triggers enqueue and cancel with rights of their own."""
    with as_user("ada") as ada:
        ada(
            "insert into sync_app.sync (owner, recipients, status) values ('ada', '{a}', 'running')"
        )
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            ada(statement)
        ada("delete from sync_app.sync")
        assert ada("select state from pgqueue.all_jobs") == [("cancelled",)]


# Rollback leaves the application's tables untouched.


def test_insert_that_is_rolled_back_leaves_no_job(application: Application) -> None:
    """They are one transaction."""
    with pytest.raises(ZeroDivisionError), application.sql.conn.transaction():
        application.start()
        raise ZeroDivisionError
    assert application.sql.one("select count(*) from pgqueue.all_jobs") == 0


def test_uninstalled_reminders_leave_the_application_as_it_was(
    databases: Databases, load_app: LoadApp
) -> None:
    """Table, rights, policies, triggers and rows; and it goes on, with or without pgqueue."""
    dsn = databases.create()
    set_up(dsn, "schema.sql")
    sql = Sql(dsn)
    application = Application(dsn, sql)
    for status in ("running", "finished"):
        application.start(status=status)
    before = [sql(query) for query in APPLICATION]
    load_app("reminders", dsn).client.migrate()
    for _ in "again":
        set_up(dsn, "schema.sql", "reminders.sql")
    assert [sql(query) for query in APPLICATION] != before
    application.delete(application.start())
    for _ in "again":
        set_up(dsn, "uninstall.sql")
    assert [sql(query) for query in APPLICATION] == before
    assert sql("select nspname from pg_namespace where nspname in ('pgqueue', 'reminders')") == []
    application.delete(application.start())
    sql.conn.close()
    databases.discard(dsn)


# Real pg_cron; and a worker in this process.


@contextmanager
def working(app: ModuleType) -> Iterator[None]:
    """A worker meanwhile."""
    worker = pgqueue.Worker(app.client, app.handlers)
    with ThreadPoolExecutor(1) as pool:
        code = pool.submit(worker.run)
        try:
            yield
        finally:
            worker.stop()
        assert code.result(20) == 0


def test_worker_process_does_it_all_without_cron(
    application: Application, app: ModuleType, api: ThirdParty
) -> None:
    """It promotes what is due, runs it, and drops what is old."""
    api.next(1, "busy", retry_after=1)
    sync = application.start("ada@example.org", "bob@example.org")
    travel(application.dsn, DAY)
    with working(app):
        until(lambda: len(api.effects) == 2)
    travel(application.dsn, 2 * DAY)
    with working(app):
        until(lambda: application.status(sync) == "paused")


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_pg_cron_pokes_the_endpoint_when_a_reminder_is_due(
    hosted: Hosted, load_app: LoadApp, api: ThirdParty
) -> None:
    """Every minute; nothing else runs. Nothing due, no call."""
    app = load_app(
        "reminders", hosted.dsn, REMINDERS_URL=f"{api.url}/messages", REMINDERS_SECRET=SECRET
    )
    app.client.migrate()
    set_up(hosted.dsn, "schema.sql", "reminders.sql")
    application = Application(hosted.dsn, hosted.sql)
    sync = application.start("ada@example.org")
    cron = PgCron(app.client)
    with serving(app.endpoint.wsgi) as url:
        cron.install(Poke(name="reminders", url=url, queue="reminders"))
        cron.sync_secret(SECRET)
        assert cron.run("reminders") is None  # not due: no request is made
        travel(hosted.dsn, DAY, any_database=True)
        hosted.wait_for_run("poke:reminders")
        until(lambda: api.effects)
        until(lambda: hosted.sql("select status_code from net._http_response") == [(200,)])
    assert hosted.runs("poke:reminders")[0][0] == "succeeded"
    assert cron.failures() == []
    assert application.jobs(sync) == {
        "reminder.due": ["succeeded"],
        "message.send": ["succeeded"],
        "reminder.follow_up": ["scheduled"],
    }
    cron.close()
