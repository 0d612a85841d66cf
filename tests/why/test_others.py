"""What is told of queues, dedupe keys and schedules."""

from __future__ import annotations

from datetime import datetime, time, timedelta, timezone

from pgqueue import Client, GateCode, GateLevel, Schedule, testing

from .conftest import Hire, Sql, codes, gate

HOUR = timedelta(hours=1)


def test_empty_queue_is_fine(client: Client, hire: Hire) -> None:
    """It says what runs, and when the next job is due."""
    hire()
    client.enqueue("k")
    client.claim()
    client.enqueue("k", delay=HOUR)
    found = client.why_queue("default")
    assert codes(found) == [GateCode.EMPTY]
    assert (found.subject, found.level) == ("queue", GateLevel.FINE)
    assert found.gate.facts["claimed"] == 1
    assert found.gate.opens_at is not None


def test_empty_queue_without_worker_says_so(client: Client) -> None:
    """Nothing is held up yet, but the next job will be."""
    client.enqueue("k", delay=HOUR)
    assert codes(client.why_queue("default")) == [GateCode.EMPTY, GateCode.NO_WORKER]


def test_queue_that_nobody_uses(client: Client) -> None:
    """Its name may be wrong."""
    found = client.why_queue("misspelt")
    assert codes(found) == [GateCode.UNKNOWN_QUEUE]
    assert not found.found


def test_queue_with_a_backlog(client: Client, hire: Hire) -> None:
    """Ready jobs of all its lanes, and the longest wait."""
    hire(full=True)
    client.enqueue("k", priority=2)
    client.enqueue_many([("k", None)] * 4)
    client.enqueue("k", queue="other")
    found = client.why_queue("default")
    assert codes(found) == [GateCode.FULL, GateCode.BEHIND]
    assert gate(found, GateCode.BEHIND).facts["ready"] == 5


def test_queue_whose_due_jobs_nobody_promotes(client: Client) -> None:
    """They are counted."""
    client.enqueue("k", delay=HOUR)
    testing.travel(client, 2 * HOUR)
    found = client.why_queue("default")
    assert gate(found, GateCode.PROMOTION_OVERDUE).facts["jobs"] == 1


def test_holder_of_a_dedupe_key(client: Client) -> None:
    """By kind, exactly; without one, among the kinds of the queue."""
    job_id = client.enqueue("k", dedupe_key="x").id
    assert client.enqueue("k", dedupe_key="x").duplicate
    for found in (client.why_key("x", kind="k"), client.why_key("x", queue="default")):
        assert codes(found) == [GateCode.KEY_HELD]
        assert (found.job_id, found.subject) == (job_id, "dedupe key")
        assert "is finished" in found.sentence
    assert client.why_key("x", kind="k", queue="other").gate.code is GateCode.KEY_FREE


def test_free_dedupe_key_says_where_it_looked(client: Client, hire: Hire) -> None:
    """Kinds of live workers are among them."""
    hire(kinds="{a,b}")
    found = client.why_key("x")
    assert codes(found) == [GateCode.KEY_FREE]
    assert found.gate.facts["kinds"] == ["a", "b"]


def test_schedule_that_is_not_there(client: Client) -> None:
    """Its name is wrong, or no worker with it has started."""
    found = client.why_schedule("nightly")
    assert codes(found) == [GateCode.NO_SCHEDULE]
    assert not found.found


def test_schedule_says_its_next_slot_and_window(client: Client) -> None:
    """All is fine."""
    schedule = Schedule("s", "k", every=HOUR, window=(time(1), time(2)))
    client.schedules.put(schedule)
    found = client.why_schedule("s")
    assert codes(found) == [GateCode.NEXT_SLOT]
    assert found.gate.opens_at == client.schedules.get("s").next_run_at
    assert "01:00 to 02:00" in found.sentence


def test_disabled_schedule(client: Client) -> None:
    """Somebody has to enable it."""
    client.schedules.put(Schedule("s", "k", every=HOUR))
    client.schedules.disable("s")
    found = client.why_schedule("s")
    assert codes(found) == [GateCode.DISABLED]
    assert found.level is GateLevel.BLOCKED


def test_schedule_that_has_ended(client: Client) -> None:
    """No slot is left."""
    ends = datetime.now(timezone.utc) + timedelta(minutes=1)
    client.schedules.put(Schedule("s", "k", every=HOUR, ends_at=ends))
    testing.travel(client, 2 * HOUR)
    client.schedules.tick()
    found = client.why_schedule("s")
    assert codes(found) == [GateCode.ENDED]


def test_slot_that_nobody_fires(client: Client) -> None:
    """Neither a worker nor a scheduler runs."""
    client.schedules.put(Schedule("s", "k", every=HOUR))
    client.maintain()
    testing.travel(client, 2 * HOUR)
    found = client.why_schedule("s")
    assert codes(found) == [GateCode.TICK_OVERDUE]
    assert found.level is GateLevel.BLOCKED


def test_schedule_that_waits_for_an_earlier_job(client: Client) -> None:
    """With overlap skip."""
    client.schedules.put(Schedule("s", "k", every=HOUR, overlap="skip"))
    testing.travel(client, 2 * HOUR)
    client.schedules.tick()
    found = client.why_schedule("s")
    assert codes(found) == [GateCode.NEXT_SLOT, GateCode.OVERLAP]
    assert gate(found, GateCode.OVERLAP).facts["id"] == found.job_id


def test_slot_that_could_not_be_enqueued(client: Client, sql: Sql) -> None:
    """With the error."""
    client.schedules.put(Schedule("s", "k", {"x": "y" * 3000}, every=HOUR))
    sql("update pgqueue.setting set max_payload_bytes = 1024")
    testing.travel(client, 2 * HOUR)
    client.schedules.tick()
    found = client.why_schedule("s")
    assert found.gate.code is GateCode.SLOT_FAILED
    assert "over the limit" in found.sentence
