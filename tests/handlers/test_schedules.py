"""Schedules that are declared beside handlers."""

from __future__ import annotations

from datetime import timedelta

import attrs
import pytest

from pgqueue import (
    ConfigurationError,
    Constant,
    Handlers,
    InvalidSchedule,
    Job,
    PayloadError,
    Schedule,
    UnknownKind,
)

HOUR = timedelta(hours=1)


@attrs.frozen
class Report:
    """A payload."""

    month: int


@pytest.fixture
def handlers() -> Handlers:
    """A registry of an application."""
    return Handlers(declared_by="shop")


def test_schedule_has_its_kinds_options(handlers: Handlers) -> None:
    """Where it says nothing itself; its payload is of the kind's type."""
    handlers.schedule("nightly", "report", Report(5), cron="0 6 * * *", priority=1)
    build = handlers.register(
        "report", payload=Report, queue="slow", priority=9, retry=Constant(HOUR), max_attempts=3
    )(lambda _: None)
    handlers.schedule("hourly", build, every=HOUR)
    assert handlers.schedules == (
        Schedule("nightly", "report", {"month": 5}, cron="0 6 * * *", queue="slow", priority=1,
                 retry=Constant(HOUR), max_attempts=3),
        Schedule("hourly", "report", every=HOUR, queue="slow", priority=9, retry=Constant(HOUR),
                 max_attempts=3),
    )  # fmt: skip


def test_schedules_need_an_applications_name() -> None:
    """By it they are known when they are to be removed."""
    with pytest.raises(ConfigurationError, match="declared_by='shop'"):
        Handlers().schedule("s", "k", every=HOUR)
    with pytest.raises(InvalidSchedule, match="declared_by is"):
        Handlers(declared_by="a b")


def test_declaration_that_cannot_be_is_refused_where_it_stands(handlers: Handlers) -> None:
    """An option, a name that is taken, one that does not exist."""
    handlers.schedule("s", "k", every=HOUR)
    with pytest.raises(InvalidSchedule, match="declared already"):
        handlers.schedule("s", "k", every=HOUR)
    with pytest.raises(InvalidSchedule, match="either cron or every"):
        handlers.schedule("t", "k")
    with pytest.raises(InvalidSchedule, match="unexpected keyword argument 'often'"):
        handlers.schedule("t", "k", often=HOUR)


def test_schedule_of_a_kind_without_handler_is_found(handlers: Handlers) -> None:
    """When all is declared, so that the order does not matter."""
    handlers.schedule("s", "unknown", every=HOUR)
    with pytest.raises(UnknownKind):
        _ = handlers.schedules


def test_payload_that_is_no_json_is_found(handlers: Handlers) -> None:
    """Before anything is sent."""

    @handlers.register("k")
    def k(job: Job) -> None:
        """Nothing."""

    handlers.schedule("s", k, object(), every=HOUR)
    with pytest.raises(PayloadError):
        _ = handlers.schedules
