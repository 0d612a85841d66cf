"""Where a client's claims start to look."""

from __future__ import annotations

from typing import Any

from attrs import define
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pgqueue.floors import (
    LANES,
    RESCAN_SECONDS,
    RESCAN_SHARE,
    TRAIL_POSITIONS,
    TRAIL_SECONDS,
    Claiming,
    Floors,
)

BOTTOM = "{" + ",".join(["0"] * LANES) + "}"
UNKNOWN = "{" + ",".join(["NULL"] * LANES) + "}"


@define
class FakeJob:
    """What of a job the floors look at."""

    position: int
    queue: str = "q"
    priority: int = 0


@define
class Clock:
    """A clock that goes when it is told to."""

    now: float = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def claim(
    floors: Floors, *positions: int, cost: float = 0.0, scope: tuple[str, ...] | None = None
) -> Claiming:
    """A claim of queue q that brings the jobs at `positions`."""
    claiming = floors.begin(scope, ["q"])
    clock: Any = floors.clock
    clock.now += cost
    jobs: Any = [FakeJob(position) for position in positions]
    floors.end(claiming, jobs)
    return claiming


def sent(claiming: Claiming) -> int | None:
    """The floor that a claim sent for lane 0 of its queue."""
    assert claiming.floors is not None
    first = claiming.floors[1:-1].split(",")[0]
    return None if first == "NULL" else int(first)


def test_first_claim_goes_by_the_databases_hints() -> None:
    """A new client knows nothing of its own."""
    assert claim(Floors(Clock())).floors is None


def test_unknown_lanes_send_nothing() -> None:
    """The database's hint is used for those that brought no jobs yet."""
    floors = Floors(Clock())
    claim(floors)
    assert claim(floors).floors == UNKNOWN


def test_floor_trails_the_claims() -> None:
    """By a second, so that what is committed late is still above it."""
    clock = Clock()
    floors = Floors(clock)
    claim(floors, 10)
    floors._rescan_at[None] = float("inf")
    assert sent(claim(floors, 20)) == 0
    clock.now += TRAIL_SECONDS
    assert sent(claim(floors, 30)) == 0
    clock.now += TRAIL_SECONDS
    assert sent(claim(floors, 40)) == 20
    clock.now += TRAIL_SECONDS
    assert sent(claim(floors)) == 30


def test_floor_trails_a_fast_client_by_a_number_of_positions() -> None:
    """Within one second a lane may go far; dead entries are left behind all the same."""
    floors = Floors(Clock())
    claim(floors)
    claim(floors, 100_000)
    assert sent(claim(floors)) == 100_000 - TRAIL_POSITIONS


def test_rescan_starts_at_the_very_bottom() -> None:
    """At most once per second while it is cheap."""
    clock = Clock()
    floors = Floors(clock)
    claim(floors, 100_000)
    clock.now += RESCAN_SECONDS
    rescan = claim(floors)
    assert (rescan.rescan, rescan.floors) == (True, BOTTOM)
    assert not claim(floors).rescan
    clock.now += RESCAN_SECONDS
    assert claim(floors).rescan


def test_costly_rescans_are_rare() -> None:
    """They take a thirtieth of the time at most."""
    clock = Clock()
    floors = Floors(clock)
    claim(floors)
    clock.now += RESCAN_SECONDS
    assert claim(floors, cost=2.0).rescan
    clock.now += RESCAN_SHARE * 2.0 - 0.001
    assert not claim(floors).rescan
    clock.now += 0.001
    assert claim(floors).rescan


def test_one_of_several_threads_rescans() -> None:
    """While one is at the bottom, the others go by their floors."""
    clock = Clock()
    floors = Floors(clock)
    claim(floors)
    clock.now += RESCAN_SECONDS
    first = floors.begin(None, ["q"])
    assert first.rescan
    clock.now += RESCAN_SECONDS
    assert not floors.begin(None, ["q"]).rescan
    floors.end(first, [])


def test_failed_rescan_is_made_up_for() -> None:
    """Also if its claim never came back to say so."""
    clock = Clock()
    floors = Floors(clock)
    claim(floors)
    clock.now += RESCAN_SECONDS
    floors.begin(None, ["q"])
    clock.now += 60
    assert claim(floors).rescan


def test_lane_starts_anew_where_a_rescan_found_jobs_below_its_floor() -> None:
    """There may be more of them than one claim brings; one that is above its floor keeps it."""
    clock = Clock()
    floors = Floors(clock)
    claim(floors)
    claim(floors, 100_000)
    clock.now += RESCAN_SECONDS
    assert claim(floors, 99_000).rescan
    assert sent(claim(floors)) == 100_000 - TRAIL_POSITIONS
    clock.now += RESCAN_SECONDS
    assert claim(floors, 30_000, 30_001).rescan
    assert sent(claim(floors, 30_002)) == 30_001 - TRAIL_POSITIONS
    claim(floors, 100_001)
    assert sent(claim(floors)) == 100_001 - TRAIL_POSITIONS


def test_each_set_of_kinds_has_floors_of_its_own() -> None:
    """A job that one claim passed over because of its kind is not below another's floor."""
    floors = Floors(Clock())
    claim(floors, scope=("a",))
    claim(floors, scope=None)
    claim(floors, 100_000, scope=("a",))
    assert sent(claim(floors, scope=("a",))) == 100_000 - TRAIL_POSITIONS
    assert sent(claim(floors, scope=None)) is None


def test_floors_of_several_queues_come_in_their_order() -> None:
    """Ten for each."""
    floors = Floors(Clock())
    floors.begin(None, ["q", "r"])
    jobs: Any = [FakeJob(5_000, "r", 3), FakeJob(7_000, "q", 9)]
    floors.end(Claiming(None, ["q", "r"], None, rescan=False, started=0), jobs)
    text = floors.begin(None, ["q", "r"]).floors
    assert text is not None
    numbers = text[1:-1].split(",")
    known = {place: int(number) for place, number in enumerate(numbers) if number != "NULL"}
    assert known == {9: 7_000 - TRAIL_POSITIONS, LANES + 3: 5_000 - TRAIL_POSITIONS}
    assert len(numbers) == 2 * LANES


class Lane(RuleBasedStateMachine):
    """One lane with jobs that turn up anywhere, and a client that claims from its floors."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.floors = Floors(self.clock)
        self.next = 0
        self.ready: set[int] = set()
        self.costs: list[tuple[float, float]] = []

    @rule(count=st.integers(1, 5_000))
    def enqueue(self, count: int) -> None:
        """Jobs at the end of the lane."""
        self.ready.update(range(self.next + 1, self.next + count + 1, max(1, count // 5)))
        self.next += count

    @rule(share=st.floats(0, 1))
    def put_back(self, share: float) -> None:
        """A job anywhere below the end: committed late, released or rolled back."""
        self.ready.add(int(self.next * share))

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds: float) -> None:
        """Time goes by."""
        self.clock.now += seconds

    @rule(limit=st.integers(1, 10), cost=st.floats(0, 0.5))
    def claim_some(self, limit: int, cost: float) -> None:
        """The lowest jobs above the floor."""
        claiming = self.floors.begin(None, ["q"])
        started = self.clock.now
        floor = 0 if claiming.floors is None else sent(claiming) or 0
        self.clock.now += cost
        found = sorted(position for position in self.ready if position >= floor)[:limit]
        self.ready.difference_update(found)
        jobs: Any = [FakeJob(position) for position in found]
        self.floors.end(claiming, jobs)
        if claiming.rescan:
            self.costs.append((started, cost))

    @invariant()
    def rescans_take_little_time(self) -> None:
        """Between one's end and the next one's start lie thirty times its cost, and a second."""
        for (before, cost), (after, _) in zip(self.costs, self.costs[1:], strict=False):
            assert after - before - cost >= max(RESCAN_SECONDS, RESCAN_SHARE * cost) - 1e-6

    def teardown(self) -> None:
        """No job is forgotten for ever: claims go on for a while, and the lane is empty."""
        for _ in range(200):
            if not self.ready:
                return
            self.clock.now += 1.0
            self.claim_some(limit=10, cost=0.01)
        assert not self.ready


Lane.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_lane_forgets_no_job = Lane.TestCase
