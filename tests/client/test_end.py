"""End a claim: ack, fail, skip, snooze, release, and extend it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest

import pgqueue
from pgqueue import Client, Job, JobState, LeaseLost
from pgqueue.testing import travel

MINUTE = timedelta(minutes=1)


def ack(client: Client, job: Any) -> None:
    """Ends well."""
    client.ack(job)


def fail(client: Client, job: Any) -> None:
    """Ends badly."""
    client.fail(job, "reason")


def skip(client: Client, job: Any) -> None:
    """Ends without having done anything."""
    client.skip(job, "reason")


def cancel(client: Client, job: Any) -> None:
    """Ends for good, without success."""
    client.cancel_claimed(job, "reason")


def snooze(client: Client, job: Any) -> None:
    """Puts off."""
    client.snooze(job, MINUTE)


def release(client: Client, job: Any) -> None:
    """Gives back."""
    client.release(job)


def extend(client: Client, job: Any) -> None:
    """Goes on."""
    client.extend(job)


ENDINGS = [ack, fail, skip, cancel, snooze, release]
endings = pytest.mark.parametrize("end", ENDINGS)
operations = pytest.mark.parametrize("end", [*ENDINGS, extend])
End = Callable[[Client, Any], None]


def take(client: Client, count: int = 1) -> list[Job[Any]]:
    """So many fresh claims."""
    client.enqueue_many([("a", n) for n in range(count)])
    return client.claim(limit=count)


# One ending each


def test_acked_job_has_succeeded(client: Client) -> None:
    """It is kept, with its result, and does not run again."""
    (job,) = take(client)
    client.ack(job, result={"sent": [1, None]})
    seen = client.get(job.id)
    assert (seen.state, seen.result, seen.history) == (JobState.SUCCEEDED, {"sent": [1, None]}, ())
    assert seen.finished_at is not None
    assert client.claim() == []


def test_results_go_to_their_jobs(client: Client) -> None:
    """In the order of the jobs that are given, not that of their ids."""
    jobs = take(client, 3)
    client.ack(jobs[::-1], results=["c", None, 0])
    assert [client.get(job.id).result for job in jobs] == [0, None, "c"]


def test_one_result_may_be_that_of_all(client: Client) -> None:
    """It is kept with each."""
    jobs = take(client, 2)
    client.ack(jobs, result=False)
    assert [client.get(job.id).result for job in jobs] == [False, False]


def test_results_must_be_as_many_as_jobs(client: Client) -> None:
    """Else nothing is acked, since nobody knows which is whose."""
    jobs = take(client, 2)
    for results in ([], [1], [1, 2, 3]):
        with pytest.raises(pgqueue.InvalidJob, match="for 2 jobs"):
            client.ack(jobs, results=results)
    client.ack(jobs, results=[1, 2])


def test_result_that_is_no_json_acks_nothing(client: Client) -> None:
    """The jobs can still be acked, or failed."""
    jobs = take(client, 2)
    for bad in (object(), "\0", float("inf")):
        with pytest.raises(pgqueue.PayloadError):
            client.ack(jobs, results=[1, bad])  # type: ignore[list-item] # that is the point
    client.ack(jobs)


def test_failed_job_waits_and_runs_again(client: Client) -> None:
    """After its backoff, with the error in its history."""
    (job,) = take(client)
    with pytest.raises(ValueError, match="no such address") as caught:
        raise ValueError("no such address \0 \ud800")
    client.fail(job, caught.value, retry_in=MINUTE)
    seen = client.get(job.id)
    (attempt,) = seen.history
    assert (seen.state, attempt.outcome, attempt.attempt) == (JobState.SCHEDULED, "failed", 1)
    assert (attempt.error_class, attempt.error) == ("ValueError", "no such address ␀ ?")
    assert "raise ValueError" in str(attempt.traceback)
    travel(client, MINUTE)
    client.maintain()
    assert client.claim()[0].attempt == 2


def test_fail_with_no_delay_is_ready_at_once(client: Client) -> None:
    """A delay of zero needs no maintenance."""
    (job,) = take(client)
    client.fail(job, retry_in=timedelta(0))
    assert client.claim()[0].id == job.id


def test_failed_job_is_dead_when_its_attempts_are_used_up(client: Client) -> None:
    """It is kept, with all its errors."""
    job_id = client.enqueue("a", max_attempts=2).id
    client.fail(client.claim(), "one", retry_in=timedelta(0))
    client.fail(client.claim(), "two", retry_in=timedelta(0))
    seen = client.get(job_id)
    assert (seen.state, seen.attempt) == (JobState.DEAD, 2)
    assert [attempt.error for attempt in seen.history] == ["one", "two"]
    assert client.claim() == []


@pytest.mark.parametrize("size", [10, 200_000_000])
def test_error_of_any_size_is_recorded(client: Client, size: int) -> None:
    """What is too long is cut: recording an error must not fail."""
    jobs = take(client, 2)
    client.fail(jobs[0], "x" * size)
    client.fail(jobs[1], ValueError("ä" * size))
    for job in jobs:
        error = client.get(job.id).history[0].error
        assert error is not None
        assert len(error) == min(size, 1000)


def test_error_without_words_is_recorded(client: Client) -> None:
    """An exception whose __str__ fails is one like others."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    (job,) = take(client)
    client.fail(job, Mute())
    assert client.get(job.id).history[0].error == "<its __str__ failed>"


def test_skipped_job_is_finished_with_its_reason(client: Client) -> None:
    """It counts neither as done nor as dead."""
    (job,) = take(client)
    client.skip(job, "user is gone \0")
    seen = client.get(job.id)
    assert (seen.state, seen.history[-1].error) == (JobState.SKIPPED, "user is gone ␀")


def test_cancelled_claim_is_finished_with_its_reason(client: Client) -> None:
    """Nobody asked for it: whoever holds the job says that it cannot succeed."""
    (job,) = take(client)
    client.cancel_claimed(job, "no such user \0")
    seen = client.get(job.id)
    assert (seen.state, seen.history[-1].error) == (JobState.CANCELLED, "no such user ␀")


def test_snoozed_job_does_not_use_up_attempts(client: Client) -> None:
    """It may be put off more often than it has attempts."""
    client.enqueue("a", max_attempts=1)
    for _ in range(3):
        (job,) = client.claim()
        assert job.attempt == 1
        client.snooze(job, timedelta(0))
    client.snooze(client.claim(), MINUTE)
    assert client.claim() == []
    travel(client, MINUTE)
    client.maintain()
    assert client.claim()[0].attempt == 1


def test_released_job_keeps_its_place(client: Client) -> None:
    """It is ready at once, before those that came later, and the attempt is not counted."""
    jobs = take(client, 3)
    client.release(jobs)
    again = client.claim(limit=3)
    assert [(job.id, job.attempt) for job in again] == [(job.id, 1) for job in jobs]


def test_extended_lease_counts_from_now(client: Client) -> None:
    """The job is ours for so long from the renewal on, and nobody asked it to stop."""
    jobs = take(client, 2)
    travel(client, timedelta(seconds=20))
    assert client.extend(jobs, timedelta(hours=1)) == {job.id: False for job in jobs}
    travel(client, timedelta(minutes=59))
    client.maintain()
    client.ack(jobs)


def test_extend_says_that_cancellation_was_asked_for(client: Client) -> None:
    """By id, for those that should stop."""
    one, two = take(client, 2)
    client.cancel(two.id)
    assert client.extend([one, two]) == {one.id: False, two.id: True}


# Lost leases


@operations
def test_zombie_is_refused(client: Client, end: End) -> None:
    """Whose job was claimed again changes nothing, and is told so."""
    (old,) = take(client)
    travel(client, MINUTE)
    client.maintain()
    travel(client, MINUTE)
    client.maintain()
    (new,) = client.claim()
    before = client.get(old.id)
    with pytest.raises(LeaseLost) as caught:
        end(client, old)
    assert caught.value.job_ids == (old.id,)
    assert client.get(old.id) == before
    client.ack(new)


@operations
def test_expired_and_reaped_claim_is_refused(client: Client, end: End) -> None:
    """Nobody has claimed the job since, but it waits for its next attempt: ours is over."""
    (job,) = take(client)
    travel(client, MINUTE)
    client.maintain()
    with pytest.raises(LeaseLost):
        end(client, job)


@operations
def test_late_claim_that_nobody_took_is_still_ours(client: Client, end: End) -> None:
    """The lease is over, but no reaper came by: nothing is lost by accepting it."""
    (job,) = take(client)
    travel(client, MINUTE)
    end(client, job)


@operations
def test_those_still_ours_are_ended_all_the_same(client: Client, end: End) -> None:
    """LeaseLost names the others, and only these."""
    jobs = take(client, 5)
    gone = [jobs[1], jobs[3]]
    client.release(gone)
    client.claim(limit=2)
    with pytest.raises(LeaseLost) as caught:
        end(client, jobs)
    assert sorted(caught.value.job_ids) == [job.id for job in gone]
    state = client.get(jobs[0].id).state
    assert [client.get(job.id).state for job in jobs[::2]] == [state] * 3
    assert (state is JobState.CLAIMED) == (end is extend)


@endings
def test_repeating_ones_own_ending_is_harmless(client: Client, end: End) -> None:
    """A caller that did not see the answer may call again; the second time changes nothing."""
    jobs = take(client, 2)
    end(client, jobs)
    before = [client.get(job.id) for job in jobs]
    end(client, jobs)
    assert [client.get(job.id) for job in jobs] == before


def test_the_same_job_twice_in_one_call_is_one(client: Client) -> None:
    """Duplicates in the list are no lost leases."""
    for end in ENDINGS:
        (job,) = take(client)
        end(client, [job, job])
        client.purge("default")


def test_another_ending_after_an_ack_is_refused(client: Client) -> None:
    """What has succeeded cannot fail."""
    (job,) = take(client)
    client.ack(job)
    for end in (*ENDINGS[1:], extend):
        with pytest.raises(LeaseLost):
            end(client, job)
    assert client.get(job.id).state is JobState.SUCCEEDED


@operations
def test_no_jobs_are_no_work(client: Client, end: End) -> None:
    """An empty list is fine."""
    end(client, [])


# In the caller's transaction


@endings
def test_ending_that_is_rolled_back_did_not_happen(
    client: Client, connect: Callable[..., psycopg.Connection[Any]], end: End
) -> None:
    """The job is still claimed, and can be ended again."""
    (job,) = take(client)
    conn = connect()
    calls: dict[End, Callable[[], None]] = {
        ack: lambda: client.ack(job, conn=conn),
        fail: lambda: client.fail(job, conn=conn),
        skip: lambda: client.skip(job, conn=conn),
        cancel: lambda: client.cancel_claimed(job, conn=conn),
        snooze: lambda: client.snooze(job, MINUTE, conn=conn),
        release: lambda: client.release(job, conn=conn),
    }
    calls[end]()
    conn.rollback()
    assert client.get(job.id).state is JobState.CLAIMED
    end(client, job)


def test_handlers_writes_and_ack_are_one(
    client: Client, connect: Callable[..., psycopg.Connection[Any]], sql: Callable[..., Any]
) -> None:
    """Both are there after the commit, with `Job.ack` too."""
    sql("create table effect (n int)")
    jobs = take(client, 2)
    conn = connect()
    for job in jobs:
        with conn.transaction():
            conn.execute("insert into effect values (1)")
            client.ack(job, result=7, conn=conn)
    assert sql("select count(*) from effect") == [(2,)]
    assert [client.get(job.id).result for job in jobs] == [7, 7]


def test_zombies_writes_are_undone(
    client: Client, connect: Callable[..., psycopg.Connection[Any]], sql: Callable[..., Any]
) -> None:
    """LeaseLost leaves the transaction, and takes the handler's writes with it."""
    sql("create table effect (n int)")
    (job,) = take(client)
    client.release(job)
    conn = connect()
    with pytest.raises(LeaseLost), conn.transaction():
        conn.execute("insert into effect values (1)")
        client.ack(job, conn=conn)
    assert sql("select count(*) from effect") == [(0,)]
