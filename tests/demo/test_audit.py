"""The account that the database gives."""

from __future__ import annotations

from datetime import timedelta

import attrs
import psycopg
import pytest

from pgqueue import Client, Json
from pgqueue.demo.audit import Audit, Auditor, Failure, Kill, Recovery
from pgqueue.demo.report import report

SURVEY: dict[str, Json] = {
    "lines": 10,
    "functions": 2,
    "classes": 1,
    "longest": {"name": "f", "lines": 4},
}


def play(client: Client) -> list[int]:
    """Three jobs: one succeeds, one dies, one is taken from a dead worker and succeeds."""
    attempts = {"a": 2, "b": 1, "c": 2}
    ids = [client.enqueue("parse", ref=ref, max_attempts=n).id for ref, n in attempts.items()]
    first, second = client.claim(limit=2, worker="worker-1:1")
    client.ack(first, result=SURVEY)
    client.fail(second, SyntaxError("bad"))
    client.claim(worker="worker-2:1", lease=timedelta(microseconds=1))
    return ids


def recover(client: Client) -> None:
    """The third job runs again."""
    while not (jobs := client.claim(worker="worker-3:1")):
        client.maintain()
    client.ack(jobs, result={**SURVEY, "longest": None})


def test_account_of_a_run(pgqueue_client: Client) -> None:
    """Every number comes from the tables."""
    ids = play(pgqueue_client)
    auditor = Auditor(pgqueue_client)
    assert auditor.held("worker-2") == 1
    kill = Kill("worker-2", auditor.now())
    recover(pgqueue_client)
    audit = auditor.audit(ids, kill)
    assert (audit.enqueued, audit.succeeded, audit.dead, audit.lost, audit.twice) == (3, 2, 1, 0, 0)
    assert (audit.lines, audit.functions, audit.classes) == (20, 4, 2)
    assert audit.expired == 1
    assert audit.passed
    assert list(audit.largest) == [(10, "a"), (10, "c")]
    assert list(audit.longest) == [(4, "f", "a")]
    assert list(audit.failures) == [Failure("SyntaxError", 1, [["b", "bad"]])]
    assert audit.recovery is not None
    assert audit.recovery.jobs == 1
    ready, running = audit.recovery.ready_seconds, audit.recovery.running_seconds
    assert ready is not None
    assert running is not None
    assert 0 < ready < running < 60


def test_lost_and_doubled_jobs_fail_the_audit(pgqueue_client: Client, pgqueue_dsn: str) -> None:
    """A row that is gone, and one that is there twice."""
    ids = play(pgqueue_client)
    recover(pgqueue_client)
    with psycopg.connect(pgqueue_dsn) as conn:
        conn.execute("insert into pgqueue.archive select * from pgqueue.archive where ref = 'a'")
        conn.execute("delete from pgqueue.archive where ref = 'b'")
    audit = Auditor(pgqueue_client).audit(ids, None)
    assert (audit.lost, audit.twice, audit.passed) == (1, 1, False)
    assert audit.recovery is None
    text = "\n".join(report(audit))
    assert "lost 1, finished more than once 1" in text
    assert "THE AUDIT FAILED" in text


@pytest.fixture
def audit() -> Audit:
    """One with long names in it."""
    return Audit(
        enqueued=1790, succeeded=1781, dead=9, lost=0, twice=0, expired=27, lines=857_247,
        functions=58_754, classes=13_116, seconds=7.3, recovery=Recovery(27, 2.2, 4.9),
        largest=[(8550, "a/" * 60)], longest=[(671, "f" * 60, "a/" * 60)],
        failures=[
            Failure("SyntaxError", 9, [["a/" * 40, "b" * 90]] * 5),
            Failure("Other", 1, [["a", "b"]]),
        ],
    )  # fmt: skip


def test_report_fits_80_columns(audit: Audit) -> None:
    """Whatever the files are called; what was left out is counted."""
    lines = list(report(audit))
    assert max(map(len, lines)) <= 80
    assert "           and 4 more" in lines
    assert lines[-1] == "lost 0: 1,790 enqueued = 1,781 succeeded + 9 dead"
    assert audit.jobs_per_second == pytest.approx(1790 / 7.3)


def test_report_knows_runs_without_a_kill(audit: Audit) -> None:
    """Nothing to recover, or nothing killed, or no failure."""
    held_nothing = attrs.evolve(audit, recovery=Recovery(0, None, None), failures=[])
    assert "  recovery      none  the killed worker held no jobs" in report(held_nothing)
    assert "Failures: none" in report(held_nothing)
    assert "recovery" not in "".join(report(attrs.evolve(audit, recovery=None)))
