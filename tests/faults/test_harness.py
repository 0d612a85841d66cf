"""The harness itself: what an audit has to find, and what it has to let pass."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from pathlib import Path
from threading import Barrier

import attrs
import pytest
from rich.console import Console
from tests.faults.harness.ledger import Ledger, audit
from tests.faults.harness.report import Promise, Report, Result, as_data, percentile, show
from tests.faults.harness.run import Run, Scenario, Stage
from tests.faults.harness.waiting import TooLate, until
from tests.faults.harness.workers import FaultMissed, Workers

from pgqueue import Client, Job
from pgqueue.testing.databases import Databases

LEASE = timedelta(seconds=30)


@attrs.frozen
class Play:
    """Jobs that are run by hand, as a worker would."""

    client: Client
    ledger: Ledger

    def enqueue(self) -> int:
        """A job that was accepted."""
        job = self.client.enqueue("k").id
        self.ledger.accepted([job])
        return job

    def start(self) -> Job[object]:
        """Claims a job and starts it."""
        (job,) = self.client.claim(lease=LEASE)
        self.ledger.started(job)
        return job

    def finish(self, job: Job[object]) -> None:
        """Ends it well."""
        self.ledger.finished(job)
        self.client.ack(job)
        self.ledger.acked(job.id, job.token)

    def account(self) -> Report:
        """The audit."""
        return audit(self.client.dsn, self.ledger)


@pytest.fixture
def play(pgqueue_client: Client, tmp_path: Path) -> Play:
    """A play in an empty queue."""
    return Play(pgqueue_client, Ledger(tmp_path))


def test_audit_of_a_job_that_went_well(play: Play) -> None:
    """Nothing to complain of."""
    play.enqueue()
    play.finish(play.start())
    report = play.account()
    assert report == Report(jobs=1)
    assert report.ok


def _not_finished(play: Play) -> None:
    play.start()


def _row_gone(play: Play) -> None:
    play.finish(play.start())
    with play.client.driver.connection() as conn:
        conn.execute("delete from pgqueue.archive")


def _acked_unrun(play: Play) -> None:
    (job,) = play.client.claim()
    play.client.ack(job)


def _dead(play: Play) -> None:
    job = play.start()
    play.client.cancel(job.id)
    play.client.cancel_claimed(job)


@pytest.mark.parametrize("how", [_not_finished, _row_gone, _acked_unrun, _dead])
def test_audit_finds_a_lost_job(play: Play, how: Callable[[Play], None]) -> None:
    """It never ended, its row is gone, nobody ran it, or it ended in another way."""
    play.enqueue()
    how(play)
    report = play.account()
    assert report.lost == 1
    assert not report.ok


def test_audit_finds_two_acks(play: Play) -> None:
    """Of two claims, that is; a repeated one is harmless."""
    job = play.enqueue()
    claimed = play.start()
    play.finish(claimed)
    play.finish(claimed)
    assert play.account().double_acked == 0
    play.ledger.acked(job, claimed.token + 1)
    assert play.account().double_acked == 1


def test_audit_finds_a_job_with_two_rows(play: Play) -> None:
    """In the archive twice."""
    play.enqueue()
    play.finish(play.start())
    with play.client.driver.connection() as conn:
        conn.execute("insert into pgqueue.archive select * from pgqueue.archive")
    assert play.account().double_acked == 1


def test_audit_finds_overlapping_leases(play: Play) -> None:
    """The second claim came while the first one's lease bound others."""
    play.enqueue()
    first = play.start()
    with play.client.driver.connection() as conn:
        conn.execute("update pgqueue.job set lease_until = null")
    play.finish(play.start())
    report = play.account()
    assert (report.overlapping, report.re_executed) == (1, 1)
    play.ledger.ended(first.id, first.token)
    assert play.account().overlapping == 0


def _expire(play: Play) -> None:
    """Ends the lease of the job that is claimed, without a backoff."""
    with play.client.driver.connection() as conn:
        conn.execute(
            "update pgqueue.job set lease_until = '2020-01-01', "
            "backoff = jsonb_build_object('base', 0, 'cap', 0)"
        )
        conn.execute("select pgqueue.reap()")


@pytest.mark.parametrize("ahead", [False, True], ids=["started", "claimed ahead"])
def test_recovery_is_from_the_end_of_the_process_to_the_next_start(
    play: Play,
    ahead: bool,  # noqa: FBT001
) -> None:
    """Of what it ran, and of what it had only claimed."""
    play.enqueue()
    (job,) = play.client.claim(lease=LEASE, worker=f"host:{os.getpid()}:1")
    if not ahead:
        play.ledger.started(job)
    play.ledger.gone(os.getpid())
    assert play.account().recovery == []
    _expire(play)
    assert play.start().attempt == 2
    (seconds,) = play.account().recovery
    assert 0 < seconds < 30


def test_recovery_of_a_process_that_is_stopped_twice(play: Play) -> None:
    """From the last time before the next start."""
    play.enqueue()
    play.client.claim(lease=LEASE, worker=f"host:{os.getpid()}:1")
    play.ledger.gone(os.getpid())
    play.ledger.gone(os.getpid())
    _expire(play)
    play.start()
    play.ledger.gone(os.getpid())
    *_, last_but_one, start, _ = play.ledger.read().entries
    assert play.account().recovery == [start.at - last_but_one.at]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of threads, of others
def test_each_process_has_a_file_of_its_own(tmp_path: Path) -> None:
    """Also one that was forked with a ledger in use."""
    ledger = Ledger(tmp_path)
    ledger.accepted([1])
    pid = os.fork()
    if pid == 0:
        ledger.accepted([2])
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert ledger.read().jobs("accepted") == {1, 2}
    assert len(list(tmp_path.iterdir())) == 2


def test_threads_share_a_file(tmp_path: Path) -> None:
    """From the first line on, which all of them may write at once."""
    ledger, count = Ledger(tmp_path), 8
    barrier = Barrier(count)

    def write(job: int) -> None:
        barrier.wait(10)
        ledger.accepted([job])

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(write, range(count)))
    assert ledger.read().jobs("accepted") == set(range(count))


@pytest.mark.parametrize("value, holds", [(1, True), (2, True), (3, False), (math.nan, False)])
def test_promise_holds_up_to_its_limit(value: float, holds: bool) -> None:  # noqa: FBT001
    """A figure that could not be taken is a promise that was not kept."""
    assert Promise("x", value, 2).holds is holds
    report = Report()
    report.promise("x", value, 2)
    assert report.ok is holds


def test_percentile_is_one_of_the_values() -> None:
    """By the nearest rank."""
    assert percentile([3, 1, 2], 50) == 2
    assert percentile([float(n) for n in range(1, 101)], 99) == 99
    assert percentile([5], 99) == 5
    assert math.isnan(percentile([], 50))


def test_until_says_what_did_not_come() -> None:
    """Within its time."""
    assert until(lambda: "it", "x", 0.1) == "it"
    with pytest.raises(TooLate, match="the moon"):
        until(lambda: None, "the moon", 0.02)


def _scenario(run: Callable[[Run], Report]) -> Scenario:
    return Scenario("name", "A title", run, (2,))


@pytest.fixture
def stage(
    _pgqueue_databases: Databases,
    pgqueue_template: str,
) -> Stage:
    """A stage for the fast profile."""
    return Stage(_pgqueue_databases, pgqueue_template, full=False, seed=7)


def test_scenario_gets_a_database_and_chances_that_can_be_had_again(stage: Stage) -> None:
    """A migrated database, an empty folder, and the same random numbers for the same seed."""
    numbers: list[float] = []

    def run(run: Run) -> Report:
        with Client(run.dsn()) as client:
            assert client.enqueue("k").id > 0
        assert list(run.folder.iterdir()) == []
        assert run.count(1, 2) == 1
        run.tell(1, 1)
        numbers.append(run.rng.random())
        return Report(faults=1)

    assert [stage.play(_scenario(run)).faults for _ in range(2)] == [1, 1]
    assert numbers[0] == numbers[1]


def test_error_of_a_scenario_is_a_result(stage: Stage) -> None:
    """The others go on; it counts as failed, and says why."""

    def run(_: Run) -> Report:
        raise FaultMissed("nothing was hit")

    result = stage.result(_scenario(run), lambda _done, _total: None)
    assert not result.ok
    assert "nothing was hit" in str(result.error)


def test_results_are_shown_and_written() -> None:
    """Everything is in the table and the JSON, also of what found nothing or failed."""
    good = Report(faults=3, jobs=1234, recovery=[1.0, 2.0], notes=["a note"])
    good.promise("recovery", good.percentile(99), 3)
    bad = Report(lost=1)
    bad.promise("nothing", math.nan, 3)
    results = [
        Result("good", "Goes well", (2,), good, 1.5),
        Result("bad", "Goes badly", (), bad, 0.5),
        Result("worse", "Fails", (), Report(), 0.5, "Traceback [of it]"),
    ]
    about = {"seed": 7}
    data = json.loads(json.dumps(as_data(about, results), allow_nan=False))
    assert data["about"] == about
    assert [scenario["ok"] for scenario in data["scenarios"]] == [True, False, False]
    assert data["scenarios"][1]["report"]["promises"] == [
        {"what": "nothing", "value": None, "limit": 3, "holds": False}
    ]
    assert data["scenarios"][0]["report"]["recovery"] == {
        "count": 2, "p50": 1.0, "p99": 2.0, "max": 2.0,
    }  # fmt: skip
    shown = StringIO()
    show(Console(file=shown, width=120), about, results)
    for text in (
        "1,234",
        "seed  7",
        "a note",
        "recovery: 2 <= 3",
        "Traceback [of it]",
        "Goes badly",
    ):
        assert text in shown.getvalue()


def test_worker_that_had_ended_is_no_fault(tmp_path: Path, pgqueue_dsn: str) -> None:
    """To kill or stop it again would count what hit nothing."""
    with Workers(tmp_path, pgqueue_dsn, Ledger(tmp_path), {"lease": "no number"}) as workers:
        worker = workers.start()
        assert worker.wait() == 2
        assert workers.fallen == [worker]
        for fault in (worker.kill, worker.stop, worker.terminate):
            with pytest.raises(FaultMissed, match="invalid float value"):
                fault()
        assert worker.bury() == 2
        assert workers.fallen == []
