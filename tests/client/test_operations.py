"""Lists, bulk actions, single actions, the switch and the audit log, over both drivers."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgqueue import (
    Client,
    FilterTooBroad,
    InvalidJob,
    JobFilter,
    JobNotFound,
    JobNotWaiting,
    JobState,
    LeaseLost,
)

if TYPE_CHECKING:
    from .conftest import Connect, Sql

HOUR = timedelta(hours=1)
NAIVE = datetime.now(timezone.utc).replace(tzinfo=None)


def ids(client: Client, **options: Any) -> list[int]:
    """The ids of one page."""
    given = {name: options.pop(name) for name in ("limit", "after") if name in options}
    return [job.id for job in client.operations.search(JobFilter(**options), **given).jobs]


def fill(client: Client) -> dict[str, int]:
    """A job in each state, by the state's name; and one more that waits for its second attempt."""
    made = {}
    for state in ("succeeded", "dead", "cancelled", "skipped", "claimed", "failed"):
        most = 1 if state == "dead" else 5
        made[state] = client.enqueue(state, {"about": state}, max_attempts=most).id
        (job,) = client.claim(worker=f"w-{state}")
        if state == "succeeded":
            client.ack(job)
        elif state in ("dead", "failed"):
            client.fail(job, ValueError(f"No Such {state}"))
        elif state == "cancelled":
            client.cancel_claimed(job)
        elif state == "skipped":
            client.skip(job)
    made["ready"] = client.enqueue("ready", tags=["new"], ref="user:1").id
    made["scheduled"] = client.enqueue("scheduled", queue="slow", delay=HOUR).id
    return made


def test_list_has_unfinished_jobs_first_and_finished_ones_by_their_ends(client: Client) -> None:
    """Claimed, ready, scheduled by their times, then the latest that finished."""
    made = fill(client)
    order = ["claimed", "ready", "failed", "scheduled", "skipped", "cancelled", "dead", "succeeded"]
    assert ids(client) == [made[name] for name in order]
    page = client.operations.search()
    assert [job.state.value for job in page.jobs][2:4] == ["scheduled", "scheduled"]
    assert page.next is None
    assert page.jobs[0].worker == "w-claimed"


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_pages_make_up_the_list(client: Client, size: int) -> None:
    """Whatever their size, each job is on one of them, in the list's order."""
    fill(client)
    whole = [job.id for job in client.operations.search().jobs]
    found: list[int] = []
    after = None
    for _ in range(len(whole)):
        page = client.operations.search(after=after, limit=size)
        found += [job.id for job in page.jobs]
        after = page.next
        if after is None:
            break
    assert found == whole


def test_each_filter_narrows(client: Client) -> None:
    """Alone and together."""
    made = fill(client)
    assert ids(client, state="dead") == [made["dead"]]
    assert ids(client, state=["skipped", JobState.CLAIMED]) == [made["claimed"], made["skipped"]]
    assert ids(client, queue="slow") == [made["scheduled"]]
    assert ids(client, kind="ready") == [made["ready"]]
    assert ids(client, tag="new") == [made["ready"]]
    assert ids(client, ref="user:1") == [made["ready"]]
    assert ids(client, worker="w-skipped") == [made["skipped"]]
    assert ids(client, error_class="ValueError") == [made["failed"], made["dead"]]
    assert ids(client, error="such DEAD") == [made["dead"]]
    assert ids(client, payload={"about": "dead"}) == [made["dead"]]
    assert ids(client, ids=[made["dead"], made["ready"]]) == [made["ready"], made["dead"]]
    assert ids(client, queue="slow", kind="ready") == []
    assert ids(client, tenant="acme") == []
    now = datetime.now(timezone.utc)
    assert len(ids(client, finished_after=now - HOUR)) == 4
    assert ids(client, finished_before=now - HOUR) == []
    assert ids(client, enqueued_before=now - HOUR) == []
    assert len(ids(client, enqueued_after=now - HOUR)) == 8
    assert ids(client, state="ready", finished_after=now - HOUR) == []


def test_finished_jobs_are_found_in_every_partition(client: Client, sql: Sql) -> None:
    """Newest first across days, with and without a place to begin."""
    client.enqueue_many([("k", n) for n in range(10)])
    client.ack(client.claim(limit=10))
    sql("update pgqueue.setting set partition_width = '1 hour'")
    for n in range(10):
        sql("update pgqueue.archive set finished_at = clock_timestamp() - interval '1 h' * %s "
            "where id = %s", n - 2, n + 1)  # fmt: skip
    sql("select pgqueue._partitions()")
    assert ids(client) == list(range(1, 11))
    first = client.operations.search(limit=4)
    assert ids(client, after=first.next) == list(range(5, 11))
    now = datetime.now(timezone.utc)
    assert ids(client, finished_before=now - 3.5 * HOUR, finished_after=now - 6.5 * HOUR) == [
        7, 8, 9,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": "failed"}, {"queue": "no name"}, {"tag": "\0"}, {"ids": [-1]},
        {"finished_after": NAIVE}, {"payload": {1, 2}}, {"ids": range(10_001)},
    ],
)  # fmt: skip
def test_wrong_filter_is_refused(client: Client, wrong: dict[str, Any]) -> None:
    """Before anything is asked."""
    with pytest.raises(InvalidJob):
        client.operations.search(JobFilter(**wrong))


@pytest.mark.parametrize("after", ["x", "W10=", "WyJyZWFkeSIsIDFd", 7])
def test_place_that_is_of_no_page_is_refused(client: Client, after: Any) -> None:
    """However it came."""
    with pytest.raises(InvalidJob, match="pass the `next` of a page"):
        client.operations.search(after=after)


def test_search_gives_up_at_its_deadline(client: Client, connect: Connect) -> None:
    """The error says to narrow the filter; the caller's transaction can go on, as it was set."""
    with connect() as blocker:
        blocker.execute("lock table pgqueue.job in access exclusive mode")
        conn = connect(autocommit=False)
        conn.execute("set local statement_timeout = '12s'")
        for call in (client.operations.search, client.operations.count):
            with pytest.raises(FilterTooBroad, match="narrow it") as caught:
                call(deadline=timedelta(milliseconds=150), conn=conn)
            assert caught.value.deadline == timedelta(milliseconds=150)
        blocker.rollback()
        client.operations.search(conn=conn)
        assert conn.execute("show statement_timeout").fetchone() == ("12s",)
        assert conn.execute("show plan_cache_mode").fetchone() == ("auto",)
        conn.rollback()


def test_count_stops_at_its_limit(client: Client) -> None:
    """And says so."""
    fill(client)
    client.enqueue_many([("many", n) for n in range(30)], queue="many")
    assert str(client.operations.count(JobFilter(queue="many"))) == "30"
    assert str(client.operations.count(JobFilter(queue="many"), at_most=30)) == "30"
    counted = client.operations.count(JobFilter(queue="many"), at_most=20)
    assert (counted.number, counted.more, str(counted)) == (20, True, "20+")
    assert client.operations.count().number == 38
    assert client.operations.count(JobFilter(state=["claimed", "dead"])).number == 2
    assert client.operations.count(JobFilter(state="claimed", queue="slow")).number == 0


def test_cancel_of_a_filter_ends_all_that_wait_and_asks_those_that_run(client: Client) -> None:
    """Chunk by chunk, and none that came later; the audit log has it once."""
    fill(client)
    client.enqueue_many([("many", n) for n in range(25)], queue="many")
    claimed = client.claim("many", limit=3)
    told: list[tuple[int, int]] = []
    done = client.operations.cancel(
        JobFilter(queue="many"), reason="wrong", actor="ada", via="dashboard", chunk=10,
        on_progress=lambda *counts: told.append(counts),
    )  # fmt: skip
    assert (done.action, done.matched, done.affected) == ("cancel", 25, 25)
    assert told == [(10, 10), (20, 20), (25, 25)]
    assert client.operations.count(JobFilter(state="cancelled", queue="many")).number == 22
    assert list(client.extend(claimed).values()) == [True] * 3
    (entry,) = client.operations.audit()
    assert (entry.id, entry.actor, entry.via, entry.action, entry.affected) == (
        done.audit_id, "ada", "dashboard", "cancel", 25,
    )  # fmt: skip
    assert entry.filter == {"queue": "many", "state": ["scheduled", "ready", "claimed"]}
    assert entry.detail == {"reason": "wrong"}
    again = client.operations.cancel(JobFilter(queue="many"))
    assert (again.matched, again.audit_id) == (0, None)


def test_bulk_action_leaves_alone_what_came_after_it_began(client: Client) -> None:
    """Else a producer that is faster would keep it going for ever."""
    client.enqueue_many([("k", n) for n in range(4)])
    bulk = client.operations
    late: list[int] = []

    def enqueue_sql(matched: int, affected: int) -> None:
        del matched, affected
        with psycopg.connect(client.dsn) as conn:
            row = conn.execute("select id from pgqueue.enqueue('late')").fetchone()
            assert row is not None
            late.append(row[0])

    done = bulk.cancel(JobFilter(), chunk=2, on_progress=enqueue_sql)
    assert done.affected == 4
    assert ids(client, state="ready") == late


def test_retry_of_a_filter_takes_the_dead_ones(client: Client) -> None:
    """Unless it names other states; one whose key is held stays, and does not hold up the rest."""
    made = fill(client)
    keyed = client.enqueue("keyed", dedupe_key="a", max_attempts=1).id
    (job,) = client.claim(kinds=["keyed"])
    client.fail(job, "no")
    holder = client.enqueue("keyed", dedupe_key="a").id
    assert str(client.operations.preview("retry", JobFilter())) == "2"
    done = client.operations.retry(JobFilter(), chunk=1)
    assert (done.matched, done.affected) == (2, 1)
    assert client.get(made["dead"]).state is JobState.READY
    assert client.get(keyed).state is JobState.DEAD
    assert client.get(holder).state is JobState.READY
    assert client.operations.retry(JobFilter(state="skipped")).affected == 1
    with pytest.raises(InvalidJob, match="give a state"):
        client.operations.retry(JobFilter(state="claimed"))


def test_delete_of_a_filter_needs_states(client: Client) -> None:
    """And leaves claimed jobs alone."""
    made = fill(client)
    with pytest.raises(InvalidJob, match="needs the states"):
        client.operations.delete(JobFilter(queue="default"))
    done = client.operations.delete(JobFilter(state=["ready", "dead", "succeeded", "scheduled"]))
    assert done.affected == 5
    assert ids(client) == [made["claimed"], made["skipped"], made["cancelled"]]
    with pytest.raises(InvalidJob, match="pass one of cancel, retry, delete"):
        client.operations.preview("burn", JobFilter())  # type: ignore[arg-type]


def test_bulk_action_joins_the_callers_transaction(client: Client, connect: Connect) -> None:
    """Rolled back, neither it nor its entry in the audit log happened."""
    fill(client)
    conn = connect(autocommit=False)
    assert client.operations.cancel(JobFilter(), chunk=1, conn=conn).affected == 4
    conn.rollback()
    assert client.operations.count(JobFilter(state="ready")).number == 1
    assert client.operations.audit() == []


def test_edit_changes_when_and_before_which_a_job_runs(client: Client, sql: Sql) -> None:
    """To later, to now, and to another priority; each is in the audit log."""
    first, second, third = (client.enqueue("k").id for _ in range(3))
    later = datetime.now(timezone.utc) + HOUR
    assert client.operations.edit(first, run_at=later) is JobState.SCHEDULED
    assert client.get(first).run_at == later
    assert client.operations.edit(third, priority=0, actor="bob") is JobState.READY
    assert [job.id for job in client.claim(limit=5)] == [third, second]
    client.operations.run_now(first)
    assert [job.id for job in client.claim(limit=5)] == [first]
    log = client.operations.audit()
    assert [entry.action for entry in log] == ["run_now", "edit", "edit"]
    assert (log[1].actor, log[1].job_ids, log[1].detail) == ("bob", [third], {"priority": 0})
    assert log[0].actor == sql("select session_user")[0][0]


def test_only_waiting_jobs_are_edited(client: Client) -> None:
    """The error says what the job is."""
    made = fill(client)
    for state in ("claimed", "dead", "succeeded"):
        for call in (client.operations.run_now, client.operations.claim_one):
            with pytest.raises(JobNotWaiting, match=f"is {state}") as caught:
                call(made[state])
            assert (caught.value.job_id, caught.value.state) == (made[state], state)
    with pytest.raises(JobNotFound):
        client.operations.edit(99, priority=1)
    with pytest.raises(InvalidJob, match="nothing is to be changed"):
        client.operations.edit(made["ready"])
    with pytest.raises(InvalidJob):
        client.operations.edit(made["ready"], priority=10)
    assert client.operations.audit() == []


def test_nothing_is_claimed_while_all_is_paused(client: Client) -> None:
    """At once, from every queue, while people may still claim a job by its id."""
    ready = client.enqueue("k").id
    scheduled = client.enqueue("k", queue="slow", delay=HOUR).id
    client.operations.pause(reason="incident", actor="ada")
    pause = client.operations.paused()
    assert pause is not None
    assert (pause.reason, pause.until.year) == ("incident", 9999)
    assert client.claim(["default", "slow"], limit=5) == []
    assert {queue.queue: queue.paused_until is not None for queue in client.stats()} == {
        "default": True, "slow": True,
    }  # fmt: skip
    job = client.operations.claim_one(ready, worker="ada")
    assert (job.id, job.attempt, job.kind) == (ready, 1, "k")
    client.ack(job, result=1)
    late = client.operations.claim_one(scheduled)
    client.release(late)
    assert client.get(scheduled).state is JobState.READY
    assert client.operations.resume(actor="ada")
    assert not client.operations.resume()
    assert client.operations.paused() is None
    assert [job.id for job in client.claim("slow")] == [scheduled]
    with pytest.raises(LeaseLost):
        client.ack(late)
    actions = [entry.action for entry in client.operations.audit()]
    assert actions == ["resume", "resume", "claim", "claim", "pause"]


def test_pause_of_all_ends_by_itself(client: Client, sql: Sql) -> None:
    """And leaves alone queues that are paused one by one."""
    client.enqueue("k")
    client.enqueue("k", queue="slow")
    client.operations.pause("slow")
    client.operations.pause(until=datetime.now(timezone.utc) + HOUR)
    assert client.claim(["default", "slow"], limit=5) == []
    sql("update pgqueue.queue set paused_until = now() where name = '*'")
    assert [job.queue for job in client.claim(["default", "slow"], limit=5)] == ["default"]
    assert client.operations.resume("slow")
    assert [job.queue for job in client.claim(["default", "slow"], limit=5)] == ["slow"]


def test_entries_of_others_can_be_recorded(client: Client, connect: Connect) -> None:
    """In the transaction of what was done; the log is filtered, and paged by id."""
    with connect() as conn:
        client.purge("mail", conn=conn)
        client.operations.record(
            "purge", queue="mail", affected=3, actor="ada", via="cli", detail={"kind": None},
            conn=conn,
        )  # fmt: skip
    client.operations.record("retry", job_ids=[1], actor="bob")
    bob, ada = client.operations.audit()
    assert (ada.queue, ada.affected, ada.via) == ("mail", 3, "cli")
    assert client.operations.audit(actor="ada") == [ada]
    assert client.operations.audit(action="retry") == [bob]
    assert client.operations.audit(before=bob.id) == [ada]
    refused: tuple[dict[str, Any], ...] = (
        {"actor": ""}, {"via": "post"}, {"actor": "x" * 1001},
    )  # fmt: skip
    for wrong in refused:
        with pytest.raises(InvalidJob):
            client.operations.record("retry", **wrong)
    with pytest.raises(InvalidJob, match="use 1 to 32"):
        client.operations.record("Retry!")
