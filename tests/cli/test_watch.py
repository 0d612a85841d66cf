"""`watch` and `metrics`: what they say, and what they refuse."""

from __future__ import annotations

import sys
from pathlib import Path

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pgqueue import Client

from .conftest import Run


@pytest.fixture
def late(pgqueue_client: Client) -> Client:
    """A queue whose only job has waited for an hour."""
    pgqueue_client.enqueue("a", queue="mail")
    with psycopg.connect(pgqueue_client.dsn, autocommit=True) as conn:
        conn.execute("update pgqueue.job set run_at = run_at - interval '1 h'")
    return pgqueue_client


@pytest.mark.usefixtures("late")
def test_notices_are_printed_where_nobody_else_is_told(run: Run) -> None:
    """In words or as JSON, and once."""
    done = run("watch", "--once", "--json")
    assert {(line["rule"], line["key"], line["firing"]) for line in done.lines} == {
        ("queue_latency", "mail", True),
        ("no_workers", "mail", True),
    }
    assert "told 2 notices" in done.err
    again = run("watch", "--once")
    assert (again.out, "told 0 notices" in again.err) == ("", True)


@pytest.mark.usefixtures("late")
def test_limits_are_options(run: Run) -> None:
    """An hour is not late for everybody."""
    done = run("watch", "--once", "--latency", "2h", "--horizon", "2h")
    assert "no_workers" in done.out
    assert "queue_latency" not in done.out


def test_watch_of_ones_own_is_loaded(
    run: Run, late: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its own rules and senders."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "watching.py").write_text(
        "from pgqueue.alerts import QueueLatency, Watch\n"
        f"mine = Watch({late.dsn!r}, senders=[lambda n: print('TOLD', n.rule)], "
        "rules=[QueueLatency()])\n"
    )
    try:
        done = run("watch", "watching:mine", "--once")
        wrong = run("watch", "watching:nothing", "--once")
    finally:
        sys.modules.pop("watching", None)
    assert done.out == "TOLD queue_latency\n"
    assert wrong.code == 2
    assert "no pgqueue.Watch named 'nothing'" in wrong.err


@pytest.mark.usefixtures("late")
def test_bad_webhook_is_refused_without_being_shown(run: Run) -> None:
    """It may be a secret with a slip of the pen."""
    done = run("watch", "--once", "--webhook", "htps://hooks/s3cret")
    assert done.code != 0
    assert "s3cret" not in done.err + done.out


@pytest.mark.usefixtures("late")
def test_sentry_needs_its_dsn(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than to tell nobody."""
    monkeypatch.delenv("SENTRY_DSN", raising=False)
    done = run("watch", "--once", "--sentry")
    assert (done.code, "SENTRY_DSN" in done.err) == (2, True)


@pytest.mark.usefixtures("late")
def test_metrics_are_printed_once(run: Run) -> None:
    """For who collects text files."""
    done = run("metrics", "--print")
    found = {family.name: family for family in text_string_to_metric_families(done.out)}
    (sample,) = found["pgqueue_oldest_ready_job_seconds"].samples
    assert (sample.labels, sample.value > 3500) == ({"queue": "mail"}, True)


@pytest.mark.usefixtures("late")
def test_extra_that_is_missing_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the exporter and for the worker's port."""
    for name in [name for name in sys.modules if name.startswith("pgqueue.metrics")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pgqueue.metrics", None)
    done = run("metrics", "--print")
    assert (done.code, "install pgqueue's extra `metrics`" in done.err) == (2, True)
