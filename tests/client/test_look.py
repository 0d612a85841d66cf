"""Get, list, stats and wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest

import pgqueue
from pgqueue import Client, JobState, NewJob, QueueStats

MINUTE = timedelta(minutes=1)


def test_get_gives_all_that_is_stored(client: Client) -> None:
    """Before, while and after it runs; times are aware."""
    job_id = client.enqueue("a", {"n": 1}, tags=["t"], metadata={"m": 1}, ref="r").id
    waiting = client.get(job_id)
    assert (waiting.state, waiting.payload, waiting.attempt) == (JobState.READY, {"n": 1}, 0)
    assert (waiting.tags, waiting.metadata, waiting.ref) == (["t"], {"m": 1}, "r")
    assert waiting.enqueued_at.tzinfo is not None
    client.claim(worker="w")
    claimed = client.get(job_id)
    assert (claimed.state, claimed.attempt, claimed.worker) == (JobState.CLAIMED, 1, "w")
    assert claimed.result is None


def test_get_of_an_unknown_job(client: Client) -> None:
    """It says which one."""
    with pytest.raises(pgqueue.JobNotFound, match="no job 12345") as caught:
        client.get(12345)
    assert caught.value.job_id == 12345


def test_history_holds_the_last_twenty_attempts(client: Client) -> None:
    """Older ones are dropped; times are aware, and in order."""
    job_id = client.enqueue("a", max_attempts=30).id
    for n in range(25):
        client.fail(client.claim(worker="w"), f"error {n}", retry_in=timedelta(0))
    history = client.get(job_id).history
    assert [attempt.attempt for attempt in history] == list(range(6, 26))
    assert history[-1].error == "error 24"
    assert history[-1].worker == "w"
    times = [time for attempt in history for time in (attempt.started, attempt.ended)]
    assert times == sorted(time for time in times if time is not None)


@pytest.fixture
def many(client: Client) -> Client:
    """Jobs in all states, in two queues and of two kinds."""
    client.enqueue_many(
        [
            NewJob("succeeded", tags=["x", "y"]),
            NewJob("skipped", ref="r"),
            NewJob("dead", max_attempts=1),
            NewJob("claimed", tags=["y"]),
            NewJob("cancelled", ref="r"),
            NewJob("scheduled", delay=MINUTE, queue="q"),
            NewJob("ready", queue="q", tags=["y"]),
        ]
    )
    client.ack(client.claim(kinds=["succeeded"]))
    client.skip(client.claim(kinds=["skipped"]))
    client.fail(client.claim(kinds=["dead"]))
    client.claim(kinds=["claimed"])
    client.cancel([job.id for job in client.list(kind="cancelled")])
    return client


ORDER = ["ready", "scheduled", "cancelled", "claimed", "dead", "skipped", "succeeded"]


def kinds(jobs: list[pgqueue.JobSummary]) -> list[str]:
    """The kinds of listed jobs."""
    return [job.kind for job in jobs]


def test_list_gives_the_newest_first(many: Client) -> None:
    """All states in one list; each kind here is named as the state it is in."""
    jobs = many.list()
    assert kinds(jobs) == ORDER
    assert [job.state for job in jobs] == ORDER
    assert not hasattr(jobs[0], "payload")


def test_list_filters(many: Client) -> None:
    """By each filter alone, and by all that are given."""
    for state in JobState:
        assert kinds(many.list(state=state)) == [state]
        assert kinds(many.list(state=str(state))) == [state]
    assert kinds(many.list(queue="q")) == ["ready", "scheduled"]
    assert kinds(many.list(kind="dead")) == ["dead"]
    assert kinds(many.list(tag="y")) == ["ready", "claimed", "succeeded"]
    assert kinds(many.list(ref="r")) == ["cancelled", "skipped"]
    assert kinds(many.list(queue="q", tag="y", state="ready")) == ["ready"]
    assert many.list(queue="q", ref="r") == []


def test_list_goes_on_below_the_last_id(many: Client) -> None:
    """Pages neither overlap nor skip, also while jobs are added."""
    seen: list[str] = []
    before = None
    while page := many.list(limit=3, before=before):
        seen += kinds(page)
        before = page[-1].id
        many.enqueue("new")
    assert seen == ORDER


def test_list_refuses_an_unknown_state(client: Client) -> None:
    """The message lists those that there are."""
    with pytest.raises(pgqueue.InvalidJob, match="scheduled, ready, claimed"):
        client.list(state="running")


def test_stats_count_by_queue(many: Client) -> None:
    """One row for each queue that has jobs or is paused."""
    many.pause("paused")
    default, paused, q = many.stats()
    assert default == QueueStats("default", 0, 0, 1, 1, None, None)
    assert (paused.queue, paused.paused_until) == ("paused", paused.paused_until)
    assert paused.paused_until is not None
    assert paused.paused_until.year == 9999
    assert (q.queue, q.ready, q.scheduled, q.claimed, q.dead) == ("q", 1, 1, 0, 0)
    assert q.oldest_wait is not None
    assert timedelta(0) < q.oldest_wait < MINUTE


def test_looks_join_the_callers_transaction(
    client: Client, connect: Callable[..., psycopg.Connection[Any]]
) -> None:
    """They see what is not committed yet."""
    conn = connect()
    job_id = client.enqueue("a", conn=conn).id
    assert client.get(job_id, conn=conn).kind == "a"
    assert kinds(client.list(conn=conn)) == ["a"]
    assert client.stats(conn=conn)[0].ready == 1
    assert client.list() == []


# Wait


def test_wait_gives_the_finished_job(client: Client) -> None:
    """At once if it is finished already, whatever became of it."""
    client.enqueue_many([("a", 1), NewJob("b", max_attempts=1)])
    good, bad = client.claim(limit=2)
    client.ack(good, result=7)
    client.fail(bad)
    assert client.wait(good.id, timeout=timedelta(0)).result == 7
    assert client.wait(bad.id, timeout=timedelta(0)).state is JobState.DEAD


def test_wait_ends_when_the_job_does(client: Client) -> None:
    """Another thread finishes the job in the meantime."""
    job_id = client.enqueue("a").id
    jobs = client.claim()
    timer = threading.Timer(0.1, client.ack, [jobs], {"result": 7})
    timer.start()
    assert client.wait(job_id, timeout=MINUTE).result == 7
    timer.join()


def test_wait_is_over_at_the_timeout(client: Client) -> None:
    """The job goes on; the error is a TimeoutError, too."""
    job_id = client.enqueue("a").id
    with pytest.raises(TimeoutError, match=f"job {job_id} did not finish within 0.02 s") as caught:
        client.wait(job_id, timeout=timedelta(milliseconds=20))
    assert isinstance(caught.value, pgqueue.WaitTimeout)
    assert client.get(job_id).state is JobState.READY


def test_wait_for_an_unknown_job(client: Client) -> None:
    """There is nothing to wait for."""
    with pytest.raises(pgqueue.JobNotFound):
        client.wait(12345, timeout=MINUTE)


def test_wait_for_a_job_that_is_not_kept(client: Client, sql: Callable[..., Any]) -> None:
    """With a retention of zero a finished job is gone."""
    sql("update pgqueue.setting set retention = '0'")
    job_id = client.enqueue("a").id
    client.ack(client.claim())
    with pytest.raises(pgqueue.JobNotFound):
        client.wait(job_id, timeout=MINUTE)
