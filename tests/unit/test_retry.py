"""Retry policies: checked when made, and computed by the database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import pgqueue
from pgqueue import ConfigurationError, Constant, Delays, Exponential, jsontext

HIGHEST_ATTEMPT = 2**31 - 1
SECOND = timedelta(seconds=1)

spans = st.timedeltas(timedelta(milliseconds=1), timedelta(days=365))
jitters = st.floats(0, 1)
policies = (
    st.builds(Exponential, base=spans, cap=spans, factor=st.floats(1, 100), jitter=jitters)
    | st.builds(Constant, spans, jitter=jitters)
    | st.builds(Delays, st.lists(spans | st.just(timedelta(0)), min_size=1, max_size=5))
)


@pytest.fixture
def conn(pgqueue_dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to a database with the functions."""
    with psycopg.connect(pgqueue_dsn, autocommit=True) as conn:
        yield conn


def delay(conn: psycopg.Connection[Any], policy: pgqueue.RetryPolicy, attempt: int) -> timedelta:
    """What the database waits after so many attempts."""
    text = jsontext.dumps(policy.policy())
    row = conn.execute("select pgqueue._backoff(%s::jsonb, %s)", (text, attempt)).fetchone()
    assert row is not None
    value = row[0]
    assert isinstance(value, timedelta)
    return value


def longest(policy: pgqueue.RetryPolicy, attempt: int) -> float:
    """The delay without jitter, in seconds."""
    if isinstance(policy, Exponential):
        base, cap = policy.base.total_seconds(), policy.cap.total_seconds()
        try:
            return min(base * policy.factor ** (attempt - 1), cap)
        except OverflowError:
            return cap
    if isinstance(policy, Constant):
        return policy.delay.total_seconds()
    assert isinstance(policy, Delays)
    return policy.delays[min(attempt, len(policy.delays)) - 1].total_seconds()


def test_delays_keep_within_their_bounds(conn: psycopg.Connection[Any]) -> None:
    """Capped, then spread downwards by the jitter, for any attempt that there can be."""

    @settings(
        max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(policies, st.integers(1, 50) | st.integers(1, HIGHEST_ATTEMPT))
    @example(Constant(SECOND, jitter=5e-324), 1)
    def check(policy: Any, attempt: int) -> None:
        most = longest(policy, attempt)
        waited = delay(conn, policy, attempt).total_seconds()
        assert most * (1 - policy.jitter) * 0.999 - 1e-5 <= waited <= most * 1.001 + 1e-5

    check()


def test_delays_without_jitter_are_exact(conn: psycopg.Connection[Any]) -> None:
    """The series that the docstrings promise."""
    exponential = Exponential(base=SECOND, factor=3, cap=timedelta(seconds=20), jitter=0)
    listed = Delays([SECOND, timedelta(0), 7 * SECOND], jitter=0)
    constant = Constant(5 * SECOND, jitter=0)
    assert [delay(conn, exponential, n) for n in range(1, 6)] == [
        n * SECOND for n in (1, 3, 9, 20, 20)
    ]
    assert [delay(conn, listed, n) for n in range(1, 6)] == [n * SECOND for n in (1, 0, 7, 7, 7)]
    assert [delay(conn, constant, n) for n in (1, 2, 100)] == [5 * SECOND] * 3


def test_jitter_spreads(conn: psycopg.Connection[Any]) -> None:
    """Jobs that failed together do not come back together."""
    assert len({delay(conn, Constant(SECOND), 1) for _ in range(20)}) > 10


def test_the_schemas_default_is_that_of_exponential(conn: psycopg.Connection[Any]) -> None:
    """A job without a policy waits as one with `Exponential()`."""
    row = conn.execute("select backoff from pgqueue.setting").fetchone()
    assert row == (Exponential().policy(),)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Exponential(base=timedelta(0)),
        lambda: Exponential(cap=timedelta(-1)),
        lambda: Exponential(cap=timedelta(days=366)),
        lambda: Exponential(base=3),  # type: ignore[arg-type]
        lambda: Exponential(factor=0.5),
        lambda: Exponential(factor=101),
        lambda: Exponential(factor=float("nan")),
        lambda: Exponential(factor="2"),  # type: ignore[arg-type]
        lambda: Exponential(jitter=1.01),
        lambda: Constant(timedelta(0)),
        lambda: Constant(SECOND, jitter=-0.1),
        lambda: Constant(SECOND, jitter="x"),  # type: ignore[arg-type]
        lambda: Delays([]),
        lambda: Delays([SECOND, timedelta(-1)]),
        lambda: Delays([SECOND, timedelta(days=366)]),
        lambda: Delays([SECOND, 3]),  # type: ignore[list-item]
        lambda: pgqueue.Retry(timedelta(-1)),
        lambda: pgqueue.Retry(3),  # type: ignore[arg-type]
        lambda: pgqueue.Snooze(timedelta(-1)),
        lambda: pgqueue.Snooze("1s"),  # type: ignore[arg-type]
    ],
)
def test_policy_that_cannot_be_is_refused(bad: Any) -> None:
    """When it is made, and the message says what to pass."""
    with pytest.raises(ConfigurationError, match="pass "):
        bad()


def test_outcomes_are_values() -> None:
    """Two that say the same are the same; a delay is optional for a retry only."""
    assert pgqueue.Retry() == pgqueue.Retry(None, "")
    assert pgqueue.Retry(SECOND, "why").reason == "why"
    assert pgqueue.Snooze(timedelta(0)).delay == timedelta(0)
    assert (pgqueue.Skip("a"), pgqueue.Cancel("a")) == (pgqueue.Skip("a"), pgqueue.Cancel("a"))
