"""The measures of what must not grow, on few jobs."""

from __future__ import annotations

import psycopg
import pytest
from benchmarks.growth import clients, parts, schedules

from pgqueue import Client


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """As few repeats as make a median."""
    monkeypatch.setattr(parts, "REPEATS", 3)
    monkeypatch.setattr(parts, "SINGLES", 3)


def test_cost_by_depth_is_measured_at_each_depth(pgqueue_dsn: str) -> None:
    """The queue is filled up to each."""
    depths = list(parts.by_depth(pgqueue_dsn, [500, 1_000]))
    assert [depth.ready for depth in depths] == [500, 1_000]
    assert all(depth.claim_us > 0 and depth.enqueue_us > 0 for depth in depths)
    with Client(pgqueue_dsn) as client:
        assert client.stats()[0].ready == 1_000 - 3 * parts.CLAIM + 3


def test_all_that_is_due_is_promoted(pgqueue_dsn: str) -> None:
    """While somebody claims."""
    seconds, longest, wait = parts.promotion(pgqueue_dsn, 500)
    assert 0 < longest <= seconds
    assert wait > 0


def test_claims_are_measured_among_queues_and_kinds(pgqueue_dsn: str) -> None:
    """And alone."""
    assert all(figure > 0 for figure in parts.by_breadth(pgqueue_dsn, 30))


def test_tick_is_measured_alone_and_among_others(
    pgqueue_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are due are fired each time, and no others."""
    monkeypatch.setattr(schedules, "DUE", 20)
    monkeypatch.setattr(schedules, "ROUNDS", 2)
    assert all(figure > 0 for figure in schedules.tick(pgqueue_dsn, 50))
    with Client(pgqueue_dsn) as client:
        assert client.stats()[0].ready == 2 * 20
        assert len(client.schedules.list()) == 70


@pytest.mark.slow
def test_memory_is_that_of_the_processes(pgqueue_dsn: str) -> None:
    """Of a worker that drains, and of the producer before it."""
    early, late, peak = parts.memory(pgqueue_dsn, 20_000)
    assert 10 < early <= late + 50 < 300
    assert 10 < peak < 300


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_clients_enqueue_in_every_scene(pgqueue_dsn: str) -> None:
    """Each way beside the others, and what was left is of the busy workers only."""
    found = clients.by_clients(pgqueue_dsn, seconds=0.2, rounds=1)
    assert len(found) == 4
    assert all(rates.median(way) > 0 for rates in found for way in clients.WAYS)
    with psycopg.connect(pgqueue_dsn) as conn:
        states = {row[0] for row in conn.execute("select state::text from pgqueue.archive")}
    assert states == {"succeeded"}
