"""What a worker counts where finished jobs are not kept."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from pgqueue import Client, Handlers, Job, Skip
from pgqueue.events import Outcome
from pgqueue.operations import total
from pgqueue.worker.runner import Ending
from pgqueue.worker.tally import LAST, SAMPLE, Tally, bucket

from .helpers import Database, drain

NOW = datetime.now(timezone.utc)


def _job(number: int, queue: str = "a") -> Job:
    return Job(
        number, 1, queue, "k", None, 5, 1, 1, NOW - timedelta(seconds=2), NOW, NOW, NOW, 1, None,
        None, None, None,
    )  # fmt: skip


@pytest.fixture
def forgetful(database: Database) -> Iterator[None]:
    """Finished jobs are not kept; the database is the next test's, too."""
    database.query("update setting set retention = '0'")
    yield
    database.query("update setting set retention = '14 days'")
    database.query("delete from minute")


@pytest.mark.usefixtures("forgetful")
def test_worker_counts_what_is_not_kept(
    client: Client, handlers: Handlers, database: Database
) -> None:
    """Each job once, by its end; also what the last minute of a worker has."""

    @handlers.register("good")
    async def good(job: Job) -> None:
        del job

    @handlers.register("skipped")
    def skipped(job: Job) -> Skip:
        del job
        return Skip("on purpose")

    client.enqueue_many([("good", n) for n in range(300)] + [("skipped", n) for n in range(20)])
    drain(client, handlers)
    rows = database.query(
        "select sum(succeeded)::int, sum(skipped)::int, sum(started)::int from minute "
        "where source <> ''"
    )
    assert rows == [(300, 20, 320)]
    found = total(client.operations.history())
    assert found is not None
    assert (found.succeeded, found.skipped) == (300, 20)
    assert found.wait.total > 0


def test_worker_counts_nothing_that_the_upkeep_counts(
    client: Client, handlers: Handlers, database: Database
) -> None:
    """Where finished jobs are kept."""

    @handlers.register("good")
    async def good(job: Job) -> None:
        del job

    client.enqueue_many([("good", n) for n in range(20)])
    drain(client, handlers)
    assert database.query("select count(*) from minute where source <> ''") == [(0,)]


def test_each_ending_counts_once_and_a_sample_is_timed() -> None:
    """Lost ones do not; those that are timed stand for all."""
    tally = Tally()
    endings = [Ending(_job(n), Outcome.SUCCEEDED, duration=0.5) for n in range(SAMPLE * 10)]
    tally.add(endings, {0, 1})
    tally.add([Ending(_job(1), Outcome.FAILED), Ending(_job(2, "b"), Outcome.SKIPPED)], set())
    text = tally.take()
    assert '"succeeded": 198' in text
    assert '"skipped": 1' in text
    assert "failed" not in text
    assert tally.take() == "[]"


@pytest.mark.parametrize("seconds", [-1, 0, 0.0001, 0.0002, 0.003, 0.5, 1, 59.9, 4000, 9e5, 9e9])
def test_buckets_are_those_of_the_database(database: Database, seconds: float) -> None:
    """So that figures of both can be added."""
    ((there,),) = database.query("select _bucket(%s)", timedelta(seconds=min(seconds, 9e8)))
    assert bucket(seconds) == there
    assert 1 <= there <= LAST
