"""schedule(), the trigger of its table, and the slots of windows and intervals."""

from __future__ import annotations

from datetime import datetime, time, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Db

UTC = timezone.utc
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def put(db: Db, name: str = "s", kind: str = "k", **options: Any) -> str:
    """What schedule() did."""
    if "cron" not in options:
        options.setdefault("every", HOUR)
    return str(db.call("schedule", name, kind, **options)[0].outcome)


def row(db: Db, name: str = "s") -> Any:
    """A schedule's row."""
    (found,) = db.rows("select * from pgqueue.schedule where name = %s", name)
    return found


def slots(db: Db, after: datetime, count: int, **fields: Any) -> list[datetime]:
    """The first slots of a schedule that is not stored."""
    fields = {"starts_at": "2026-01-01T00:00:00Z", "timezone": "UTC"} | fields
    rows = db.rows(
        "with recursive s (schedule) as materialized (select jsonb_populate_record("
        "null::pgqueue.schedule, %s || jsonb_build_object('masks', pgqueue._cron(%s)))), "
        "r (n, slot) as (select 1, pgqueue._next_slot(s.schedule, %s) from s union all "
        "select n + 1, pgqueue._next_slot(s.schedule, slot) from r, s where n < %s and slot is not null) "
        "select slot from r where slot is not null order by n",
        Jsonb(fields), fields.get("cron"), after, count,
    )  # fmt: skip
    return [slot.astimezone(UTC) for (slot,) in rows]


def at(*parts: int) -> datetime:
    """A moment of 2026, in UTC."""
    return datetime(2026, *parts, tzinfo=UTC)  # type: ignore[arg-type, misc]


def test_put_adds_changes_and_leaves(db: Db) -> None:
    """What changes nothing writes nothing, and the next slot stays."""
    assert put(db) == "added"
    first = row(db)
    version = db.one("select xmin::text || ctid::text from pgqueue.schedule")
    db.travel(minutes=10)
    assert put(db) == "unchanged"
    assert db.one("select xmin::text || ctid::text from pgqueue.schedule") == version
    assert put(db, payload={"a": 1}, overlap="skip") == "changed"
    assert row(db).next_run_at == first.next_run_at == first.starts_at + HOUR
    assert put(db, every=2 * HOUR) == "changed"
    assert row(db).next_run_at == first.starts_at + 2 * HOUR


def test_rows_written_by_hand_have_their_next_slot(db: Db) -> None:
    """With an insert or an update, of one or many; days are of 24 hours."""
    db.rows(
        "insert into pgqueue.schedule (name, kind, every, jitter) select 's' || n, 'k', '1 day', '1 day' from generate_series(1, 3) n"
    )
    for schedule in db.rows("select * from pgqueue.schedule"):
        assert schedule.next_run_at == schedule.starts_at + DAY
    db.rows(
        "update pgqueue.schedule set every = null, cron = '0 6 * * *', timezone = 'Asia/Tokyo' where name = 's1'"
    )
    assert row(db, "s1").next_run_at.astimezone(UTC).hour == 21
    assert db.one("select every::text from pgqueue.schedule where name = 's2'") == "24:00:00"


def test_disabled_schedule_has_no_slot_and_begins_anew(db: Db) -> None:
    """What came due meanwhile is not made up for; null leaves it as it is."""
    put(db)
    put(db, enabled=False)
    assert row(db).next_run_at is None
    assert put(db) == "unchanged"
    db.travel(hours=5, minutes=30)
    assert db.value("tick") == 0
    put(db, enabled=True)
    assert row(db).next_run_at == row(db).starts_at + 6 * HOUR


def test_slot_that_is_due_survives_a_change(db: Db) -> None:
    """It is fired; those after it are of the new times, and none of them before the change."""
    put(db, cron="0 6 * * *", starts_at=datetime(2020, 1, 1, tzinfo=UTC), catch_up=1000)
    due = row(db).next_run_at
    db.travel(days=2)
    put(db, cron="* * * * *", catch_up=1000)
    assert row(db).next_run_at == due
    db.travel(minutes=3)
    assert db.value("tick") == 1 + 3
    assert db.one("select min(slot) from pgqueue.schedule_run") == due


@pytest.mark.parametrize("option", ["starts_at", "ends_at", "enabled"])
def test_slot_that_is_due_goes_if_it_is_none_any_more(db: Db, option: str) -> None:
    """Because the schedule starts later now, is over, or rests."""
    put(db)
    db.travel(hours=1, minutes=1)
    now = db.value("clock")
    put(
        db,
        **{option: {"starts_at": now + DAY, "ends_at": now - HOUR / 2, "enabled": False}[option]},
    )
    assert db.value("tick") == 0
    assert row(db).next_run_at == (now + DAY if option == "starts_at" else None)


def test_clock_set_back_fires_nothing_twice(db: Db) -> None:
    """Not even if the schedule is changed meanwhile."""
    put(db, cron="0 * * * *")
    db.travel(hours=3)
    assert db.value("tick") == 1
    db.travel(hours=-3)
    for minute in ("0", "*/20", "*"):
        put(db, cron=f"{minute} * * * *")
        assert db.value("tick") == 0
        assert row(db).next_run_at > row(db).last_run_at


def test_clock_that_was_wrong_for_long_is_forgotten_with_a_change(db: Db) -> None:
    """A schedule must not rest until then."""
    put(db)
    db.travel(days=400)
    assert db.value("tick") == 1
    db.travel(days=-400)
    put(db, enabled=False)
    put(db, enabled=True)
    assert row(db).next_run_at < db.value("clock") + HOUR


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"cron": "61 * * * *"}, "'61' is no minute"),
        ({"cron": "0 0 30 2 *"}, "never comes true"),
        ({"cron": "0 0 * * *", "every": HOUR}, "either cron or every"),
        ({"every": None}, "either cron or every"),
        ({"every": "1 month"}, "every has months"),
        ({"every": "0.5 s"}, "use 1 second to 1000 days"),
        ({"every": "1001 days"}, "use 1 second to 1000 days"),
        ({"jitter": "1 year"}, "jitter has months"),
        ({"timezone": "Nowhere/Land"}, "time zone 'Nowhere/Land' is unknown"),
        ({"timezone": "UTC+3"}, "time zone 'UTC\\+3' is unknown"),
        ({"timezone": "+3"}, "unknown"),
        ({"timezone": "CEST"}, "unknown"),
        ({"timezone": "EST5EDT,M3.2.0/2,M11.1.0/2"}, "unknown"),
        ({"window_start": "9:00"}, "a start and an end"),
        ({"window_start": "9:00", "window_end": "9:00"}, "a start and an end"),
        ({"every": "25 h", "window_start": "9:00", "window_end": "17:00"}, "24 hours or less"),
        ({"cron": "0 6 * * *", "window_start": "9:00", "window_end": "17:00"}, "no time within the window"),
        ({"cron": "0 6 * * *", "window_start": "7:00", "window_end": "6:00"}, "no time within the window"),
    ],
)  # fmt: skip
def test_times_that_cannot_be_are_refused(db: Db, options: dict[str, Any], reason: str) -> None:
    """With PQ005, and whoever writes the row."""
    with pytest.raises(errors.DatabaseError, match=reason) as caught:
        put(db, **options)
    assert caught.value.sqlstate == "PQ005"
    assert db.rows("select from pgqueue.schedule") == []


@pytest.mark.parametrize(
    "column, value",
    [("catch_up", -1), ("grace", "-1 s"), ("overlap", "wait"), ("jitter", "31 days"), ("name", "a b"), ("kind", "a b"),
     ("queue", ""), ("priority", 10), ("max_attempts", 0), ("metadata", "[]"), ("starts_at", "infinity"),
     ("starts_at", "-infinity"), ("ends_at", "infinity"), ("ends_at", "2000-01-01")],
)  # fmt: skip
def test_values_that_cannot_be_are_refused(db: Db, column: str, value: Any) -> None:
    """By the table, or the trigger before it."""
    with pytest.raises(errors.DatabaseError) as caught:
        db.rows(
            f"insert into pgqueue.schedule (name, kind, every, {column}) values ('s', 'k', '1 h', %s)"
            if column not in ("name", "kind")
            else f"insert into pgqueue.schedule (name, kind, every) values ({'%s, $$k$$' if column == 'name' else '$$s$$, %s'}, '1 h')",
            value,
        )
    assert caught.value.sqlstate in ("23514", "PQ005")


def test_payload_over_the_cap_is_refused_at_once(db: Db) -> None:
    """Not when it is due."""
    with pytest.raises(errors.DatabaseError, match="over the limit") as caught:
        put(db, payload={"x": "y" * 300_000})
    assert caught.value.sqlstate == "PQ003"


def test_intervals_are_counted_from_the_start(db: Db) -> None:
    """Which is the first slot, where it is to come."""
    start = "2026-05-01T10:00:30Z"
    for after, expected in (
        (at(1, 1), at(5, 1, 10, 0, 30)),
        (at(5, 1, 10, 0, 30), at(5, 1, 10, 10, 30)),
        (at(5, 1, 10, 10, 29), at(5, 1, 10, 10, 30)),
        (at(7, 1), at(7, 1, 0, 0, 30)),
    ):
        assert slots(db, after, 1, every="00:10:00", starts_at=start) == [expected]
    assert slots(db, at(5, 1, 10, 1), 9, every="00:10:00", starts_at=start,
                 ends_at="2026-05-01T10:20:30Z") == [at(5, 1, 10, 10, 30)]  # fmt: skip


@pytest.mark.parametrize(
    "window, after, expected",
    [
        (("09:00", "17:00"), at(3, 1), [at(3, 1, 9), at(3, 1, 12), at(3, 1, 15), at(3, 2, 9)]),
        (("09:00", "15:00"), at(3, 1, 9), [at(3, 1, 12), at(3, 2, 9), at(3, 2, 12), at(3, 3, 9)]),
        (("22:00", "06:00"), at(3, 1), [at(3, 1, 1), at(3, 1, 4), at(3, 1, 22), at(3, 2, 1)]),
        (("22:00", "00:00"), at(3, 1), [at(3, 1, 22), at(3, 2, 22), at(3, 3, 22), at(3, 4, 22)]),
        (("00:00", "24:00"), at(3, 1), [at(3, 1, 3), at(3, 1, 6), at(3, 1, 9), at(3, 1, 12)]),
    ],
)
def test_intervals_in_a_window_begin_with_it(
    db: Db, window: tuple[str, str], after: datetime, expected: list[datetime]
) -> None:
    """It may span midnight; its end is no part of it."""
    start, end = window
    found = slots(db, after, 4, every="03:00:00", window_start=start, window_end=end)
    assert found == expected


def test_cron_in_a_window(db: Db) -> None:
    """Slots outside of it are none; the windows of other days are found at once."""
    given = {"cron": "*/30 * * * *", "window_start": "23:30", "window_end": "00:45"}
    assert slots(db, at(3, 1), 4, **given) == [
        at(3, 1, 0, 30), at(3, 1, 23, 30), at(3, 2), at(3, 2, 0, 30)
    ]  # fmt: skip
    given = {"cron": "0 12 29 2 *", "window_start": "11:00", "window_end": "13:00"}
    assert slots(db, at(3, 1), 1, **given) == [datetime(2028, 2, 29, 12, tzinfo=UTC)]


BERLIN = {"timezone": "Europe/Berlin"}


@pytest.mark.parametrize(
    "fields, after, expected",
    [
        # 29 March: from 2:00 to 3:00, which is 1:00 UTC. A window that is left out has no slot.
        ({"every": "00:20:00", "window_start": "02:00", "window_end": "03:00"}, at(3, 28, 2), [at(3, 30, 0), at(3, 30, 0, 20)]),
        ({"every": "24:00:00", "window_start": "02:15", "window_end": "02:45"}, at(3, 28, 2), [at(3, 30, 0, 15)]),
        ({"cron": "30 2 * * *", "window_start": "02:00", "window_end": "03:00"}, at(3, 28, 2), [at(3, 30, 0, 30)]),
        # One that is left out in part is as long as what is left of it.
        ({"every": "00:20:00", "window_start": "01:30", "window_end": "02:30"}, at(3, 29, 0), [at(3, 29, 0, 30), at(3, 29, 0, 50), at(3, 29, 23, 30)]),
        ({"every": "00:20:00", "window_start": "02:30", "window_end": "03:30"}, at(3, 29, 0), [at(3, 29, 1), at(3, 29, 1, 20), at(3, 30, 0, 30)]),
        # A time that is left out comes as clocks have jumped, also where one looks in the second before.
        ({"cron": "59 59 1,2 * * *"}, at(3, 29, 0), [at(3, 29, 0, 59, 59), at(3, 29, 1), at(3, 29, 23, 59, 59)]),
        ({"cron": "15,45 0-3 * * *", "window_start": "02:50", "window_end": "04:00"}, at(3, 29), [at(3, 29, 1), at(3, 29, 1, 15), at(3, 29, 1, 45), at(3, 30, 1, 15)]),
        # 25 October: from 3:00 back to 2:00. The window is an hour longer, the interval is not.
        ({"every": "01:00:00", "window_start": "01:00", "window_end": "04:00"}, at(10, 24, 22), [at(10, 24, 23), at(10, 25, 0), at(10, 25, 1), at(10, 25, 2), at(10, 26, 0)]),
        ({"cron": "0 * * * *", "window_start": "02:30", "window_end": "04:30"}, at(10, 24, 22), [at(10, 25, 1), at(10, 25, 2), at(10, 25, 3), at(10, 26, 2)]),
        # Of two, the first, from wherever one looks.
        ({"cron": "*/20 * * * *", "window_start": "02:00", "window_end": "02:30"}, at(10, 24, 22), [at(10, 25, 0), at(10, 25, 0, 20), at(10, 26, 1)]),
        ({"cron": "*/20 * * * *", "window_start": "02:00", "window_end": "02:30"}, at(10, 25, 1, 1), [at(10, 26, 1)]),
        ({"every": "00:20:00", "window_start": "02:00", "window_end": "02:30"}, at(10, 24, 22), [at(10, 25, 0), at(10, 25, 0, 20), at(10, 26, 1)]),
        # A day of 24 hours goes on as such, one that is counted from the window's opening goes by the wall.
        ({"every": "24:00:00", "starts_at": "2026-03-27T05:00:00Z"}, at(3, 28), [at(3, 28, 5), at(3, 29, 5), at(3, 30, 5)]),
        ({"every": "24:00:00", "window_start": "06:00", "window_end": "07:00"}, at(3, 28), [at(3, 28, 5), at(3, 29, 4), at(3, 30, 4)]),
    ],
)  # fmt: skip
def test_windows_when_clocks_change(
    db: Db, fields: dict[str, Any], after: datetime, expected: list[datetime]
) -> None:
    """In Berlin, in 2026; whatever the time zone of the session."""
    for zone in ("UTC", "America/New_York", "Europe/Berlin"):
        db.rows("select set_config('timezone', %s, false)", zone)
        assert slots(db, after, len(expected), **BERLIN, **fields) == expected


def test_preview_is_what_comes(db: Db) -> None:
    """Of a schedule that is enabled, or would be."""
    put(db, cron="0 6 * * *", timezone="Europe/Berlin", enabled=False)
    ahead = [r[0] for r in db.call("next_slots", "s", 3)]
    put(db, cron="0 6 * * *", timezone="Europe/Berlin", enabled=True)
    assert [r[0] for r in db.call("next_slots", "s", 3)] == ahead
    assert row(db).next_run_at == ahead[0]
    assert [slot.astimezone(UTC).hour in (4, 5) for slot in ahead] == [True] * 3
    assert db.call("next_slots", "unknown") == []


def test_sync_removes_what_its_application_no_longer_declares(db: Db) -> None:
    """Neither data nor what others declare; data of the same name is taken over."""
    put(db, "data")
    put(db, "mine")
    given = [{"name": name, "kind": "k", "every": "1 h"} for name in ("b", "a")]
    assert sorted(db.call("sync_schedules", Jsonb(given), "app")) == [
        ("a", "added"),
        ("b", "added"),
    ]
    db.call("sync_schedules", Jsonb([{"name": "other", "kind": "k", "every": "1 h"}]), "other")
    given = [
        {"name": "a", "kind": "k", "every": "2 h"},
        {"name": "mine", "kind": "k", "every": "1 h"},
    ]
    assert sorted(db.call("sync_schedules", Jsonb(given), "app")) == [
        ("a", "changed"), ("b", "removed"), ("mine", "changed")
    ]  # fmt: skip
    assert put(db, "a", every=2 * HOUR, payload={"by": "hand"}) == "changed"
    assert row(db, "a").declared_by == "app"
    with pytest.raises(errors.DatabaseError, match="is declared by 'other'"):
        db.call("sync_schedules", Jsonb([{"name": "other", "kind": "k", "every": "1 h"}]), "app")
    assert sorted(db.call("sync_schedules", Jsonb([]), "app")) == [
        ("a", "removed"),
        ("mine", "removed"),
    ]
    assert [r.name for r in db.rows("select name from pgqueue.schedule order by 1")] == [
        "data",
        "other",
    ]


def test_syncs_at_once_do_not_wait_for_each_other_for_ever(
    connect: Callable[..., Db], together: Callable[..., list[Any]]
) -> None:
    """Of versions that declare other schedules in another order; all end, and the last one counts."""
    dbs = [connect(deadlock_timeout="20ms") for _ in range(6)]
    names = [f"s{n}" for n in range(12)]

    def sync(n: int) -> None:
        for turn in range(8):
            mine = [name for m, name in enumerate(names) if (m + n + turn) % 3]
            given = [{"name": name, "kind": "k", "every": f"{n + 1} h"} for name in mine]
            dbs[n].call("sync_schedules", Jsonb(given[:: -1 if n % 2 else 1]), "app")

    together(*(lambda n=n: sync(n) for n in range(6)))
    final = [{"name": name, "kind": "k", "every": "1 h"} for name in names]
    dbs[0].call("sync_schedules", Jsonb(final), "app")
    assert dbs[0].one("select count(*) from pgqueue.schedule") == 12


def test_schedule_that_is_over_may_be_declared_still(db: Db) -> None:
    """For the first time, and again."""
    for _ in range(2):
        put(db, ends_at=db.value("clock") - HOUR)
        assert row(db).next_run_at is None


def test_unschedule_takes_it_out(db: Db) -> None:
    """Its jobs stay; one of that name made later is another."""
    put(db)
    db.travel(hours=2)
    assert db.value("tick") == 1
    assert db.value("unschedule", "s")
    assert not db.value("unschedule", "s")
    assert db.one("select count(*) from pgqueue.job") == 1
    put(db)
    assert db.value("tick") == 0


def test_window_of_a_settings_page(db: Db) -> None:
    """Python's times and null go as they are."""
    put(db, every=timedelta(minutes=15), window_start=time(22), window_end=time(2), timezone=None)
    assert (row(db).window_start, row(db).timezone) == (time(22), "UTC")
