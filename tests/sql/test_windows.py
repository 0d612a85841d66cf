"""Slots in daily windows, beside those that are found by looking at the clock minute by minute."""

from __future__ import annotations

from datetime import datetime, time, timedelta, timezone
from typing import TYPE_CHECKING

import attrs
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from .test_schedules import slots

if TYPE_CHECKING:
    from .conftest import Db

UTC = timezone.utc
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
AROUND = 3 * DAY
"""Before and after a change of clocks."""
CHANGES = [
    ("Europe/Berlin", "2026-03-29T01:00Z"),
    ("Europe/Berlin", "2026-10-25T01:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T15:00Z"),  # by half an hour
    ("Australia/Lord_Howe", "2026-10-03T15:30Z"),
    ("America/Havana", "2026-03-08T05:00Z"),  # the day begins at 1:00
    ("America/Havana", "2026-11-01T05:00Z"),
    ("America/St_Johns", "2010-03-14T03:31Z"),
    ("America/St_Johns", "2010-11-07T02:31Z"),  # from 0:01 back into the day before
    ("Pacific/Apia", "2011-12-30T10:00Z"),  # a day is left out
    ("Antarctica/Troll", "2026-10-25T01:00Z"),  # by two hours
    ("Africa/Cairo", "2026-04-23T22:00Z"),
    ("Africa/Cairo", "2026-10-29T21:00Z"),
    ("America/Sao_Paulo", "2018-02-18T02:00Z"),
    ("America/Sao_Paulo", "2018-11-04T03:00Z"),
]
CRONS = [
    "*/10 * * * *", "0 * * * *", "30 2 * * *", "15,45 0-3 * * *", "*/20 2 * * *", "5 */2 * * *",
    "0 0 * * *", "59 23 * * *",
]  # fmt: skip
MANY = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@attrs.frozen
class Walls:
    """What clocks show, minute by minute, by the database's own tables."""

    zone: str
    first: datetime
    walls: list[datetime]

    @classmethod
    def of(cls, db: Db, zone: str, change: str) -> Walls:
        """Some days before and after a change."""
        first = datetime.fromisoformat(change.replace("Z", "+00:00")) - AROUND
        minutes = [first + n * MINUTE for n in range(2 * AROUND // MINUTE)]
        rows = db.rows("select t at time zone %s from unnest(%s::timestamptz[]) t", zone, minutes)
        return cls(zone, first, [wall for (wall,) in rows])

    def window(self, minutes: tuple[int, int]) -> tuple[time, time]:
        """One that opens and closes so many minutes from what clocks show as they change."""
        before = self.walls[AROUND // MINUTE - 1] + MINUTE
        opens, closes = minutes
        return (before + opens * MINUTE).time(), (before + closes * MINUTE).time()

    def when(self, wall: datetime) -> datetime:
        """The first minute at which clocks show as much, or have jumped over it."""
        number = next((n for n, each in enumerate(self.walls) if each >= wall), len(self.walls))
        return self.first + number * MINUTE

    def windows(self, opens: time, closes: time) -> list[tuple[datetime, datetime]]:
        """From when to when they last."""
        day = datetime.combine(self.walls[0], time())
        longer = DAY if opens > closes else timedelta(0)
        days = [day + n * DAY for n in range(-1, 2 * AROUND // DAY + 2)]
        return [
            (self.when(datetime.combine(each, opens)),
             self.when(datetime.combine(each, closes) + longer))
            for each in days
        ]  # fmt: skip


_SEEN: dict[tuple[str, str], Walls] = {}


def walls_of(db: Db, change: tuple[str, str]) -> Walls:
    """Asked for once: every database has the same."""
    if change not in _SEEN:
        _SEEN[change] = Walls.of(db, *change)
    return _SEEN[change]


@st.composite
def scenes(draw: st.DrawFn) -> tuple[tuple[str, str], tuple[int, int], timedelta]:
    """A change of clocks, a window by minutes from it, and from when on slots are wanted."""
    near = st.one_of(st.integers(-9, 9).map(lambda n: 10 * n), st.integers(-720, 719))
    opens, closes = draw(near), draw(near)
    assume((opens - closes) % 1440)
    after = timedelta(seconds=draw(st.integers(-20 * 3600, 3 * 3600)))
    return draw(st.sampled_from(CHANGES)), (opens, closes), after


def compared(walls: Walls, after: datetime) -> datetime:
    """Until when: what comes later is not in the table."""
    return min(after + DAY, walls.first + 2 * AROUND - DAY)


@pytest.mark.slow
@MANY
@given(
    scene=scenes(),
    minutes=st.one_of(st.sampled_from([10, 20, 60, 1440]), st.integers(7, 1440)),
)
def test_intervals_are_those_that_the_clock_shows(
    db: Db, scene: tuple[tuple[str, str], tuple[int, int], timedelta], minutes: int
) -> None:
    """Whatever the window, and whatever clocks do in it, from wherever one looks."""
    walls = walls_of(db, scene[0])
    window, after = walls.window(scene[1]), walls.first + AROUND + scene[2]
    until = compared(walls, after)
    expected = sorted(
        opens + n * minutes * MINUTE
        for opens, closes in walls.windows(*window)
        for n in range(1441)
        if opens + n * minutes * MINUTE < closes
        and after < opens + n * minutes * MINUTE < until
    )[:12]  # fmt: skip
    found = slots(
        db, after, len(expected) + 1, every=f"{minutes} min", timezone=walls.zone,
        window_start=str(window[0]), window_end=str(window[1]),
        starts_at="2000-01-01T00:00:00Z", ends_at=until.isoformat(),
    )  # fmt: skip
    assert found[: len(expected)] == expected
    assert len(found) == len(expected) or len(expected) == 12


@pytest.mark.slow
@MANY
@given(scene=scenes(), cron=st.sampled_from(CRONS))
def test_cron_in_a_window_is_cron_without_what_is_outside(
    db: Db, scene: tuple[tuple[str, str], tuple[int, int], timedelta], cron: str
) -> None:
    """None is passed over on the way from one window to the next."""
    walls = walls_of(db, scene[0])
    window, after = walls.window(scene[1]), walls.first + AROUND + scene[2]
    given = {
        "cron": cron, "timezone": walls.zone, "starts_at": "2000-01-01T00:00:00Z",
        "ends_at": compared(walls, after).isoformat(),
    }  # fmt: skip
    windows = walls.windows(*window)
    expected = [
        slot for slot in slots(db, after, 200, **given)
        if any(opens <= slot < closes for opens, closes in windows)
    ]  # fmt: skip
    assume(expected)
    given |= {"window_start": str(window[0]), "window_end": str(window[1])}
    assert slots(db, after, len(expected) + 1, **given) == expected
