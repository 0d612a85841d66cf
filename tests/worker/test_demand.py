"""How many jobs a pool is given."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from pgqueue.worker.demand import AHEAD_SECONDS, LARGEST_CLAIM, MOST_AHEAD, STUCK_SECONDS, Demand


@attrs.define
class Clock:
    """Stands still until it is moved."""

    now: float = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now


@attrs.define
class Kind:
    """As much of a kind as matters."""

    batch: int | None = None


@attrs.define
class Pool:
    """As much of a pool as matters."""

    size: int = 10
    busy: int = 0
    waiting: int = 0
    finished: int = 0
    kinds: tuple[Kind, ...] = (Kind(),)


def make(prefetch: int | None = None, **pool: Any) -> tuple[Demand, Pool, Clock]:
    """A demand with its pool and its clock."""
    made, clock = Pool(**pool), Clock()
    return Demand(made, prefetch, clock), made, clock  # type: ignore[arg-type]


def test_slow_jobs_are_left_to_others() -> None:
    """Without a rate only free consumers are supplied."""
    demand, pool, _ = make(size=1)
    assert demand.room() == 1
    pool.busy = 1
    assert demand.room() == 0


def test_fast_jobs_are_claimed_ahead_for_a_tenth_of_a_second() -> None:
    """The buffer follows the rate at once upwards."""
    demand, pool, clock = make(size=10, busy=10)
    clock.now, pool.finished = 1.0, 1_000
    assert demand.room() == 1_000 * AHEAD_SECONDS
    pool.waiting = 50
    assert demand.room() == 50
    pool.waiting = 51
    assert (demand.room(), demand.low) == (0, 50)


def test_rate_forgets_a_burst() -> None:
    """It falls by and by when jobs get slow."""
    demand, pool, clock = make(size=1, busy=1)
    clock.now, pool.finished = 0.1, 1_000
    assert demand.room() == LARGEST_CLAIM
    for _ in range(40):
        clock.now += 0.1
        demand.room()
    assert demand.room() == 0


def test_nobody_hoards_more_than_the_limit() -> None:
    """However fast they are."""
    demand, pool, clock = make(size=1)
    clock.now, pool.finished = 1.0, 10**6
    assert demand.room() == LARGEST_CLAIM
    pool.waiting = MOST_AHEAD // 2
    assert demand.room() == LARGEST_CLAIM
    pool.waiting += 1
    assert demand.room() == 0


@pytest.mark.parametrize(
    "prefetch, waiting, expected", [(0, 0, 4), (0, 1, 0), (6, 3, 7), (6, 4, 0)]
)
def test_given_prefetch_overrides_the_rate(prefetch: int, waiting: int, expected: int) -> None:
    """Zero holds none ready; a number holds so many."""
    demand, _, _ = make(prefetch, size=10, busy=6, waiting=waiting)
    assert demand.room() == expected


def test_batches_are_counted_as_units() -> None:
    """Kinds that are all batches fill their calls; a mix counts the smallest."""
    demand, pool, _ = make(size=2, kinds=(Kind(50), Kind(20)))
    assert demand.room() == 40
    pool.busy = 1
    assert demand.room() == 20
    assert make(size=2, kinds=(Kind(50), Kind(None)))[0].room() == 2


def test_jobs_behind_slow_ones_are_given_back() -> None:
    """When nothing has ended for a second; the rate starts from nothing again."""
    demand, pool, clock = make(size=1, busy=1)
    clock.now, pool.finished = 0.1, 100
    assert demand.room() > 0
    pool.waiting = 60
    clock.now += STUCK_SECONDS / 2
    assert not demand.stuck()
    clock.now += STUCK_SECONDS
    assert demand.stuck()
    pool.waiting = 0
    assert not demand.stuck()
    assert demand.room() == 0


def test_given_prefetch_is_never_given_back() -> None:
    """Who asks for it gets it."""
    demand, _, clock = make(5, busy=10, waiting=5)
    clock.now = 10 * STUCK_SECONDS
    assert not demand.stuck()
