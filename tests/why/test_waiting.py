"""Each gate that a waiting job may stand before, made in a database and told."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import psycopg
import pytest

from pgqueue import Client, GateCode, GateLevel, JobState, testing
from pgqueue.why import waiting

from .conftest import Hire, Sql, codes, gate

MINUTE = timedelta(minutes=1)


def test_scheduled_job_says_when(client: Client, hire: Hire) -> None:
    """The gate opens at its run_at, exactly."""
    hire()
    at = datetime(2050, 1, 1, 9, tzinfo=timezone.utc)
    found = client.why(client.enqueue("k", run_at=at).id)
    assert codes(found) == [GateCode.SCHEDULED]
    assert (found.state, found.level) == (JobState.SCHEDULED, GateLevel.WAITS)
    assert found.gate.opens_at == at
    assert "2050-01-01 09:00:00Z" in found.sentence


def test_backing_off_job_says_its_attempt_and_error(client: Client, hire: Hire) -> None:
    """Which attempt comes when, and why the last one failed."""
    hire()
    job_id = client.enqueue("k").id
    for attempt in (1, 2):
        (job,) = client.claim()
        client.fail(job, ValueError("no such mailbox"), retry_in=attempt * MINUTE)
        if attempt == 1:
            client.retry(job_id)
    found = client.why(job_id)
    assert codes(found) == [GateCode.BACKING_OFF]
    assert "attempt 3 of 20" in found.sentence
    assert "ValueError: no such mailbox" in found.sentence
    assert found.gate.opens_at == client.get(job_id).run_at
    assert found.gate.facts["error_class"] == "ValueError"


def test_snoozed_job_is_not_taken_for_a_failed_one(client: Client, hire: Hire) -> None:
    """Its handler put it off."""
    hire()
    job_id = client.enqueue("k").id
    client.snooze(client.claim(), MINUTE)
    found = client.why(job_id)
    assert codes(found) == [GateCode.SNOOZED]
    assert found.gate.opens_at == client.get(job_id).run_at


def test_due_job_that_nobody_promotes(client: Client, sql: Sql) -> None:
    """Somebody has to do the upkeep; with a worker that does it, the job is about to be ready."""
    job_id = client.enqueue("k", delay=MINUTE).id
    client.maintain()
    testing.travel(client, 5 * MINUTE)
    found = client.why(job_id)
    assert codes(found)[:2] == [GateCode.PROMOTION_OVERDUE, GateCode.NO_WORKER]
    assert found.gate.level is GateLevel.BLOCKED
    sql("select pgqueue.promote(0)")
    assert client.why(job_id).gate.level is GateLevel.WAITS


@pytest.mark.parametrize("reason", ["the provider is down", None])
def test_paused_queue_says_until_when_and_why(
    client: Client, hire: Hire, reason: str | None
) -> None:
    """It goes on by itself."""
    hire()
    job_id = client.enqueue("k").id
    until = datetime.now(timezone.utc) + MINUTE
    client.pause("default", until=until, reason=reason)
    found = client.why(job_id)
    assert codes(found) == [GateCode.PAUSED]
    assert (found.level, found.gate.opens_at) == (GateLevel.WAITS, until)
    assert (reason or "without a reason") in found.sentence


def test_pause_without_end_needs_somebody(client: Client, hire: Hire) -> None:
    """It is over when it is resumed; then the job is next."""
    hire()
    job_id = client.enqueue("k").id
    client.pause("default")
    found = client.why(job_id)
    assert (found.gate.code, found.level) == (GateCode.PAUSED, GateLevel.BLOCKED)
    assert found.gate.action == "pgqueue resume default"
    client.resume("default")
    assert client.why(job_id).gate.code is GateCode.NEXT


def test_pause_of_everything_comes_before_that_of_a_queue(client: Client, hire: Hire) -> None:
    """The queue '*' is all of them."""
    hire()
    job_id = client.enqueue("k").id
    client.pause("default")
    with client.driver.connection() as conn:
        conn.execute("select pgqueue.pause('*', 'infinity', 'incident 12')")
    found = client.why(job_id)
    assert codes(found) == [GateCode.ALL_PAUSED, GateCode.PAUSED]
    assert "incident 12" in found.sentence
    assert client.why_queue("default").gate.code is GateCode.ALL_PAUSED


def test_no_worker_names_those_elsewhere(client: Client, hire: Hire) -> None:
    """Who has the kind, on which other queue."""
    hire("w-mail", "{mail}", "{k}")
    hire("w-pdf", "{pdf}", "{pdf.make}")
    found = client.why(client.enqueue("k").id)
    assert codes(found) == [GateCode.NO_WORKER]
    assert found.level is GateLevel.BLOCKED
    assert "w-mail" in found.sentence
    assert "w-pdf" not in found.sentence


def test_silent_and_stopping_workers_do_not_count(client: Client, hire: Hire, sql: Sql) -> None:
    """They take no jobs any more; it is said when the last one was heard of."""
    hire("gone")
    testing.travel(client, MINUTE)
    hire("leaving")
    sql("select pgqueue.beat('leaving', 0, null, true)")
    found = client.why(client.enqueue("k").id)
    assert codes(found) == [GateCode.NO_WORKER]
    assert found.gate.facts["stopping"] == found.gate.facts["silent"] == 1
    assert "last heard of" in found.sentence


def test_claims_by_others_than_workers_are_told(client: Client) -> None:
    """An endpoint, or a loop of one's own, does not register: nobody is told to act."""
    client.enqueue("k")
    client.claim(worker="my-loop")
    found = client.why(client.enqueue("k").id)
    assert found.gate.code is GateCode.NO_WORKER
    assert found.level is GateLevel.WAITS
    assert "my-loop" in found.sentence


def test_recent_endings_show_that_somebody_works(client: Client) -> None:
    """Likewise where nothing is held right now."""
    client.enqueue("k")
    client.ack(client.claim())
    client.maintain()
    found = client.why(client.enqueue("k").id)
    assert found.gate.code is GateCode.NO_WORKER
    assert found.level is GateLevel.WAITS


def test_no_worker_with_the_kind_names_the_others(client: Client, hire: Hire) -> None:
    """Who is on the queue with other kinds, and who has the kind on other queues."""
    hire("here", "{default}", "{a,b}")
    hire("there", "{mail}", "{k}")
    found = client.why(client.enqueue("k").id)
    assert codes(found) == [GateCode.NO_KIND]
    assert "a, b" in found.sentence
    assert "there on mail" in found.sentence
    assert [w["id"] for w in found.gate.facts["on_this_queue"]] == ["here"]  # type: ignore[attr-defined]


def test_full_workers_say_what_they_are_busy_with(client: Client, hire: Hire) -> None:
    """Kinds, counts and since when; also in another queue of theirs."""
    hire("w", "{default,mail}", "{k,slow}", full=True)
    client.enqueue_many([("slow", None)] * 2, queue="mail")
    client.claim("mail", limit=2, worker="w")
    found = client.why(client.enqueue("k").id)
    assert codes(found) == [GateCode.FULL]
    assert "2 jobs of slow" in found.sentence
    assert found.gate.facts["running"] == found.gate.facts["concurrency"] == 2
    hire("w2")
    assert client.why(client.enqueue("k").id).gate.code is not GateCode.FULL


def test_full_for_a_kind_alone(client: Client, hire: Hire, sql: Sql) -> None:
    """Sync and async handlers have rooms of their own."""
    hire("w", kinds="{k,async}")
    sql("select pgqueue.beat('w', 1, '{k}')")
    assert client.why(client.enqueue("k").id).gate.code is GateCode.FULL
    found = client.why(client.enqueue("async", priority=0).id)
    assert found.gate.code is GateCode.NEXT


def test_behind_counts_those_before_it(client: Client, hire: Hire) -> None:
    """Of its lane, and without those that no worker here can run."""
    hire()
    client.enqueue_many([("k", None)] * 3 + [("unknown", None)] * 2)
    job_id = client.enqueue("k").id
    client.enqueue_many([("k", None)] * 5)
    client.enqueue("k", queue="elsewhere")
    found = client.why(job_id)
    assert codes(found) == [GateCode.BEHIND]
    facts = found.gate.facts
    assert (facts["ahead"], facts["runnable"], facts["before"]) == (5, 3, 3)
    assert found.gate.opens_at is None
    assert found.gate.estimated


def test_behind_estimates_by_the_present_rate(client: Client, hire: Hire) -> None:
    """A hundred jobs finished, so it is known how long a thousand take."""
    hire()
    client.maintain()  # makes the archive's parts
    client.enqueue_many([("k", None)] * 1200)
    client.ack(client.claim(limit=100))
    job_id = client.enqueue("k").id
    found = client.why(job_id)
    behind = gate(found, GateCode.BEHIND)
    assert behind.facts["before"] == 1100
    per_second = behind.facts["per_second"]
    assert isinstance(per_second, float)
    assert behind.opens_at is not None
    expected = 1100 / per_second
    assert (behind.opens_at - found.at).total_seconds() == pytest.approx(expected, rel=0.01)
    testing.travel(client, MINUTE)  # nothing was finished meanwhile: there is no present rate
    later = gate(client.why(job_id), GateCode.BEHIND)
    assert later.opens_at is None
    assert "not known" in later.sentence


def test_higher_priorities_go_first_but_for_one_claim_in_sixteen(
    client: Client, hire: Hire
) -> None:
    """Each of their lanes is counted; lower ones are not."""
    hire()
    job_id = client.enqueue("k", priority=5).id
    for priority, count in ((0, 2), (3, 1), (7, 4)):
        for _ in range(count):
            client.enqueue("k", priority=priority)
    found = client.why(job_id)
    assert codes(found) == [GateCode.PRIORITY]
    assert found.gate.facts["ahead"] == 3
    assert "one claim in sixteen" in found.sentence
    assert "2 of priority 0, 1 of priority 3" in found.sentence


def test_next_job_with_a_free_worker_is_fine(client: Client, hire: Hire) -> None:
    """Nothing holds it."""
    hire()
    found = client.why(client.enqueue("k").id)
    assert codes(found) == [GateCode.NEXT]
    assert found.level is GateLevel.FINE


def test_next_job_that_is_not_taken_is_no_good_sign(client: Client, hire: Hire) -> None:
    """It says that it does not know why, and where to look."""
    job_id = client.enqueue("k").id
    testing.travel(client, MINUTE)
    hire()
    found = client.why(job_id)
    assert codes(found) == [GateCode.NOT_TAKEN]
    assert found.level is GateLevel.BLOCKED


def test_lane_without_a_mark_is_found_by_upkeep(client: Client, hire: Hire, sql: Sql) -> None:
    """Claims do not see it until then."""
    hire()
    job_id = client.enqueue("k").id
    sql("delete from pgqueue.lane")
    assert client.claim() == []
    assert codes(client.why(job_id)) == [GateCode.UNMARKED]
    client.maintain()
    assert client.why(job_id).gate.code is GateCode.NEXT


def test_row_that_a_transaction_has_locked(
    client: Client, hire: Hire, other: psycopg.Connection
) -> None:
    """A claim that is not committed, say; it names the session."""
    hire()
    job_id = client.enqueue("k").id
    assert client.claim(conn=other)
    found = client.why(job_id)
    assert found.gate.code is GateCode.ROW_LOCKED
    assert found.gate.facts["pid"] == other.info.backend_pid
    assert found.level is GateLevel.BLOCKED
    other.rollback()
    assert client.why(job_id).gate.code is GateCode.NEXT


def test_retry_that_waits_without_its_key(client: Client, hire: Hire, sql: Sql) -> None:
    """Another one took it, while a transaction that was open then may have had it."""
    hire()
    first = client.enqueue("k", dedupe_key="x", dedupe_until="start").id
    (job,) = client.claim()
    second = client.enqueue("k", dedupe_key="x", dedupe_until="start").id
    sql(
        "update pgqueue.job set lease_until = null, position = null, run_at = %s where id = %s",
        job.lease_until + MINUTE, first,
    )  # fmt: skip
    found = client.why(first)
    assert codes(found) == [GateCode.SCHEDULED, GateCode.KEY_TAKEN]
    assert gate(found, GateCode.KEY_TAKEN).facts["holder"]["id"] == second  # type: ignore[index]


def test_old_snapshot_is_told_behind_the_rest(
    client: Client, hire: Hire, other: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claims are slow then, and it names who holds it."""
    monkeypatch.setattr(waiting, "OLD_SNAPSHOT", 0.0)
    hire()
    other.execute("set transaction isolation level repeatable read")
    other.execute("select 1")
    found = client.why(client.enqueue("k").id)
    assert codes(found) == [GateCode.NEXT, GateCode.HORIZON]
    assert gate(found, GateCode.HORIZON).facts["pid"] == other.info.backend_pid


def test_gates_come_in_the_order_in_which_a_job_passes_them(client: Client) -> None:
    """First its time, then a pause, then somebody who takes it."""
    job_id = client.enqueue("k", delay=MINUTE).id
    client.pause("default")
    assert codes(client.why(job_id)) == [
        GateCode.SCHEDULED,
        GateCode.PAUSED,
        GateCode.NO_WORKER,
    ]
