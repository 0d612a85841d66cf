"""`client.schedules`: put, look, switch, run, preview, sync."""

from __future__ import annotations

from datetime import datetime, time, timedelta, timezone
from typing import TYPE_CHECKING, Any

import attrs
import psycopg
import pytest

from pgqueue import (
    Client,
    Exponential,
    InvalidSchedule,
    PayloadTooLarge,
    Schedule,
    ScheduleChange,
    ScheduleNotFound,
)
from pgqueue.testing import travel

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Connect

HOUR = timedelta(hours=1)
FULL = Schedule(
    "report.nightly",
    "report.build",
    {"month": 5},
    cron="0 6 * * 1-5",
    timezone="Europe/Berlin",
    window=(time(5), time(7, 30)),
    starts_at=datetime(2026, 1, 1, tzinfo=timezone.utc),
    ends_at=datetime(2036, 1, 1, tzinfo=timezone.utc),
    jitter=timedelta(minutes=5),
    catch_up=3,
    grace=timedelta(days=2),
    overlap="skip",
    enabled=True,
    queue="reports",
    priority=7,
    retry=Exponential(),
    max_attempts=4,
    tags=["a", "b"],
    metadata={"m": 1},
    ref="customer:7",
)


def every_hour(name: str = "hourly", **options: Any) -> Schedule:
    """A schedule."""
    return Schedule(name, "tick", every=HOUR, **options)


def test_schedule_comes_back_as_it_was_put(client: Client) -> None:
    """Every option of it."""
    assert client.schedules.put(FULL) == ScheduleChange("report.nightly", "added")
    state = client.schedules.get("report.nightly")
    assert state.schedule.retry is not None
    assert state.schedule.retry.policy() == Exponential().policy()
    assert attrs.evolve(state.schedule, retry=FULL.retry) == FULL
    assert (state.last_run_at, state.last_job_id, state.declared_by, state.tenant) == (None,) * 4
    assert client.schedules.put(state.schedule).outcome == "unchanged"
    assert client.schedules.put(attrs.evolve(FULL, priority=1)).outcome == "changed"
    assert state.name == "report.nightly"


def test_interval_comes_back_as_it_was_put(client: Client) -> None:
    """With what was left to the database."""
    client.schedules.put(every_hour())
    state = client.schedules.get("hourly")
    assert (state.enabled, state.schedule.every, state.schedule.payload) == (True, HOUR, {})
    assert state.next_run_at is not None
    assert state.schedule.starts_at == state.next_run_at - HOUR


def test_it_fires_and_says_what_became_of_its_slots(client: Client) -> None:
    """The latest first, page by page."""
    client.schedules.put(every_hour(catch_up=3))
    due = client.schedules.due_in()
    assert due is not None
    assert 3500 < due < 3601
    travel(client.dsn, 3 * HOUR)
    assert client.schedules.tick() == 3
    runs = client.schedules.runs("hourly")
    assert [run.outcome for run in runs] == ["enqueued"] * 3
    assert runs == sorted(runs, key=lambda run: run.slot, reverse=True)
    assert client.schedules.runs("hourly", before=runs[0].slot, limit=1) == [runs[1]]
    job = client.get(runs[0].job_id or 0)
    assert (job.kind, job.run_at) == ("tick", runs[0].slot)
    assert job.metadata is not None
    assert job.metadata["schedule"] == "hourly"
    state = client.schedules.get("hourly")
    assert (state.last_run_at, state.last_job_id) == (runs[0].slot, runs[0].job_id)


def test_it_is_switched_off_and_on(client: Client) -> None:
    """And put again, it stays as it was switched."""
    client.schedules.put(every_hour())
    client.schedules.disable("hourly")
    client.schedules.put(every_hour())
    assert client.schedules.get("hourly").next_run_at is None
    assert not client.schedules.get("hourly").enabled
    assert client.schedules.due_in() is None
    found = client.schedules.enable("hourly")
    assert found is not None
    assert found == client.schedules.get("hourly").next_run_at


def test_it_is_run_by_hand(client: Client) -> None:
    """That is in its history."""
    client.schedules.put(every_hour(enabled=False))
    job_id = client.schedules.run_now("hourly")
    assert client.get(job_id).kind == "tick"
    assert [(r.outcome, r.job_id) for r in client.schedules.runs("hourly")] == [("manual", job_id)]


def test_preview_of_what_is_stored_and_what_is_not(client: Client) -> None:
    """Both say the same."""
    client.schedules.put(FULL)
    ahead = client.schedules.preview("report.nightly", 3)
    assert client.schedules.preview(FULL, 3) == ahead
    assert client.schedules.get("report.nightly").next_run_at == ahead[0]
    over = attrs.evolve(FULL, ends_at=datetime(2026, 1, 2, tzinfo=timezone.utc))
    assert client.schedules.preview(over) == []
    assert len(client.schedules.preview(Schedule("x", "k", cron="@daily"), 30)) == 30


def test_list_filters_and_pages(client: Client) -> None:
    """By name."""
    client.schedules.put(FULL)
    client.schedules.sync([every_hour("b"), every_hour("a", ref="r")], "shop")
    listed = client.schedules.list
    assert [s.name for s in listed()] == ["a", "b", "report.nightly"]
    assert [s.name for s in listed(declared_by="shop", after="a")] == ["b"]
    assert [s.name for s in listed(kind="report.build")] == ["report.nightly"]
    assert [s.name for s in listed(ref="r")] == ["a"]
    assert [s.name for s in listed(limit=1)] == ["a"]


def test_sync_adds_changes_and_removes(client: Client) -> None:
    """What the application declared, and nothing else."""
    client.schedules.put(every_hour("data"))
    client.schedules.sync([every_hour("a"), every_hour("b")], "shop")
    changes = client.schedules.sync([every_hour("a", priority=1), every_hour("c")], "shop")
    assert {(c.name, c.outcome) for c in changes} == {
        ("a", "changed"), ("b", "removed"), ("c", "added")
    }  # fmt: skip
    with pytest.raises(InvalidSchedule, match="is declared by 'shop'"):
        client.schedules.sync([every_hour("a")], "other")
    with pytest.raises(InvalidSchedule, match="two schedules are named 'a'"):
        client.schedules.sync([every_hour("a"), every_hour("a")], "shop")
    assert [s.name for s in client.schedules.list()] == ["a", "c", "data"]


@pytest.mark.parametrize("operation", ["get", "run_now", "preview", "enable", "disable"])
def test_unknown_name_is_told(client: Client, operation: str) -> None:
    """By name."""
    with pytest.raises(ScheduleNotFound) as caught:
        getattr(client.schedules, operation)("unknown")
    assert caught.value.name == "unknown"


def test_removing_says_whether_there_was_one(client: Client) -> None:
    """Its history cannot be asked for any more."""
    client.schedules.put(every_hour())
    client.schedules.run_now("hourly")
    assert client.schedules.remove("hourly")
    assert not client.schedules.remove("hourly")
    assert client.schedules.runs("hourly") == []


def test_schedule_joins_the_callers_transaction(client: Client, connect: Connect) -> None:
    """It is there if that commits."""
    conn = connect()
    with conn.transaction(force_rollback=True):
        client.schedules.put(every_hour(), conn=conn)
        assert client.schedules.get("hourly", conn=conn).name == "hourly"
    assert client.schedules.list() == []


@pytest.mark.parametrize(
    "schedule, reason",
    [
        (Schedule("s", "k", cron="0 0 30 2 *"), "cron expression"),
        (Schedule("s", "k", every=HOUR, timezone="Nowhere/Land"), "time zone 'Nowhere/Land'"),
        (
            Schedule("s", "k", cron="0 6 * * *", window=(time(9), time(17))),
            "no time within the window",
        ),
        (
            Schedule("s", "k", every=HOUR, starts_at=datetime(9999, 5, 1, tzinfo=timezone.utc)),
            "use times between 1900",
        ),
    ],
)
def test_what_the_database_refuses_is_an_error_of_ours(
    client: Client, schedule: Schedule, reason: str
) -> None:
    """Even where the client could not know."""
    with pytest.raises(InvalidSchedule, match=reason):
        client.schedules.put(schedule)
    assert client.schedules.list() == []


def test_large_payload_is_refused_before_it_is_due(client: Client) -> None:
    """As that of a job."""
    with pytest.raises(PayloadTooLarge):
        client.schedules.put(every_hour(payload="x" * 300_000))


def test_rows_written_by_others_can_be_read(client: Client, connect: Connect) -> None:
    """Also with what Python could not have written."""
    with connect() as conn:
        conn.execute(
            "insert into pgqueue.schedule (name, kind, every, window_start, window_end, backoff) "
            "values ('s', 'k', '1 day', '00:00', '24:00', '{\"anything\": 1}')"
        )
    state = client.schedules.get("s")
    assert state.schedule.window == (time(0), time(0))
    assert state.schedule.retry is not None
    assert state.schedule.retry.policy() == {"anything": 1}
    assert state.schedule.every == timedelta(days=1)


@pytest.mark.direct("settings belong to a session")
def test_tenant_names_its_own(client: Client, make_client: Callable[..., Client]) -> None:
    """The session's setting says whose schedule a name is; who sees all lists all."""
    ours = make_client(psycopg.conninfo.make_conninfo(client.dsn, options="-c pgqueue.tenant=acme"))
    for each in (client, ours):
        assert each.schedules.put(every_hour()).outcome == "added"
    assert ours.schedules.get("hourly").tenant == "acme"
    assert [s.tenant for s in client.schedules.list()] == [None, "acme"]
    assert client.schedules.remove("hourly")
    assert ours.schedules.get("hourly").tenant == "acme"
