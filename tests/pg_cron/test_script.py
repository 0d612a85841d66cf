"""The SQL that makes jobs of pg_cron, without any pg_cron."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from tests.hosted.database import Sql

from pgqueue import Client, ConfigurationError, InvalidJob
from pgqueue.pg_cron import PgCron, Poke, install_script, remove_script, verify_script
from pgqueue.pg_cron.script import cadence, job_name, pace_of

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


@pytest.mark.parametrize(
    "every,schedule",
    [
        (SECOND, "1 seconds"),
        (59 * SECOND, "59 seconds"),
        (MINUTE, "* * * * *"),
        (5 * MINUTE, "*/5 * * * *"),
        (30 * MINUTE, "*/30 * * * *"),
        (HOUR, "0 * * * *"),
        (6 * HOUR, "0 */6 * * *"),
        (24 * HOUR, "0 0 * * *"),
    ],
)
def test_cadence_is_a_schedule_and_back(every: timedelta, schedule: str) -> None:
    """pg_cron's own words for a span."""
    assert cadence(every) == schedule
    assert pace_of(schedule) == every


@pytest.mark.parametrize(
    "every",
    [timedelta(0), -MINUTE, 0.5 * SECOND, 90 * SECOND, 7 * MINUTE, 7 * HOUR, 1.5 * HOUR, 48 * HOUR],
)
def test_cadence_that_no_cron_keeps_is_refused(every: timedelta) -> None:
    """Rather than one that is uneven."""
    with pytest.raises(ConfigurationError, match="pass 1 to 59 whole seconds"):
        cadence(every)


def test_schedules_of_others_have_no_known_pace() -> None:
    """Nothing is said of their being late."""
    assert pace_of("0 6 * * 1") is None


def test_seconds_come_with_what_to_do_where_there_are_none() -> None:
    """One script for every pg_cron; a minute or more needs no second way."""
    script = install_script(every=10 * SECOND)
    assert "'10 seconds', 'select \"pgqueue\".maintain()'" in script
    assert "run_minute(''10 seconds'')" in script
    assert "run_minute" not in install_script(every=MINUTE)


def test_names_and_values_are_quoted() -> None:
    """Whatever a URL or a body holds."""
    endpoint = Poke(url="https://x.y/?a='b", body={"a": "it's\\"})
    script = install_script("Other", endpoint, database="app")
    assert "'https://x.y/?a=''b'" in script
    assert "it''s" in script
    assert "cron.schedule_in_database(v_name, '* * * * *', 'select \"Other\".poke(" in script
    assert "poke(''default'')', 'app');" in script
    assert "'Other.poke:default@app'" in script
    assert "-- In database app:" in script
    assert 'delete from "Other".poke;' in remove_script("Other", database="app")


def test_check_has_a_part_for_each_database() -> None:
    """Where pg_cron is in another one than the queue."""
    here, there = verify_script("Other", database="a'b").split("-- In database a'b:\n")
    assert "from cron.job j" in here
    assert "'a''b'" in here
    assert '"Other".poke p' in there
    assert "cron." not in there


@pytest.mark.parametrize(
    "given",
    [
        {"name": "a b"}, {"url": "ftp://x"}, {"url": "https://x y"}, {"secret": ""},
        {"header": "A: b"}, {"timeout": timedelta(0)}, {"timeout": 30}, {"url": None},
        {"header": None},
    ],
)  # fmt: skip
def test_endpoint_that_cannot_be_is_refused(given: dict[str, Any]) -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigurationError):
        Poke(**{"url": "https://x.y/", **given})


def test_queue_of_an_endpoint_is_a_name() -> None:
    """As in enqueue."""
    with pytest.raises(InvalidJob):
        Poke(url="https://x.y/", queue="a b")


def test_job_names_fit_into_every_pg_cron() -> None:
    """Before 1.5 they were cut to 63 bytes, and two could be one."""
    with pytest.raises(ConfigurationError, match="over 63 bytes"):
        job_name("pgqueue", "poke:" + "x" * 60, "app")


def test_missing_pg_cron_says_what_to_do(pgqueue_client: Client, sql: Sql) -> None:
    """By each method, and by the script."""
    cron = PgCron(pgqueue_client)
    for method in (cron.install, cron.verify, cron.pause, cron.history, cron.failures, cron.remove):
        with pytest.raises(ConfigurationError, match="create extension pg_cron"):
            method()
    with pytest.raises(ConfigurationError, match="create extension pg_cron"):
        PgCron(pgqueue_client, database="postgres").jobs()
    with pytest.raises(psycopg.Error, match="pg_cron is not in this database"):
        sql(install_script())
