"""The facts are of one moment, and bounded."""

from __future__ import annotations

import threading

import pytest

from pgqueue import Client, GateCode, JobState

from .conftest import Hire, Sql, gate

RUNS = {GateCode.RUNNING, GateCode.LEASE_OVERDUE}
WAITS = {GateCode.NEXT, GateCode.BEHIND, GateCode.FULL, GateCode.ROW_LOCKED}


def test_functions_read_the_snapshot_of_their_caller(sql: Sql) -> None:
    """All are STABLE; a volatile one would take a snapshot for each of its statements."""
    found = sql("select proname, provolatile::text from pg_proc where proname ~ '^_why_|^_claims$'")
    assert len(found) > 10
    assert {volatility for _, volatility in found} == {"s"}


def test_job_that_changes_meanwhile_is_told_in_one_state(client: Client, hire: Hire) -> None:
    """While somebody claims, releases and acks as fast as it goes."""
    hire()
    ids = client.enqueue_many([("k", None)] * 200).ids
    over = threading.Event()

    def work() -> None:
        with Client(client.dsn) as mine:
            while not over.is_set() and (jobs := mine.claim(limit=5, worker="w")):
                mine.release(jobs[1:])
                mine.ack(jobs[0])

    thread = threading.Thread(target=work)
    thread.start()
    seen: set[JobState] = set()
    try:
        while thread.is_alive():
            for job_id in (ids[0], ids[100], ids[-1]):
                found = client.why(job_id)
                assert found.state is not None
                seen.add(found.state)
                allowed = {
                    JobState.CLAIMED: RUNS,
                    JobState.SUCCEEDED: {GateCode.SUCCEEDED},
                    JobState.READY: WAITS,
                }[found.state]
                assert {each.code for each in found.gates} <= allowed
    finally:
        over.set()
        thread.join(10)
    assert client.why(ids[-1]).state is JobState.SUCCEEDED
    assert JobState.READY in seen


def test_no_more_than_a_hundred_thousand_are_counted(client: Client, hire: Hire, sql: Sql) -> None:
    """Beyond that it tells how many there are about, and that it is not a count."""
    hire()
    client.enqueue("k")
    sql(
        "insert into pgqueue.job (queue, kind, payload, max_attempts) "
        "select 'default', 'k', '{}', 1 from generate_series(1, 130000)"
    )
    found = gate(client.why(client.enqueue("k").id), GateCode.BEHIND)
    assert (found.facts["ahead"], found.facts["counted"]) == (100_000, False)
    assert found.facts["about"] == pytest.approx(130_001, rel=0.01)
    assert "100,000+" in found.sentence
    queue = client.why_queue("default")
    assert "100,000+" in gate(queue, GateCode.BEHIND).sentence
