"""Auto-sync schedules: what the team's own version did, line by line, and what it could not do."""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import time, timedelta
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from examples.third_party import ThirdParty, third_party
from psycopg.conninfo import make_conninfo
from tests.hosted.database import Sql, until
from tests.hosted.fixtures import Hosted
from tests.hosted.serving import serving

import pgqueue
from pgqueue.pg_cron import PgCron, Poke
from pgqueue.testing import run_pending, travel
from pgqueue.testing.databases import Databases

from .conftest import EXAMPLES, LoadApp

SCHEMA = (EXAMPLES / "auto_sync_schedules" / "schema.sql").read_text("utf-8")
SECRET = "correct-horse-battery-staple"
KEY = "canary-key-5d1e"
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
ROLES = ("service", "web")
NIGHT = (time(22), time(6))
NEW_YORK = ZoneInfo("America/New_York")


def set_up(dsn: str) -> None:
    """Runs the example's script."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(SCHEMA.encode())


@pytest.fixture(scope="module")
def pgqueue_template(_pgqueue_databases: Databases, pgqueue_schema: str) -> str:
    """What each test gets a copy of; the script was run twice."""
    dsn = _pgqueue_databases.create_template(pgqueue_schema)
    for _ in "again":
        set_up(dsn)
    return dsn


@pytest.fixture(scope="module")
def logins(_pgqueue_databases: Databases, pgqueue_template: str) -> Iterator[dict[str, str]]:
    """Roles that log in: NOBYPASSRLS, no superusers, members of the example's own."""
    del pgqueue_template
    names = {role: f"pgqueue_test_{role}_{secrets.token_hex(4)}" for role in ROLES}
    with psycopg.connect(_pgqueue_databases.dsn, autocommit=True) as conn:
        for role, name in names.items():
            conn.execute(f"create role {name} login nobypassrls in role autosync_{role}".encode())
        yield names
        for name in names.values():
            conn.execute(f"drop role {name}".encode())


@pytest.fixture
def api() -> Iterator[ThirdParty]:
    """The third party, which synchronises."""
    with third_party() as served:
        yield served


@pytest.fixture
def app(pgqueue_dsn: str, logins: dict[str, str], load_app: LoadApp, api: ThirdParty) -> ModuleType:
    """The service and the page's backend, each logged in as a role that row security binds."""
    return load_app(
        "auto_sync_schedules",
        make_conninfo(pgqueue_dsn, user=logins["service"]),
        AUTOSYNC_WEB_DSN=make_conninfo(pgqueue_dsn, user=logins["web"]),
        AUTOSYNC_URL=api.url,
        AUTOSYNC_SECRET=SECRET,
    )


@pytest.fixture
def sql(pgqueue_dsn: str) -> Iterator[Sql]:
    """The owner's session."""
    made = Sql(pgqueue_dsn)
    yield made
    made.conn.close()


@pytest.fixture
def later(pgqueue_dsn: str, app: ModuleType) -> Callable[[timedelta], Counter[str]]:
    """Lets time pass, and has what is due then fired and run; gives the outcomes, counted."""

    def later(by: timedelta) -> Counter[str]:
        travel(pgqueue_dsn, by)
        ended = run_pending(app.client, app.handlers, reraise=False)
        return Counter(str(event.outcome) for event in ended)

    return later


def scheduled(app: ModuleType, user: str = "ada", service: str = "calendar", **given: Any) -> int:
    """A user has a service synchronised; gives the integration."""
    number: int = app.connect(user, service, KEY)
    app.save(user, number, app.Settings(**{"frequency_minutes": 15, **given}))
    return number


def outcomes(app: ModuleType, number: int, user: str = "ada") -> list[tuple[str, str | None]]:
    """What became of a schedule's slots, the oldest first."""
    return [(run.outcome, run.state) for run in reversed(app.history(user, number))]


def passes(sql: Sql) -> timedelta:
    """How long until the next slot of the only schedule."""
    found: timedelta = sql.one("select next_run_at - pgqueue.clock() from pgqueue.schedule")
    return found


# End users make schedules, one per integration.


def test_user_makes_one_schedule_for_each_integration(app: ModuleType) -> None:
    """Saved again, it is changed."""
    number = scheduled(app)
    other = scheduled(app, service="mail", frequency_minutes=60)
    state = app.save("ada", number, app.Settings(frequency_minutes=30, time_window=NIGHT))
    assert state.schedule.every == 30 * MINUTE
    assert {s.schedule.ref: s.schedule.every for s in app.schedules("ada")} == {
        f"integration:{number}": 30 * MINUTE,
        f"integration:{other}": HOUR,
    }


@pytest.mark.parametrize(
    "given,words",
    [
        ({"frequency_minutes": 0}, "every"),
        ({"timezone": "Mars/Base"}, "time zone 'Mars/Base' is unknown"),
        ({"time_window": (time(9), time(9))}, "two different times"),
        ({"frequency_minutes": 1500, "time_window": NIGHT}, "longer than a day"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_words_for_the_page(
    app: ModuleType, given: dict[str, Any], words: str
) -> None:
    """And nothing is stored."""
    with pytest.raises(pgqueue.InvalidSchedule, match=words):
        scheduled(app, **given)
    assert app.schedules("ada") == []


@pytest.mark.parametrize("window", [(time(9), time(17)), NIGHT])
def test_schedule_runs_every_so_often_inside_its_window_only(
    app: ModuleType, sql: Sql, later: Callable[[timedelta], Counter[str]], window: tuple[time, time]
) -> None:
    """In the schedule's time zone; a window may span midnight. Tick by tick, through a day."""
    number = scheduled(app, frequency_minutes=60, time_window=window, timezone="America/New_York")
    fired = Counter[str]()
    for _ in range(49):  # half an hour each
        fired += later(30 * MINUTE)
    slots = [run.slot.astimezone(NEW_YORK) for run in app.history("ada", number)]
    start, end = window
    inside = [
        start <= s.time() < end if start < end else s.time() >= start or s.time() < end
        for s in slots
    ]
    assert all(inside)
    assert {slot.minute for slot in slots} == {0}
    hours = (end.hour - start.hour) % 24
    assert hours <= len(slots) == fired["succeeded"] <= hours + 1
    assert passes(sql) <= 24 * HOUR


def test_schedule_that_is_not_enabled_does_not_run(
    app: ModuleType, api: ThirdParty, later: Callable[[timedelta], Counter[str]]
) -> None:
    """And once it is again, nothing is made up for."""
    number = scheduled(app, enabled=False)
    assert later(HOUR) == {}
    (state,) = app.schedules("ada")
    assert (state.enabled, state.next_run_at) == (False, None)
    app.save("ada", number, app.Settings(frequency_minutes=15))
    assert later(timedelta(0)) == {}
    assert later(15 * MINUTE) == {"succeeded": 1}
    assert len(api.calls) == 1


# next_run_at is computed by the database; last_run_at and a history are kept.


def test_database_computes_the_next_run_whoever_writes_the_row(app: ModuleType, sql: Sql) -> None:
    """In plain SQL, as the page's role: made, changed, switched off and on."""
    number = app.connect("ada", "calendar", KEY)
    with app.as_user("ada") as conn:
        conn.execute(
            "insert into pgqueue.schedule (name, kind, payload, queue, every) "
            "values ('mine', 'autosync.run', jsonb_build_object('integration', %s::int), "
            "'autosync', '15 minutes')",
            (number,),
        )
    assert 14 * MINUTE < passes(sql) <= 15 * MINUTE
    for change, least, most in (
        ("every = '1 hour'", 59 * MINUTE, HOUR),
        ("every = '5 minutes'", timedelta(0), 5 * MINUTE),
        ("window_start = '00:00', window_end = '23:59:59'", timedelta(0), 5 * MINUTE),
    ):
        with app.as_user("ada") as conn:
            conn.execute(f"update pgqueue.schedule set {change}")
        assert least < passes(sql) <= most
    with app.as_user("ada") as conn:
        conn.execute("update pgqueue.schedule set enabled = false")
        assert conn.execute("select next_run_at from pgqueue.schedule").fetchall() == [(None,)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("update pgqueue.schedule set next_run_at = now()")


def test_last_run_and_history_are_kept(
    app: ModuleType, api: ThirdParty, later: Callable[[timedelta], Counter[str]]
) -> None:
    """Each slot, what became of its job, and why it failed; a run by hand, too."""
    number = scheduled(app)
    assert app.schedules("ada")[0].last_run_at is None
    due = app.schedules("ada")[0].next_run_at
    later(15 * MINUTE)
    (state,) = app.schedules("ada")
    assert (state.last_run_at, state.next_run_at) == (due, due + 15 * MINUTE)
    api.next(5, "error")
    later(15 * MINUTE)
    for _ in range(4):
        later(3 * MINUTE)
    app.run_now("ada", number)
    later(timedelta(0))
    assert outcomes(app, number) == [
        ("enqueued", "succeeded"),
        ("enqueued", "dead"),
        ("manual", "succeeded"),
    ]
    dead = app.history("ada", number)[1]
    assert (dead.attempt, dead.slot) == (5, due + 15 * MINUTE)
    assert "500 Internal Server Error" in dead.error


# One tick runs all due schedules; late or twice, each due slot once.


def test_one_tick_runs_all_schedules_that_are_due(
    app: ModuleType, api: ThirdParty, pgqueue_dsn: str
) -> None:
    """Of all users, and no other ones."""
    for user in ("ada", "bob", "cid"):
        scheduled(app, user)
    scheduled(app, "ada", "mail", frequency_minutes=60)
    travel(pgqueue_dsn, 20 * MINUTE)
    assert app.client.schedules.tick() == 3
    run_pending(app.client, app.handlers)
    assert Counter(call.path for call in api.effects) == {"/calendar/sync": 3}


def test_tick_that_is_late_runs_the_slot_once_and_keeps_the_rhythm(
    app: ModuleType, api: ThirdParty, later: Callable[[timedelta], Counter[str]]
) -> None:
    """After an outage of five slots the latest one is made up for."""
    number = scheduled(app)
    due = app.schedules("ada")[0].next_run_at
    assert later(22 * MINUTE) == {"succeeded": 1}
    assert app.schedules("ada")[0].next_run_at == due + 15 * MINUTE
    assert later(75 * MINUTE) == {"succeeded": 1}
    slots = [run.slot for run in app.history("ada", number)]
    assert slots == [due + 75 * MINUTE, due]
    assert len(api.effects) == 2


def test_ticks_at_once_and_ticks_again_run_a_slot_once(
    app: ModuleType, api: ThirdParty, pgqueue_dsn: str
) -> None:
    """Eight tick at the same time, and then one after another."""
    numbers = [scheduled(app, f"user-{n}") for n in range(10)]
    travel(pgqueue_dsn, 16 * MINUTE)
    with ThreadPoolExecutor(8) as pool:
        fired = list(pool.map(lambda _: app.client.schedules.tick(), range(8)))
    fired += [app.client.schedules.tick() for _ in range(3)]
    assert sum(fired) == 10
    run_pending(app.client, app.handlers)
    assert len(api.effects) == 10
    for n, number in enumerate(numbers):
        assert outcomes(app, number, f"user-{n}") == [("enqueued", "succeeded")]


def test_slot_is_skipped_while_the_last_run_backs_off(
    app: ModuleType, api: ThirdParty, later: Callable[[timedelta], Counter[str]]
) -> None:
    """Runs of one schedule never overlap."""
    number = scheduled(app, frequency_minutes=1)
    api.next(1, "busy", retry_after=150)
    assert later(MINUTE) == {"snoozed": 1}
    assert [later(MINUTE) for _ in range(4)] == [{}, {}, {"succeeded": 1}, {"succeeded": 1}]
    assert outcomes(app, number) == [
        ("enqueued", "succeeded"),
        *[("skipped", None)] * 3,
        ("enqueued", "succeeded"),
    ]
    assert len(api.effects) == 2


# Credentials: a table of their own, which only the service role may read.


@pytest.mark.parametrize("user", ["ada", "bob"])
def test_credentials_are_read_by_the_service_role_alone(
    app: ModuleType, sql: Sql, logins: dict[str, str], user: str
) -> None:
    """Not by the page, nor by the key's own user; also where a host grants all tables to all."""
    app.connect("ada", "calendar", KEY)
    read = "select api_key from autosync.credential"
    with app.as_user(user) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute(read)
    sql("grant usage on schema autosync to public; grant all on autosync.credential to public")
    with app.as_user(user) as conn:
        for statement in (read, "update autosync.credential set api_key = 'x' returning api_key"):
            assert conn.execute(statement).fetchall() == []
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            conn.execute("insert into autosync.credential values (1, 'x')")
    with psycopg.connect(app.client.dsn) as conn:
        assert conn.info.user == logins["service"]
        assert conn.execute(read).fetchall() == [(KEY,)]


def test_key_is_replaced_without_scheduling_anew(
    app: ModuleType, api: ThirdParty, sql: Sql, later: Callable[[timedelta], Counter[str]]
) -> None:
    """By its user; it holds from the next attempt on, also of a run that failed with the old."""
    number = scheduled(app)
    later(15 * MINUTE)
    before = sql("select * from pgqueue.schedule")
    api.next(1, "error")
    assert app.connect("ada", "calendar", "new-key") == number
    assert sql("select * from pgqueue.schedule") == before
    later(15 * MINUTE)
    app.connect("ada", "calendar", "newest-key")
    later(MINUTE)
    sent = [call.headers["Authorization"] for call in api.calls]
    assert sent == [f"Bearer {key}" for key in (KEY, "new-key", "newest-key")]


def test_key_is_nowhere_but_in_its_table(
    app: ModuleType,
    api: ThirdParty,
    sql: Sql,
    later: Callable[[timedelta], Counter[str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither in jobs, their history and results, nor in schedules and logs."""
    caplog.set_level(logging.DEBUG)
    scheduled(app)
    app.TIMEOUT = 1  # type: ignore[attr-defined]
    for trouble in ("error", "slow", "garbage", "reset"):
        api.next(1, trouble)
        later(15 * MINUTE)
    later(15 * MINUTE)
    assert len(api.calls) > 4
    for table in ("all_jobs", "schedule", "schedule_run"):
        text = sql.one(f"select string_agg(t::text, ' ') from pgqueue.{table} t")
        assert "autosync" in text or table == "schedule_run"
        assert KEY not in text
    assert KEY not in caplog.text


def test_run_without_a_key_is_cancelled_and_says_why(
    app: ModuleType, api: ThirdParty, sql: Sql, later: Callable[[timedelta], Counter[str]]
) -> None:
    """The third party is not called."""
    number = scheduled(app)
    sql("delete from autosync.credential")
    assert later(15 * MINUTE) == {"cancelled": 1}
    assert app.history("ada", number)[0].error == "the integration has no key, or is gone"
    assert api.calls == []


# Schedules of one user are invisible to another.


def test_users_see_and_change_nothing_of_each_other(
    app: ModuleType, sql: Sql, later: Callable[[timedelta], Counter[str]]
) -> None:
    """Neither by the page nor in SQL: integrations, schedules, histories, jobs."""
    number = scheduled(app)
    later(15 * MINUTE)
    before = sql("select * from pgqueue.schedule")
    assert app.schedules("bob") == []
    assert app.history("bob", number) == []
    assert not app.disconnect("bob", number)
    with pytest.raises(LookupError):
        app.save("bob", number, app.Settings(frequency_minutes=1))
    with pytest.raises(pgqueue.ScheduleNotFound):
        app.run_now("bob", number)
    for user in ("bob", ""):
        with app.as_user(user) as conn:
            assert conn.execute(
                "select rolsuper, rolbypassrls from pg_roles where rolname = current_user"
            ).fetchall() == [(False, False)]
            for table in (
                "pgqueue.schedule",
                "pgqueue.schedule_run",
                "pgqueue.all_jobs",
                "pgqueue.job",
                "pgqueue.archive",
                "autosync.integration",
            ):
                assert conn.execute(f"select * from {table}").fetchall() == []
            conn.execute("update pgqueue.schedule set enabled = false")
            conn.execute("delete from pgqueue.schedule")
    assert sql("select * from pgqueue.schedule") == before
    assert len(app.history("ada", number)) == 1


def test_users_may_have_the_same_service_and_the_same_names(
    app: ModuleType, api: ThirdParty, later: Callable[[timedelta], Counter[str]]
) -> None:
    """And each run has its own user's key."""
    for user in ("ada", "bob"):
        number = app.connect(user, "calendar", f"key-of-{user}")
        app.save(user, number, app.Settings(frequency_minutes=15))
    later(15 * MINUTE)
    assert sorted(call.headers["Authorization"] for call in api.effects) == [
        "Bearer key-of-ada",
        "Bearer key-of-bob",
    ]


def test_job_of_a_user_never_gets_the_key_of_another(
    app: ModuleType, api: ThirdParty, later: Callable[[timedelta], Counter[str]]
) -> None:
    """Though bob writes ada's integration into a payload by hand."""
    number = app.connect("ada", "calendar", KEY)
    with app.as_user("bob") as conn:
        app.client.enqueue("autosync.run", {"integration": number}, queue="autosync", conn=conn)
        app.client.schedules.put(
            pgqueue.Schedule(
                "x", "autosync.run", {"integration": number}, every=MINUTE, queue="autosync"
            ),
            conn=conn,
        )
    assert later(MINUTE) == {"cancelled": 2}
    assert api.calls == []


def test_deleted_integration_takes_key_schedule_and_unfinished_jobs_along(
    app: ModuleType, api: ThirdParty, sql: Sql, later: Callable[[timedelta], Counter[str]]
) -> None:
    """Its user deletes it; another's stays."""
    number, other = scheduled(app), scheduled(app, "bob")
    api.next(2, "error")
    later(15 * MINUTE)
    assert app.disconnect("ada", number)
    assert sql("select ref from pgqueue.schedule") == [(f"integration:{other}",)]
    assert sql("select integration_id from autosync.credential") == [(other,)]
    query = "select ref, state from pgqueue.all_jobs order by ref"
    assert sorted(sql(query)) == sorted(
        [(f"integration:{number}", "cancelled"), (f"integration:{other}", "scheduled")]
    )


# The third party misbehaves.


@pytest.mark.parametrize("trouble", ["error", "slow", "reset", "garbage"])
def test_slot_is_run_once_though_the_third_party_misbehaves(
    app: ModuleType,
    api: ThirdParty,
    later: Callable[[timedelta], Counter[str]],
    trouble: str,
) -> None:
    """500, a time-out, a broken connection, an answer that is none: tried again under one key."""
    if trouble == "slow":
        app.TIMEOUT = 1  # type: ignore[attr-defined]
    api.next(2, trouble)
    number = scheduled(app)
    assert later(15 * MINUTE) == {"failed": 1}
    assert later(MINUTE) == {"failed": 1}
    assert later(MINUTE) == {"succeeded": 1}
    assert outcomes(app, number) == [("enqueued", "succeeded")]
    assert (len(api.calls), len({call.key for call in api.calls}), len(api.effects)) == (3, 1, 1)


def test_run_waits_as_long_as_a_429_asks_for(
    app: ModuleType, api: ThirdParty, later: Callable[[timedelta], Counter[str]]
) -> None:
    """And no attempt is used up."""
    api.next(1, "busy", retry_after=90)
    number = scheduled(app)
    assert later(15 * MINUTE) == {"snoozed": 1}
    assert later(timedelta(seconds=85)) == {}
    assert later(timedelta(seconds=10)) == {"succeeded": 1}
    assert app.history("ada", number)[0].attempt == 1


# A scheduler and a worker in this process; real pg_cron.


@contextmanager
def running(*workers: pgqueue.Worker) -> Iterator[None]:
    """Workers meanwhile."""
    with ThreadPoolExecutor(len(workers)) as pool:
        codes = [pool.submit(worker.run) for worker in workers]
        try:
            yield
        finally:
            for worker in workers:
                worker.stop()
        assert [code.result(20) for code in codes] == [0] * len(workers)


def test_workers_in_this_process_fire_and_run_without_cron(
    app: ModuleType, api: ThirdParty, pgqueue_dsn: str
) -> None:
    """Two of them, each of which ticks; each slot is run once."""
    numbers = {user: scheduled(app, user) for user in ("ada", "bob")}
    travel(pgqueue_dsn, 15 * MINUTE)
    with running(*(pgqueue.Worker(app.client, app.handlers) for _ in "ab")):
        until(lambda: len(api.effects) == 2)
        until(
            lambda: all(
                outcomes(app, number, user) == [("enqueued", "succeeded")]
                for user, number in numbers.items()
            )
        )
    assert len(api.calls) == 2


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_pg_cron_ticks_and_pokes_the_endpoint(
    hosted: Hosted, load_app: LoadApp, api: ThirdParty
) -> None:
    """The upkeep ticks, and a poke does at the same time: the slot is run once."""
    app = load_app("auto_sync_schedules", hosted.dsn, AUTOSYNC_URL=api.url, AUTOSYNC_SECRET=SECRET)
    app.client.migrate()
    set_up(hosted.dsn)
    number = scheduled(app)
    cron = PgCron(app.client)
    with serving(app.endpoint.wsgi) as url:
        cron.install()
        cron.install(Poke(name="autosync", url=url, queue="autosync"))
        cron.sync_secret(SECRET)
        assert cron.run("autosync") is None  # nothing is due: no request is made
        travel(hosted.dsn, 16 * MINUTE, any_database=True)
        hosted.wait_for_run("poke:autosync")
        until(lambda: hosted.runs("upkeep"))
        # Where the upkeep fired the slot, the poke beside it may have looked before that commit.
        cron.run("autosync")
        until(lambda: outcomes(app, number) == [("enqueued", "succeeded")])
    assert hosted.runs("poke:autosync")[0][0] == hosted.runs("upkeep")[0][0] == "succeeded"
    assert len(api.calls) == 1
    assert cron.failures() == []
    cron.close()
