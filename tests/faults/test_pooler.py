"""Worker processes and producers behind PgBouncer in transaction mode, which is killed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults.harness.database import unfinished
from tests.faults.harness.ledger import Ledger, audit
from tests.faults.harness.pooler import MISSING, Pooler, pooler, program
from tests.faults.harness.producers import Producers
from tests.faults.harness.waiting import until
from tests.faults.harness.workers import Workers

from pgqueue import Client

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

KILLS = 3
BETWEEN = 60
"""Jobs accepted before the next kill."""


@pytest.fixture
def mortal(pgqueue_server_dsn: str) -> Iterator[Pooler]:
    """A PgBouncer that no other test needs."""
    if program() is None:
        pytest.skip(MISSING)
    with pooler(pgqueue_server_dsn) as running:
        yield running


def test_nothing_is_lost_behind_a_pooler_that_dies(
    tmp_path: Path, pgqueue_dsn: str, mortal: Pooler
) -> None:
    """Every enqueue that returned is done, once, and the workers live."""
    ledger = Ledger(tmp_path)
    dsn = mortal.through(pgqueue_dsn)
    rng = random.Random(1)  # noqa: S311 - replayable
    with (
        Client(pgqueue_dsn) as client,
        Client(dsn) as behind,
        Workers(tmp_path, dsn, ledger, {"lease": 2.0}) as workers,
    ):
        crew = [workers.start() for _ in range(2)]
        for worker in crew:
            until(lambda w=worker: "polling every" in w.told(), "it polls")  # type: ignore[misc]
        with Producers(behind, ledger, rng, per_second=200.0) as producers:
            for kills in range(KILLS + 1):
                until(lambda n=kills: producers.accepted > BETWEEN * n, "jobs are accepted")  # type: ignore[misc]
                if kills < KILLS:
                    mortal.kill()
                    mortal.start()
        until(lambda: unfinished(client) == 0, "all jobs are done", 60)
        assert workers.end() == [0, 0], [worker.told() for worker in crew]
    report = audit(pgqueue_dsn, ledger)
    assert report.ok, report
    assert report.jobs > BETWEEN * KILLS
