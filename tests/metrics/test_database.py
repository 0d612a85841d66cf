"""What waits in the database, as gauges."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from pgqueue import Client, ConfigurationError
from pgqueue.metrics import QueueMetrics

from .helpers import Samples, samples, value

SECOND = timedelta(seconds=1)


def look(metrics: QueueMetrics) -> Samples:
    """One scrape."""
    registry = CollectorRegistry()
    registry.register(metrics)
    return samples(generate_latest(registry).decode())


def sql(client: Client, text: str) -> None:
    """Runs one statement."""
    with psycopg.connect(client.dsn, autocommit=True) as conn:
        conn.execute(text.encode())


def test_gauges_say_what_waits_and_who_works(client: Client) -> None:
    """By queue and state, with the oldest wait of those that are not paused."""
    for queue in ("mail", "mail", "paused"):
        client.enqueue("a", queue=queue)
    client.enqueue("a", queue="mail", delay=SECOND * 100)
    client.enqueue("dies", queue="grave", max_attempts=1)
    client.fail(client.claim("grave"), "x")
    client.claim("mail", worker="host:1:aaaa")
    client.pause("paused")
    sql(client, "update pgqueue.job set run_at = run_at - interval '1 h' where position > 0")
    sql(client, "select pgqueue.sleep('{mail}', 'host:2:bbbb', '1 min', '{a}')")
    sql(client, "select pgqueue.sleep('{mail}', 'host:2:cccc', '1 min', '{b}')")
    found = look(QueueMetrics(client))
    for state, count in (("ready", 1), ("scheduled", 1), ("claimed", 1), ("dead", 0)):
        assert value(found, "pgqueue_jobs", queue="mail", state=state) == count
    assert value(found, "pgqueue_jobs", queue="grave", state="dead") == 1
    assert 3600 <= value(found, "pgqueue_oldest_ready_job_seconds", queue="mail") < 3700
    oldest = {dict(labels)["queue"] for name, labels in found if "oldest_ready" in name}
    assert oldest == {"mail"}
    assert value(found, "pgqueue_queue_paused", queue="paused") == 1
    assert value(found, "pgqueue_queue_paused", queue="mail") == 0
    assert value(found, "pgqueue_queue_workers", queue="mail") == 2
    assert value(found, "pgqueue_workers") == 2
    assert value(found, "pgqueue_sample_success") == 2
    assert {dict(labels).get("table") for name, labels in found if name == "pgqueue_dead_rows"} == {
        "job", "lane", "schedule", "sleeper",
    }  # fmt: skip


def test_lags_and_the_horizon_are_seen(client: Client) -> None:
    """Upkeep that nobody does, a slot that did not fire, a snapshot that somebody holds."""
    client.enqueue("a", delay=SECOND * 100)
    sql(client, "update pgqueue.job set run_at = now() - interval '10 min'")
    sql(client, "select pgqueue.schedule('s', 'k', every => '1 h')")
    sql(client, "alter table pgqueue.schedule disable trigger all")
    sql(client, "update pgqueue.schedule set next_run_at = now() - interval '20 min'")
    with psycopg.connect(client.dsn) as conn:
        conn.execute("set transaction isolation level repeatable read")
        conn.execute("select 1 from pgqueue.job")
        time.sleep(0.02)
        found = look(QueueMetrics(client))
    assert 600 <= value(found, "pgqueue_upkeep_lag_seconds") < 700
    assert 1200 <= value(found, "pgqueue_schedule_lag_seconds") < 1300
    assert value(found, "pgqueue_horizon_age_seconds") >= 0.02


def test_database_is_looked_at_no_more_often_than_asked(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scrapes in between are given what was seen."""
    metrics = QueueMetrics(client, every=SECOND * 60)
    asked: list[Any] = []
    run = metrics._run

    def count(statement: Any) -> Any:
        asked.append(statement)
        return run(statement)

    monkeypatch.setattr(metrics, "_run", count)
    client.enqueue("a")
    first = look(metrics)
    client.enqueue("a")
    again = look(metrics)
    assert len(asked) == 2  # one for each part
    assert value(first, "pgqueue_jobs") == value(again, "pgqueue_jobs") == 1
    metrics._parts[1]._due = 1.0
    assert value(look(metrics), "pgqueue_jobs") == 2
    assert len(asked) == 3


def test_look_that_takes_too_long_ends_and_is_told(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """At its deadline; the other part is not touched, and the server is left in peace."""
    metrics = QueueMetrics(client, deadline=SECOND * 0.3)
    client.enqueue("a")
    with psycopg.connect(client.dsn) as conn:
        conn.execute("lock table pgqueue.archive in access exclusive mode")
        began = time.monotonic()
        found = look(metrics)
        assert time.monotonic() - began < 3
    assert value(found, "pgqueue_sample_success", part="counts") == 0
    assert value(found, "pgqueue_sample_success", part="vitals") == 1
    assert not [name for name, _ in found if name == "pgqueue_jobs"]
    assert "cannot look at the counts" in caplog.text
    metrics._parts[1]._due = 1.0
    assert value(look(metrics), "pgqueue_jobs") == 1


def test_database_that_is_gone_is_no_error(pgqueue_dsn: str) -> None:
    """It is a gauge: a scrape always has its answer."""
    gone = psycopg.conninfo.make_conninfo(pgqueue_dsn, dbname="nothing_of_this_name")
    found = look(QueueMetrics(gone))
    assert value(found, "pgqueue_sample_success") == 0
    assert len([name for name, _ in found if name == "pgqueue_sample_success"]) == 2


def test_queues_beyond_the_limit_share_a_label(client: Client) -> None:
    """The fullest keep their names, and the sums stay what they are."""
    for number in range(5):
        client.enqueue_many([("a", None)] * (number + 1), queue=f"q{number}")
    found = look(QueueMetrics(client, most_queues=2))
    assert value(found, "pgqueue_jobs", queue="q4", state="ready") == 5
    assert value(found, "pgqueue_jobs", queue="other", state="ready") == 1 + 2 + 3
    assert value(found, "pgqueue_jobs", state="ready") == 15


@pytest.mark.parametrize("options", [{"every": timedelta(0)}, {"deadline": 5}])
def test_times_are_checked(client: Client, options: dict[str, Any]) -> None:
    """More than zero."""
    with pytest.raises(ConfigurationError):
        QueueMetrics(client, **options)
