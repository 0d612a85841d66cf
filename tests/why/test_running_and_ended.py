"""What is told of jobs that run, that have ended, and that are not there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest

from pgqueue import Client, GateCode, GateLevel, JobState, testing

from .conftest import Hire, Sql, codes, gate

MINUTE = timedelta(minutes=1)


def test_job_that_runs_fine_says_so(client: Client, hire: Hire) -> None:
    """Since when, where, and that its worker lives."""
    hire()
    job_id = client.enqueue("k").id
    client.claim(worker="w")
    found = client.why(job_id)
    assert codes(found) == [GateCode.RUNNING]
    assert (found.state, found.level) == (JobState.CLAIMED, GateLevel.FINE)
    assert "on worker w, which last beat" in found.sentence
    assert found.gate.facts["registered"] is True


def test_claim_of_nobody_known_is_fine_while_its_lease_lasts(client: Client) -> None:
    """Endpoints and loops of one's own do not register."""
    job_id = client.enqueue("k").id
    client.claim(worker="my-loop")
    found = client.why(job_id)
    assert codes(found) == [GateCode.RUNNING]
    assert "not in the list" in found.sentence


def test_silent_worker_loses_its_job_at_the_end_of_the_lease(client: Client, hire: Hire) -> None:
    """That is when the gate opens."""
    hire()
    job_id = client.enqueue("k").id
    (job,) = client.claim(worker="w", lease=10 * MINUTE)
    testing.travel(client, MINUTE)
    found = client.why(job_id)
    assert codes(found) == [GateCode.WORKER_SILENT, GateCode.RUNNING]
    assert found.gate.opens_at == job.lease_until
    assert found.gate.facts["host"] == "host"


def test_overdue_lease_says_what_becomes_of_the_job(client: Client) -> None:
    """Somebody has to do the upkeep; the last attempt leaves it dead."""
    first = client.enqueue("k").id
    last = client.enqueue("k", max_attempts=1).id
    client.claim(limit=2, worker="w")
    client.maintain()
    testing.travel(client, 5 * MINUTE)
    found = client.why(first)
    assert codes(found) == [GateCode.LEASE_OVERDUE]
    assert found.level is GateLevel.BLOCKED
    assert "runs again" in found.sentence
    assert "is dead" in client.why(last).sentence
    client.maintain()
    assert client.why(last).gate.code is GateCode.DEAD


def test_overdue_lease_of_a_locked_row_names_who_has_it(
    client: Client, other: psycopg.Connection
) -> None:
    """The reaper passes over it."""
    job_id = client.enqueue("k").id
    (job,) = client.claim()
    client.ack(job, conn=other)
    testing.travel(client, 5 * MINUTE)
    assert codes(client.why(job_id))[:2] == [GateCode.ROW_LOCKED, GateCode.LEASE_OVERDUE]


def test_cancellation_that_the_handler_has_not_noticed(client: Client, hire: Hire) -> None:
    """It comes before all else that is told of a running job."""
    hire()
    job_id = client.enqueue("k").id
    client.claim(worker="w")
    client.cancel(job_id)
    assert codes(client.why(job_id)) == [GateCode.CANCEL_REQUESTED, GateCode.RUNNING]


def test_attempt_beyond_the_usual_time(client: Client, hire: Hire) -> None:
    """Usual is what 99 in 100 of its kind took lately."""
    hire()
    client.maintain()
    client.enqueue_many([("k", None)] * 25)
    client.ack(client.claim(limit=25))
    job_id = client.enqueue("k").id
    client.claim(worker="w", lease=10 * MINUTE)
    assert codes(client.why(job_id)) == [GateCode.RUNNING]
    testing.travel(client, MINUTE)
    hire()
    found = client.why(job_id)
    assert codes(found) == [GateCode.SLOW, GateCode.RUNNING]
    assert found.gate.facts["jobs"] == 25


def test_succeeded_job_says_when_and_where(client: Client) -> None:
    """And how long it took."""
    job_id = client.enqueue("k").id
    client.ack(client.claim(worker="w"))
    found = client.why(job_id)
    assert codes(found) == [GateCode.SUCCEEDED]
    assert "on w" in found.sentence
    assert found.gate.facts["finished_at"] == client.get(job_id).finished_at


def test_skipped_job_says_why(client: Client) -> None:
    """The reason of its handler."""
    job_id = client.enqueue("k").id
    client.skip(client.claim(), "nothing to do")
    found = client.why(job_id)
    assert codes(found) == [GateCode.SKIPPED]
    assert "nothing to do" in found.sentence


def test_superseded_job_names_the_one_in_its_stead(client: Client) -> None:
    """Its key was taken while it ran."""
    first = client.enqueue("k", dedupe_key="x", dedupe_until="start").id
    (job,) = client.claim()
    second = client.enqueue("k", dedupe_key="x", dedupe_until="start").id
    client.fail(job, "no")
    found = client.why(first)
    assert codes(found) == [GateCode.SKIPPED]
    assert f"job {second} holds the dedupe key" in found.sentence


def test_cancelled_job_says_why(client: Client) -> None:
    """The reason that was given, if one was."""
    first, second = client.enqueue("k").id, client.enqueue("k").id
    client.cancel(first, "customer left")
    client.cancel(second)
    found = client.why(first)
    assert codes(found) == [GateCode.CANCELLED]
    assert "customer left" in found.sentence
    assert "without a reason" in client.why(second).sentence


def test_dead_job_says_its_last_error(client: Client) -> None:
    """And, if its key is held by now, that a retry would do nothing."""
    job_id = client.enqueue("k", max_attempts=1, dedupe_key="x").id
    client.fail(client.claim(), KeyError("to"))
    found = client.why(job_id)
    assert codes(found) == [GateCode.DEAD]
    assert found.level is GateLevel.BLOCKED
    assert "KeyError: 'to'" in found.sentence
    assert "1 of 1" in found.sentence
    client.enqueue("k", dedupe_key="x")
    assert codes(client.why(job_id)) == [GateCode.DEAD, GateCode.KEY_TAKEN]
    assert client.retry(job_id) == []


def test_job_that_never_was(client: Client) -> None:
    """Its number is higher than any that was given to one."""
    found = client.why(client.enqueue("k").id + 1)
    assert codes(found) == [GateCode.NEVER_EXISTED]
    assert not found.found
    assert found.state is None


def test_job_that_is_gone(client: Client) -> None:
    """Purged, or past its retention."""
    job_id = client.enqueue("k").id
    client.purge("default")
    found = client.why(job_id)
    assert codes(found) == [GateCode.GONE]
    assert not found.found


def test_job_that_is_not_committed_yet(client: Client, other: psycopg.Connection) -> None:
    """It cannot be seen, so that the sessions are named that may have it."""
    job_id = client.enqueue("k", conn=other).id
    found = client.why(job_id)
    assert codes(found) == [GateCode.UNCOMMITTED, GateCode.GONE]
    assert str(other.info.backend_pid) in found.sentence
    other.commit()
    assert client.why(job_id).found


@pytest.fixture
def roles(sql: Sql, direct_dsn: str) -> Iterator[dict[str, str]]:
    """Logins of a role without rights on jobs, and of a tenant."""
    made = {}
    (database,) = sql("select current_database()")[0]
    for access in ("producer", "tenant"):
        name = f"{access}_{database}"
        if access == "tenant":
            sql("select pgqueue.isolate_tenants()")
        sql(f"create role {name} login")
        sql("select pgqueue.grant_access(%s, %s)", name, access)
        made[access] = psycopg.conninfo.make_conninfo(direct_dsn, user=name)
    yield made
    for access in made:
        sql(f"drop owned by {access}_{database}")
        sql(f"drop role {access}_{database}")


def test_role_without_rights_is_told_so(client: Client, roles: dict[str, str]) -> None:
    """Instead of an error: a producer may not read jobs."""
    job_id = client.enqueue("k").id
    with Client(roles["producer"]) as producer:
        found = producer.why(job_id)
        assert codes(found) == [GateCode.NO_RIGHTS]
        assert codes(producer.why_queue("default")) == [GateCode.NO_RIGHTS]
        assert codes(producer.why_key("x")) == [GateCode.NO_RIGHTS]
        assert codes(producer.why_schedule("x")) == [GateCode.NO_RIGHTS]


def test_tenant_sees_its_own_jobs_only(client: Client, roles: dict[str, str], sql: Sql) -> None:
    """Of another's it is told that row security may hide it; of workers, that it may not look."""
    sql("select set_config('pgqueue.tenant', 'acme', false)")
    ((own,),) = sql("select id from pgqueue.enqueue('k')")
    foreign = client.enqueue("k").id
    options = psycopg.conninfo.make_conninfo(roles["tenant"], options="-c pgqueue.tenant=acme")
    with Client(options) as tenant:
        found = tenant.why(foreign)
        assert found.gate.code is GateCode.HIDDEN
        assert "tenant acme" in found.sentence
        found = tenant.why(own)
        assert found.state is JobState.READY
        assert gate(found, GateCode.NO_RIGHTS).level is GateLevel.FINE
        assert tenant.why_queue("default").level is not GateLevel.BLOCKED
