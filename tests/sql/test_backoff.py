"""_backoff() and its policies: always an answer, never an error."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    from .conftest import Db

YEAR = 31536000
INT_MAX = 2**31 - 1


def _seconds(db: Db, policy: Any, attempt: int) -> float:
    delay = db.one(
        "select extract(epoch from pgqueue._backoff(%s, %s))",
        None if policy is None else Jsonb(policy),
        attempt,
    )
    return float(delay)


@pytest.mark.parametrize("policy, attempt, most", [
    ({"base": 2, "factor": 2, "cap": 3600, "jitter": 0}, 1, 2),
    ({"base": 2, "factor": 2, "cap": 3600, "jitter": 0}, 5, 32),
    ({"base": 2, "factor": 2, "cap": 3600, "jitter": 0}, 12, 3600),
    ({"base": 2, "factor": 2, "cap": 3600, "jitter": 0}, INT_MAX, 3600),
    ({"base": 5, "factor": 1, "cap": 60, "jitter": 0}, INT_MAX, 5),
    ({"base": 0, "jitter": 0}, 1, 0.001),
    ({"base": 0, "factor": 10, "cap": 60, "jitter": 0}, 40, 60),
    ({"base": 1, "factor": 1e300, "cap": 60, "jitter": 0}, 2, 60),
    ({"delays": [1, 10, 60], "jitter": 0}, 1, 1),
    ({"delays": [1, 10, 60], "jitter": 0}, 3, 60),
    ({"delays": [1, 10, 60], "jitter": 0}, INT_MAX, 60),
    ({"delays": [0], "jitter": 0}, 1, 0),
    ({"delays": [-5], "jitter": 0}, 1, 0),
    # Nonsense: the defaults.
    ({"delays": [], "jitter": 0}, 1, 2),
    ({"delays": "often", "jitter": 0}, 1, 2),
    ({"delays": [None], "jitter": 0}, 1, 2),
    ({"jitter": 0}, 3, 8),
    ({"base": "two", "factor": [], "cap": {}, "jitter": 0}, 3, 8),
    ({"base": 10**400, "cap": 10**400, "jitter": 0}, 1, YEAR),
    ("text", 1, None), ([], 1, None), (5, 1, None), (None, 1, None), ({}, -3, None), ({}, 0, None),
])  # fmt: skip
def test_delay_follows_the_policy(db: Db, policy: Any, attempt: int, most: float | None) -> None:
    """Exactly, without jitter."""
    seconds = _seconds(db, policy, attempt)
    if most is None:
        assert 1.5 <= seconds <= 2
    else:
        assert math.isclose(seconds, most, rel_tol=1e-4, abs_tol=1e-6)


def test_jitter_spreads_below_the_cap(db: Db) -> None:
    """So the cap holds, and attempts of one incident come apart."""
    policy = {"base": 100, "cap": 100, "jitter": 0.5}
    delays = {_seconds(db, policy, 3) for _ in range(50)}
    assert 50 <= min(delays) < 70
    assert 80 < max(delays) <= 100
    for jitter in (-5, 7):
        assert 0 <= _seconds(db, {"base": 100, "cap": 100, "jitter": jitter}, 1) <= 100


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False) | st.text("abc", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["base", "factor", "cap", "jitter", "delays"]), inner, max_size=5),
    max_leaves=8,
)  # fmt: skip


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(policy=json, attempt=st.integers(1, INT_MAX))
def test_no_policy_raises(db: Db, policy: Any, attempt: int) -> None:
    """One that did would keep the reaper from all jobs."""
    assert 0 <= _seconds(db, policy, attempt) <= YEAR


def test_job_with_a_nonsense_policy_fails_like_any_other(db: Db) -> None:
    """And is reaped with the others."""
    policies: list[dict[str, Any]] = [{"base": "x"}, {"delays": {}}, {"cap": 1e308, "base": 1e308}]
    for policy in policies:
        db.enqueue(backoff=policy)
    failed, *_ = db.claim(3)
    assert db.end("fail", failed) == []
    db.rows("update pgqueue.job set lease_until = '2000-01-01' where lease_until is not null")
    assert db.value("reap") == 2


def test_reaped_job_has_waited_since_its_claim(db: Db) -> None:
    """Its backoff counts from there."""
    long, short = (db.enqueue(backoff={"delays": [s], "jitter": 0}) for s in (600, 10))
    db.claim(2, lease=timedelta(minutes=5))
    db.travel(minutes=6)
    db.call("reap")
    waits = db.one("select run_at - pgqueue.clock() from pgqueue.job where id = %s", long)
    assert timedelta(minutes=3) < waits <= timedelta(minutes=4)
    assert db.state(short) == "ready"
