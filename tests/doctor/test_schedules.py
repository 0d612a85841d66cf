"""Schedules that nobody fires, whose kind nobody runs, or whose slots go wrong."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest

from pgqueue import Client, Schedule
from pgqueue.doctor import Level, Limits, schedules
from pgqueue.testing import travel

from .conftest import Examine, Sql, levels

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
NOBODY = "no worker is seen on this queue"


def put(client: Client, name: str = "s", kind: str = "k", **options: Any) -> None:
    """Makes a schedule with a slot each hour."""
    client.schedules.put(Schedule(name, kind, every=HOUR, **options))


def test_schedule_that_nobody_fires_is_critical(look: Examine, pgqueue_client: Client) -> None:
    """One tick mends it, and the advice is who should tick."""
    (nothing,) = look("schedules")
    assert (nothing.level, nothing.seen) == (Level.OK, "no schedule has a slot to come")
    put(pgqueue_client, "off", enabled=False)
    put(pgqueue_client)
    put(pgqueue_client, "t")
    assert look("schedules")[0].seen == "none is overdue; the next slot comes in 60m"
    travel(pgqueue_client, HOUR + MINUTE)
    assert look("schedules")[0].seen == "none is overdue; the next slot is due now"
    travel(pgqueue_client, HOUR)
    (found,) = look("schedules")
    assert (found.level, found.seen) == (
        Level.CRITICAL, "2 schedules are overdue, the first (s) for 61m",
    )  # fmt: skip
    assert found.advice == (
        "nobody fires schedules: run a worker, or: pgqueue scheduler; or have pg_cron do it: "
        "pgqueue cron install"
    )
    assert levels(look("schedules", limits=Limits(overdue=2 * HOUR))) == {Level.OK}
    pgqueue_client.schedules.tick()
    assert levels(look("schedules")) == {Level.OK}


def test_schedule_that_ticks_pass_over_is_told_apart(
    look: Examine, pgqueue_client: Client, sql: Sql, pgqueue_dsn: str
) -> None:
    """The advice finds who holds its row."""
    put(pgqueue_client)
    travel(pgqueue_client, 2 * HOUR)
    with psycopg.connect(pgqueue_dsn) as holder:
        (pid,) = holder.execute(
            "select pg_backend_pid() from pgqueue.schedule for update"
        ).fetchone()  # type: ignore[misc]
        assert pgqueue_client.schedules.tick() == 0
        (found,) = look("schedules")
        assert (found.level, found.seen) == (
            Level.CRITICAL, "1 schedule is overdue, the first (s) for 60m",
        )  # fmt: skip
        _, query = found.advice.removesuffix("; else run more of: pgqueue scheduler").split("? ")
        assert pid in [row[0] for row in sql(query)]


def test_no_more_than_a_sample_is_counted(
    look: Examine, pgqueue_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are due the longest."""
    monkeypatch.setattr(schedules, "SAMPLE", 2)
    monkeypatch.setattr(schedules, "_OVERDUE", schedules._OVERDUE.replace("1001", "3"))
    for number in range(4):
        put(pgqueue_client, f"s{number}")
    travel(pgqueue_client, 2 * HOUR)
    assert look("schedules")[0].seen.startswith("over 2 schedules are overdue, the first (s0) for")


def test_kind_of_a_schedule_that_no_worker_has(
    look: Examine, pgqueue_client: Client, sql: Sql
) -> None:
    """While workers are seen it is a warning, without any a notice; busy ones may have it."""
    put(pgqueue_client)
    put(pgqueue_client, "t")
    (found,) = look("schedule-kinds")
    assert (found.level, found.seen) == (
        Level.NOTICE,
        f"2 schedules (s and others) are of kind k in queue default; {NOBODY}",
    )
    sql("select pgqueue.sleep('{default}', 'w-1', '1 hour', '{other}')")
    (found,) = look("schedule-kinds")
    assert (found.level, found.seen.rpartition("; ")[2]) == (
        Level.WARNING, "1 worker seen on this queue, none of which runs it",
    )  # fmt: skip
    pgqueue_client.enqueue("third")
    pgqueue_client.claim(worker="w-2")
    assert levels(look("schedule-kinds")) == {Level.OK}
    sql("delete from pgqueue.job; select pgqueue.sleep('{default}', 'w-3', '1 hour', '{k}')")
    assert levels(look("schedule-kinds")) == {Level.OK}


def test_kind_whose_queue_is_poked_needs_no_worker(
    look: Examine, pgqueue_client: Client, sql: Sql
) -> None:
    """The endpoint has the handler; one that runs a job of the kind is seen, too."""
    put(pgqueue_client, queue="q")
    assert levels(look("schedule-kinds")) == {Level.NOTICE}
    sql("insert into pgqueue.poke (name, queue, url) values ('p', 'q', 'https://x.y/')")
    assert levels(look("schedule-kinds")) == {Level.OK}
    sql("delete from pgqueue.poke")
    pgqueue_client.schedules.run_now("s")
    pgqueue_client.claim("q", worker="w-1")
    assert levels(look("schedule-kinds")) == {Level.OK}


def test_slots_that_fail_are_a_warning_until_one_goes_well(
    look: Examine, pgqueue_client: Client, sql: Sql
) -> None:
    """With the error, and then a notice for a day."""
    put(pgqueue_client)
    put(pgqueue_client, "well")
    assert levels(look("schedule-runs")) == {Level.OK}
    sql("alter table pgqueue.job add constraint no_k check (metadata ->> 'schedule' <> 's')")
    for _ in range(2):
        travel(pgqueue_client, HOUR)
        pgqueue_client.schedules.tick()
    (found,) = look("schedule-runs")
    assert found.level is Level.WARNING
    assert found.seen.startswith("2 slots of schedule s failed within the last day, the last ")
    assert "no_k" in found.seen
    assert found.advice == "pgqueue schedule show s; correct it, and then: pgqueue schedule run s"
    sql("alter table pgqueue.job drop constraint no_k")
    pgqueue_client.schedules.run_now("s")
    assert levels(look("schedule-runs")) == {Level.WARNING}
    travel(pgqueue_client, HOUR)
    pgqueue_client.schedules.tick()
    assert levels(look("schedule-runs")) == {Level.NOTICE}
    travel(pgqueue_client, 25 * HOUR)
    assert levels(look("schedule-runs")) == {Level.OK}


def test_slots_that_are_missed_are_a_warning(look: Examine, pgqueue_client: Client) -> None:
    """Where the schedule is not to make up for them."""
    put(pgqueue_client, catch_up=0)
    travel(pgqueue_client, HOUR + 30 * MINUTE)
    pgqueue_client.schedules.tick()
    (found,) = look("schedule-runs")
    assert found.level is Level.WARNING
    assert found.seen.startswith("1 slot of schedule s was missed within the last day, the last ")
    assert "pgqueue scheduler" in found.advice


def test_slots_that_went_wrong_have_an_index(look: Examine, sql: Sql) -> None:
    """So that a day's history of a million schedules is not read."""
    del look
    sql("analyze pgqueue.schedule_run")
    text = schedules._WRONG.replace("@extschema@", '"pgqueue"')
    sql("set enable_seqscan = off; set enable_bitmapscan = off")
    plan = "\n".join(row[0] for row in sql(f"explain {text}"))
    assert "schedule_run_wrong" in plan
