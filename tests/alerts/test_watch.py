"""The watch end to end: what is found, who is told, and that it is told once."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from pgqueue import (
    Client,
    ConfigurationError,
    Handlers,
    Job,
    Outcome,
    Retry,
    SchemaMissing,
    Worker,
)
from pgqueue.alerts import (
    Alarm,
    DeadJobs,
    Notice,
    NoWorkers,
    QueueLatency,
    RepeatedFailures,
    ScheduleOverdue,
    UpkeepOverdue,
    Watch,
)
from pgqueue.alerts import watch as watch_module

from .helpers import Given, Told, until

SECOND = timedelta(seconds=1)
SOON = timedelta(milliseconds=50)


def sql(client: Client, text: str) -> list[tuple[Any, ...]]:
    """Runs one statement."""
    with psycopg.connect(client.dsn, autocommit=True) as conn:
        cursor = conn.execute(text.encode())
        return cursor.fetchall() if cursor.description else []


def test_alarm_is_told_once_then_that_it_is_over(
    client: Client, told: Told, given: type[Given]
) -> None:
    """However often it is found meanwhile."""
    watch = Watch(client, senders=[told], rules=[Given(quiet=timedelta(milliseconds=1))])
    given.alarms = [Alarm("mail", "it is wrong", 7.0)]
    for _ in range(3):
        watch.look()
    assert told.lines == [("given", "mail", True)]
    notice = told[0]
    assert (notice.summary, notice.value, notice.schema) == ("it is wrong", 7.0, "pgqueue")
    assert notice.title == "[FIRING] pgqueue given mail: it is wrong"
    given.alarms = []
    until(lambda: watch.look() or len(told) > 1)
    watch.look()
    assert told.lines == [("given", "mail", True), ("given", "mail", False)]
    assert told[1].title.startswith("[RESOLVED]")


def test_what_comes_and_goes_is_not_told_again_within_the_cool_down(
    client: Client, told: Told, given: type[Given]
) -> None:
    """Nor is it told to be over again, since nobody was told that it is wrong."""
    watch = Watch(client, senders=[told], rules=[Given(quiet=timedelta(microseconds=1))])
    for _ in range(4):
        given.alarms = [Alarm("", "it is wrong", 1.0)]
        watch.look()
        given.alarms = []
        watch.look()
    assert told.lines == [("given", "", True), ("given", "", False)]


def test_what_goes_on_is_told_again_after_the_cool_down(
    client: Client, told: Told, given: type[Given]
) -> None:
    """As a reminder."""
    watch = Watch(client, senders=[told], rules=[Given(cool_down=timedelta(microseconds=1))])
    given.alarms = [Alarm("", "it is wrong", 1.0)]
    watch.look()
    watch.look()
    assert told.lines == [("given", "", True)] * 2


def test_of_many_watches_one_tells(client: Client, told: Told, given: type[Given]) -> None:
    """At once or one after the other: the notice is one's alone."""
    given.alarms = [Alarm(f"key-{n}", "it is wrong", 1.0) for n in range(5)]
    start = threading.Barrier(6)

    def look() -> None:
        watch = Watch(client, senders=[told], rules=[Given()])
        start.wait(10)
        for _ in range(5):
            watch.look()

    threads = [threading.Thread(target=look) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(told.lines) == [("given", f"key-{n}", True) for n in range(5)]


def test_notice_whose_teller_died_is_told_by_another_after_its_lease(
    client: Client, told: Told, given: type[Given], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost with a process; meanwhile it is not told twice."""

    class Died(BaseException):
        """As if the process were gone."""

    def die(_: Notice) -> None:
        raise Died

    monkeypatch.setattr(watch_module, "LEASE", timedelta(seconds=0.5))
    given.alarms = [Alarm("", "it is wrong", 1.0)]
    with pytest.raises(Died):
        Watch(client, senders=[die], rules=[Given()]).look()
    other = Watch(client, senders=[told], rules=[Given()])
    assert other.look() == 0
    until(lambda: other.look() == 1)
    assert told.lines == [("given", "", True)]


def test_sender_that_fails_is_tried_again_and_the_others_are_told(
    client: Client,
    told: Told,
    given: type[Given],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log names its class, and not what the error says, which may be a secret."""
    monkeypatch.setattr(watch_module, "FIRST_PAUSE", 0.001)

    class Bad(Told):
        """Never takes one."""

    bad = Bad()

    def fail(_: Notice) -> None:
        raise ValueError("token canary-9")

    bad.fail = fail
    given.alarms = [Alarm("", "it is wrong", 1.0)]
    Watch(client, senders=[bad, told], rules=[Given()]).look()
    assert (bad.calls, told.lines) == (3, [("given", "", True)])
    assert "was not taken by Bad: ValueError" in caplog.text
    assert "canary-9" not in caplog.text


def test_notice_that_nobody_took_stays_due(
    client: Client, told: Told, given: type[Given], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told when a sender works again."""
    monkeypatch.setattr(watch_module, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(watch_module, "LEASE", timedelta(seconds=0.2))
    given.alarms = [Alarm("", "it is wrong", 1.0)]
    watch = Watch(client, senders=[told], rules=[Given()])

    def fail(_: Notice) -> None:
        raise ValueError

    told.fail = fail
    assert watch.look() == 0
    told.fail = lambda _: None
    until(lambda: watch.look() == 1)


def test_rules_that_a_watch_does_not_have_are_left_alone(
    client: Client, told: Told, given: type[Given]
) -> None:
    """An old deployment does not call what a new one found over."""
    quiet = timedelta(microseconds=1)
    given.alarms = [Alarm("", "it is wrong", 1.0)]
    Watch(client, senders=[told], rules=[Given(quiet=quiet)]).look()
    Watch(client, senders=[told], rules=[QueueLatency(quiet=quiet)]).look()
    assert told.lines == [("given", "", True)]
    assert sql(client, "select firing from pgqueue.alert") == [(True,)]


def test_worker_that_watches_tells_of_failures_and_dead_jobs(
    client: Client, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    """By kind, from what its attempts came to, and in its own time."""
    caplog.set_level(logging.CRITICAL)
    handlers = Handlers()

    @handlers.register("flaky")
    async def flaky(_: Job[Any]) -> object:
        return Retry(SECOND * 100)

    @handlers.register("broken")
    def broken(_: Job[Any]) -> None:
        raise ValueError("canary-5")

    handlers.register("good")(lambda _: None)
    client.enqueue_many([("flaky", None)] * 12 + [("good", None)] * 50)
    client.enqueue("broken", "canary-6", max_attempts=1)
    rules = [RepeatedFailures(), DeadJobs()]
    watch = Watch(client, senders=[told], rules=rules, every=SOON)
    worker = Worker(client, handlers, observers=[watch])
    running = threading.Thread(target=worker.run)
    running.start()
    try:
        until(lambda: len(told) == 2)
    finally:
        worker.stop()
        running.join(15)
    assert sorted(told.lines) == [
        ("dead_jobs", "broken", True),
        ("repeated_failures", "flaky", True),
    ]
    texts = {notice.rule: notice.summary for notice in told}
    assert texts == {
        "dead_jobs": "1 job of kind broken died within 5m",
        "repeated_failures": "12 of 12 attempts of kind flaky failed within 5m",
    }
    assert "canary" not in repr(told)


def test_counts_of_all_processes_add_up_and_are_forgotten_after_an_hour(client: Client) -> None:
    """A rule looks at all workers' attempts together."""
    quoted = client.statements.quoted
    for failed in (4, 6):
        sql(
            client,
            f"select {quoted}._count_attempts('{{a,b}}', '{{10,5}}', '{{{failed},0}}', '{{0,0}}')",
        )
    sql(
        client,
        "update pgqueue.attempt_count set counted_at = counted_at - interval '2h' where kind = 'b'",
    )
    assert sql(client, "select * from pgqueue._attempt_counts('5 min')") == [("a", 20, 10, 0)]
    sql(client, f"select {quoted}._count_attempts('{{a}}', '{{1}}', '{{0}}', '{{0}}')")
    assert sql(client, "select distinct kind from pgqueue.attempt_count") == [("a",)]


@pytest.mark.parametrize("share, expected", [(0.5, []), (0.2, [("repeated_failures", "a", True)])])
def test_failures_count_where_they_are_a_large_share(
    client: Client, told: Told, share: float, expected: list[Any]
) -> None:
    """Ten of forty are not half of them."""
    sql(client, "select pgqueue._count_attempts('{a}', '{40}', '{10}', '{0}')")
    Watch(client, senders=[told], rules=[RepeatedFailures(share=share)]).look()
    assert told.lines == expected


def test_late_queue_without_workers_and_late_upkeep_are_told(client: Client, told: Told) -> None:
    """From what the database says, without any worker."""
    client.enqueue("a", queue="mail")
    client.enqueue("a", queue="other")
    client.enqueue("a", queue="paused")
    client.enqueue("a", queue="later", delay=SECOND * 100)
    client.pause("paused")
    sql(client, "update pgqueue.job set run_at = run_at - interval '1 h' where queue <> 'other'")
    rules = [
        QueueLatency(limit=SECOND * 5, limits={"later": SECOND}),
        NoWorkers(limit=SECOND * 5),
        UpkeepOverdue(limit=SECOND * 5),
        ScheduleOverdue(),
    ]
    Watch(client, senders=[told], rules=rules).look()
    assert sorted(told.lines) == [
        ("no_workers", "mail", True),
        ("queue_latency", "mail", True),
        ("upkeep_overdue", "", True),
    ]


def test_worker_that_is_seen_is_a_worker(client: Client, told: Told) -> None:
    """Whether it sleeps or holds a claim."""
    for queue in ("idle", "busy", "none"):
        client.enqueue("a", queue=queue)
        client.enqueue("b", queue=queue)
    sql(client, "select pgqueue.sleep('{idle}', 'host:1:aaaa', '1 min', '{c}')")
    client.claim("busy", worker="host:2:bbbb")
    sql(client, "update pgqueue.job set run_at = run_at - interval '1 h'")
    Watch(client, senders=[told], rules=[NoWorkers()]).look()
    assert told.lines == [("no_workers", "none", True)]


def test_overdue_schedule_is_told(client: Client, told: Told) -> None:
    """Once its slot is late by more than the limit."""
    sql(client, "select pgqueue.schedule('s', 'k', every => '1 h')")
    rule = ScheduleOverdue(limit=SECOND * 5)
    Watch(client, senders=[told], rules=[rule]).look()
    assert told.lines == []
    sql(client, "alter table pgqueue.schedule disable trigger all")
    sql(client, "update pgqueue.schedule set next_run_at = now() - interval '10 min'")
    Watch(client, senders=[told], rules=[rule]).look()
    assert told.lines == [("schedule_overdue", "", True)]


def test_watch_waits_out_what_the_database_does(
    client: Client, told: Told, given: type[Given], caplog: pytest.LogCaptureFixture
) -> None:
    """A look that fails is a warning; the next one tells."""
    watch = Watch(client, senders=[told], rules=[Given()], every=SOON)
    given.alarms = [Alarm("", "it is wrong", 1.0)]
    sql(client, "alter table pgqueue.alert rename to hidden")
    thread = threading.Thread(target=watch.run)
    thread.start()
    until(lambda: "cannot look for alerts" in caplog.text)
    sql(client, "alter table pgqueue.hidden rename to alert")
    until(lambda: told)
    watch.stop()
    thread.join(15)
    assert not thread.is_alive()


def test_counts_that_cannot_be_stored_are_kept(client: Client) -> None:
    """They are added once the database can be reached again."""
    watch = Watch(client, senders=[print], rules=[RepeatedFailures()])

    class One:
        def __init__(self, kind: str) -> None:
            self.job = type("J", (), {"kind": kind})()
            self.duration, self.error = 0.0, None

    watch.ended(Outcome.FAILED, [One("a")])
    sql(client, "alter table pgqueue.attempt_count rename to hidden")
    with pytest.raises(SchemaMissing):
        watch.look()
    sql(client, "alter table pgqueue.hidden rename to attempt_count")
    watch.ended(Outcome.SUCCEEDED, [One("a")])
    watch.look()
    counts = sql(client, "select kind, ended, failed from pgqueue.attempt_count")
    assert counts == [("a", 2, 1)]


@pytest.mark.parametrize(
    "options",
    [
        {"senders": []},
        {"senders": ["http://x"]},
        {"senders": [print], "rules": []},
        {"senders": [print], "rules": [DeadJobs(), DeadJobs(least=5)]},
        {"senders": [print], "every": timedelta(0)},
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any]) -> None:
    """At once."""
    with pytest.raises(ConfigurationError):
        Watch("postgresql://x", **options)
