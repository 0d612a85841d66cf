"""Cron expressions: what they admit, and when that is next, around every change of clocks."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import attrs
import pytest
from cronsim import CronSim
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from psycopg import errors

if TYPE_CHECKING:
    from .conftest import Db

UTC = timezone.utc
CHAIN = 6
_ZONES = ("UTC", "Europe/Berlin", "America/New_York", "America/Havana", "Asia/Kolkata", "Africa/Casablanca",
          "Australia/Adelaide", "Pacific/Chatham", "America/Santiago", "Asia/Beirut", "Africa/Cairo",
          "America/Nuuk", "Europe/Dublin", "Australia/Lord_Howe")  # fmt: skip
_SLOTS = """
    with recursive slots (n, at) as (
        select 0, %s::timestamptz
        union all
        select n + 1, pgqueue._next_cron(pgqueue._cron(%s), %s, at) from slots where n < %s and at is not null
    )
    select at from slots where n > 0 order by n
"""
# Each change of clocks in two years, once for all zones that change alike.
_CHANGES = """
    with day as (
        select z.name, d.t, extract(epoch from (d.t at time zone z.name) - (d.t at time zone 'UTC')) as before,
            extract(epoch from ((d.t + interval '1 day') at time zone z.name) - ((d.t + interval '1 day') at time zone 'UTC')) as after
        from pg_timezone_names z, generate_series(timestamptz '2026-01-01 00:00Z', '2027-12-31 00:00Z', '1 day') d (t)
        where z.name !~ '^posix/'
    ), change as (
        select array_agg(name order by name) as names, t, before, after from day where before <> after group by t, before, after
    )
    select c.names, min(q.t) as at, c.before::int as before, (c.after - c.before)::int as shift
    from change c, generate_series(c.t, c.t + interval '1 day', '15 minutes') q (t)
    where extract(epoch from (q.t at time zone c.names[1]) - (q.t at time zone 'UTC')) = c.after
    group by 1, 3, 4, c.t order by 2
"""


def _slots(db: Db, expression: str, zone: str, after: datetime, count: int = CHAIN) -> list[Any]:
    return [row[0] for row in db.rows(_SLOTS, after, expression, zone, count)]


@pytest.mark.parametrize(
    "expression, expected",
    [
        ("0 6 * * *", "03-01 06:00"),
        ("*/7 5 * * *", "03-01 05:00"),
        ("5/20 * * * *", "03-01 00:05"),
        ("0 0 29 2 *", "02-29 00:00"),
        ("0 0 3,15 * 5", "03-02 00:00"),
        ("0 0 */2 * fri", "03-09 00:00"),
        ("0 0 * * 7", "03-04 00:00"),
        ("0 0 * JAN-mar SUN", "03-04 00:00"),
        ("30 0 0 * * *", "03-01 00:00"),
        ("@Daily", "03-01 00:00"),
        ("  @monthly ", "03-01 00:00"),
        ("@yearly", "01-01 00:00"),
        ("0 23 31 12 *", "12-31 23:00"),
    ],
)
def test_expression_means_what_crons_does(db: Db, expression: str, expected: str) -> None:
    """The first slot after the last day of February 2029, which is a Wednesday."""
    (slot,) = _slots(db, expression, "UTC", datetime(2029, 2, 28, 23, 59, 59, tzinfo=UTC), 1)
    assert slot.strftime("%m-%d %H:%M") == expected


@pytest.mark.parametrize(
    "expression",
    ["", "*", "* * * *", "* * * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 13 *",
     "* * * * 8", "*/0 * * * *", "5-1 * * * *", "a * * * *", "1,,2 * * * *", "-1 * * * *", "1- * * * *",
     "* * * foo *", "* * L * *", "* * * * 1#2", "@reboot", "1.5 * * * *", "1000 * * * *", "* * ? * *"],
)  # fmt: skip
def test_expression_that_cannot_be_is_refused(db: Db, expression: str) -> None:
    """With what is wrong with it."""
    with pytest.raises(errors.DatabaseError, match="cron expression") as caught:
        db.one("select pgqueue._cron(%s)", expression)
    assert caught.value.sqlstate == "PQ005"


def test_rarest_date_is_found_and_an_impossible_one_is_not(db: Db) -> None:
    """29 February on a Friday, and never a 30th."""
    assert _slots(db, "0 0 29 2 *", "UTC", datetime(2096, 3, 1, tzinfo=UTC), 1)[0].year == 2104
    assert _slots(db, "0 0 30 2 *", "UTC", datetime(2026, 3, 1, tzinfo=UTC), 1) == [None]


def _field(least: int, most: int) -> st.SearchStrategy[str]:
    number = st.integers(least, most)
    # Not of one element with a step: cronsim takes '7-7/4' for '7/4', which is one of its faults.
    spans = st.tuples(number, number).filter(lambda pair: pair[0] < pair[1])
    span = spans.map(lambda pair: f"{pair[0]}-{pair[1]}")
    step = st.integers(2, 15).map(lambda step: f"/{step}")
    part = st.one_of(number.map(str), span, st.tuples(span, step).map("".join))
    star = st.one_of(st.just("*"), step.map("*".__add__))
    return st.one_of(star, part, st.lists(part, min_size=2, max_size=3).map(",".join))


EXPRESSIONS = st.tuples(
    _field(0, 59), _field(0, 23), st.one_of(st.just("*"), _field(1, 28)),
    st.one_of(st.just("*"), _field(1, 12)), st.one_of(st.just("*"), _field(0, 6)),
).map(" ".join)  # fmt: skip


@attrs.frozen
class Change:
    """A change of clocks."""

    names: list[str] = attrs.field(repr=False)
    """Of zones; hundreds in all, and hypothesis refuses to print as much."""
    at: datetime
    before: timedelta
    """The offset from UTC until then."""
    shift: timedelta

    def local(self, moment: datetime) -> datetime:
        """What clocks show within some weeks of it."""
        offset = self.before if moment < self.at else self.before + self.shift
        return moment.astimezone(UTC).replace(tzinfo=None) + offset


@pytest.fixture
def changes(db: Db) -> list[Change]:
    """All of 2026 and 2027, by the database's own tables."""
    return [
        Change(r.names, r.at, timedelta(seconds=r.before), timedelta(seconds=r.shift))
        for r in db.rows(_CHANGES)
    ]


def _known_alike(db: Db, zone: str) -> bool:
    """Whether Python's table of a zone is of the same edition as the database's."""
    hours = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=5 * n) for n in range(10_000)]
    rows = db.rows("select t at time zone %s from unnest(%s::timestamptz[]) t", zone, hours)
    return all(
        row[0] == hour.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        for row, hour in zip(rows, hours, strict=True)
    )


@pytest.fixture
def zones(db: Db) -> list[str]:
    """Zones with rules of every sort."""
    alike = [zone for zone in _ZONES if _known_alike(db, zone)]
    assert len(alike) > 8
    return alike


def _is_imaginary(moment: datetime) -> bool:
    return moment != moment.astimezone(UTC).astimezone(moment.tzinfo)


def _confuses_cronsim(change: Change) -> bool:
    left_out = change.local(change.at) - change.shift
    odd = abs(change.shift) != timedelta(hours=1) or left_out.minute != 0
    return odd or left_out.time() == datetime.min.time()


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(
    expression=EXPRESSIONS,
    zone=st.sampled_from(_ZONES),
    nth=st.integers(0, 9),
    minutes=st.integers(-3000, 100),
)
def test_slots_are_those_of_cronsim(
    db: Db,
    changes: list[Change],
    zones: list[str],
    expression: str,
    zone: str,
    nth: int,
    minutes: int,
) -> None:
    """From shortly before a change of clocks on, or from any time.

    Left out are its faults, all in expressions by the clock: times that no clock shows, days whose
    midnight is left out (in Havana, say), the half hours of Lord Howe, taken for whole ones, and
    hours of which only a part is left out (on the Chatham Islands from 2:45 to 3:45).
    """
    assume(zone in zones)
    by_clock = any(field.startswith("*") for field in expression.split()[:2])
    own = [change for change in changes if zone in change.names]
    assume(not (by_clock and any(_confuses_cronsim(change) for change in own)))
    starts = [*(change.at for change in own), datetime(2026, 7, 1, tzinfo=UTC)]
    start = starts[nth % len(starts)] + timedelta(minutes=minutes)
    expected: list[datetime] = []
    for slot in CronSim(expression, start.astimezone(ZoneInfo(zone))):
        assume(not (by_clock and _is_imaginary(slot)))
        moment = slot.astimezone(UTC)
        # Two times that are left out become one slot; and it gives past ones in an hour that comes twice.
        if moment > start and moment not in expected:
            expected.append(moment)
        if len(expected) == CHAIN:
            break
    assert _slots(db, expression, zone, start) == expected


def test_there_are_changes_of_all_sorts(changes: list[Change]) -> None:
    """The test below rests on them."""
    assert sum(len(change.names) for change in changes) > 400
    assert {change.shift for change in changes} >= {
        timedelta(hours=1), timedelta(hours=-1), timedelta(minutes=30), timedelta(minutes=-30)
    }  # fmt: skip


def test_every_change_of_clocks_in_two_years(db: Db, changes: list[Change]) -> None:
    """A time of day comes once a day, in a gap as it ends, in a fold at first; `*` goes by the clock."""
    day = timedelta(days=1)
    for change in changes:
        # A time in the middle of what is left out, or comes twice.
        middle = change.local(change.at) - change.shift / 2
        slots = _slots(
            db, f"{middle.minute} {middle.hour} * * *", change.names[0], change.at - 2 * day, 4
        )
        late = timedelta(0) if change.shift > timedelta(0) else change.shift / 2
        assert change.at + late in slots, change
        # What is left out late in the evening comes at midnight, for the day before.
        dates = [(middle if slot == change.at else change.local(slot)).date() for slot in slots]
        assert [date - dates[0] for date in dates] == [day * n for n in range(4)], change
        ticks = _slots(db, "*/10 * * * *", change.names[0], change.at - timedelta(hours=2), 30)
        assert {b - a for a, b in pairwise(ticks)} == {timedelta(minutes=10)}, change


def test_seconds_and_masks(db: Db) -> None:
    """Every second of a minute, and one of them."""
    start = datetime(2026, 1, 1, 0, 0, 58, 500_000, tzinfo=UTC)
    assert [s.second for s in _slots(db, "*/30 * * * * *", "UTC", start, 3)] == [0, 30, 0]
    assert [s.second for s in _slots(db, "59 * * * * *", "UTC", start, 2)] == [59, 59]
