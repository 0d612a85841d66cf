"""Random lives of jobs, checked after each step: nothing is lost, doubled, held twice or out of sight.

The nightly profile runs 50,000 steps: --hypothesis-profile=soak. (The scenario `lives` of the faults
is stricter, with an exact model and a clock that stands still; this one has positions, floors and a real clock.)
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Db

QUICK = settings(max_examples=24, stateful_step_count=50)

queues = st.sampled_from(["a", "b"])
kinds = st.sampled_from(["k", "l"])
priorities = st.sampled_from([0, 5, 9])
delays = st.sampled_from([0, 0, 0, 5, 3600])
plain = {
    "kind": kinds,
    "queue": queues,
    "priority": priorities,
    "max_attempts": st.sampled_from([1, 2, 20]),
    "delay": delays,
}
keyed = {
    **plain,
    "dedupe_key": st.sampled_from(["x", "y"]),
    "dedupe_until": st.sampled_from(["start", "finish"]),
    "on_conflict": st.sampled_from(["return", "replace"]),
    "ref": st.just("r"),
}
jobs = st.fixed_dictionaries(plain) | st.fixed_dictionaries(keyed)

VIOLATIONS = {
    "a job in two places": "select id from pgqueue.all_jobs group by id having count(*) > 1",
    "more attempts than allowed": (
        "select id from pgqueue.job where not attempt between 0 and max_attempts or (lease_until is not null and attempt = 0) "
        "union all select id from pgqueue.archive where attempt > max_attempts"
    ),
    "a claimed job without a token or a position": (
        "select id from pgqueue.job where lease_until is not null and (token is null or position is null or claimed_at is null)"
    ),
    "a key that is not held as its scope says": (
        "select id from pgqueue.job where dedupe_hash is distinct from case "
        "when dedupe_until = 'start' and lease_until is not null then null "
        "else pgqueue._dedupe_hash(tenant, kind, dedupe_key) end"
    ),
    "a lane without a mark, or a claimed job above its head": (
        "select j.id from pgqueue.job j where position is not null and not exists (select from pgqueue.lane l "
        "where l.queue = j.queue and l.priority = j.priority and (j.lease_until is null or j.position <= l.head))"
    ),
    "two jobs at one position": (
        "select min(id) from pgqueue.job where position is not null group by position having count(*) > 1"
    ),
    "a history that is too long": "select id from pgqueue.all_jobs where jsonb_array_length(history) > 20",
}


class Life(RuleBasedStateMachine):
    """Any order of all operations on one database, with time travel."""

    db: Db
    claims: Bundle[Any] = Bundle("claims")

    @initialize(batch=st.lists(jobs, min_size=3, max_size=9))
    def begin(self, batch: list[dict[str, Any]]) -> None:
        """Begins with some jobs in an empty database."""
        self.db.rows("truncate pgqueue.job, pgqueue.archive, pgqueue.lane, pgqueue.queue")
        self.accepted = self.purged = 0
        self.travelled = 0.0
        self.highest: dict[tuple[str, int], int] = {}
        self.enqueue_many(batch)

    @invariant()
    def holds(self) -> None:
        """None of the violations, and every job that was accepted is somewhere."""
        for name, query in VIOLATIONS.items():
            assert self.db.rows(query) == [], name
        stored = self.db.one("select count(*) from pgqueue.all_jobs")
        assert stored + self.purged == self.accepted

    def _unfinished(self) -> list[int]:
        return [row.id for row in self.db.rows("select id from pgqueue.job order by id")]

    def _some_ids(self, data: Any) -> list[int]:
        ids = [row.id for row in self.db.rows("select id from pgqueue.all_jobs order by id")]
        return list(data.draw(st.lists(st.sampled_from(ids), max_size=4))) if ids else []

    # Enqueue

    @rule(job=jobs)
    def enqueue(self, job: dict[str, Any]) -> None:
        """Stores it, or finds the holder of its key."""
        options = {**job, "delay": timedelta(seconds=job["delay"])}
        before = self._unfinished()
        row = self.db.call("enqueue", **options)[0]
        assert row.duplicate == (row.id in before)
        self.accepted += not row.duplicate

    @rule(batch=st.lists(jobs, max_size=6))
    def enqueue_many(self, batch: list[dict[str, Any]]) -> None:
        """The same for several."""
        rows = self.db.call("enqueue_many", Jsonb(batch))
        assert [row.place for row in rows] == list(range(1, len(batch) + 1))
        self.accepted += sum(not row.duplicate for row in rows)

    # Claim

    @rule(
        target=claims,
        queue=st.sampled_from([["a"], ["b"], ["b", "a"]]),
        count=st.sampled_from([1, 2, 10]),
        only=st.sampled_from([None, ["k"], ["l"]]),
        how=st.sampled_from(["cold", "warm", "from the bottom"]),
    )
    def claim(self, queue: list[str], count: int, only: list[str] | None, how: str) -> Any:
        """Only ready jobs of what was asked for, each with a new token."""
        ready = {
            row.id: row.attempt
            for row in self.db.rows(
                "select id, attempt from pgqueue.all_jobs where state = 'ready' and queue = any (%s) "
                "and (%s::text[] is null or kind = any (%s)) and not exists (select from pgqueue.queue where name = queue "
                "and paused_until > pgqueue.clock())", queue, only, only,
            )
        }  # fmt: skip
        floors = {
            "cold": None,
            "warm": [self.highest.get((q, p)) for q in queue for p in range(10)],
            "from the bottom": [0] * 10 * len(queue),
        }[how]
        claimed = self.db.claim(
            count, queue, kinds=only, floors=floors, lease=timedelta(seconds=30)
        )
        assert len({job.id for job in claimed}) == len(claimed) <= count
        for job in claimed:
            assert job.attempt == ready[job.id] + 1
            key = (job.queue, job.priority)
            self.highest[key] = max(self.highest.get(key, 0), job.position - 3)
        if how == "from the bottom":
            assert len(claimed) == min(count, len(ready))
        return multiple(*claimed)

    @rule()
    def nothing_is_out_of_sight(self) -> None:
        """After a rescan a cold claim sees every ready job."""
        self.db.call("_fold_lanes", True)
        with self.db.transaction():
            self.db.rows("delete from pgqueue.queue")
            ready = self.db.one("select count(*) from pgqueue.all_jobs where state = 'ready'")
            assert len(self.db.claim(10_000, ["a", "b"])) == ready

    # End, by tokens that are held, lost, or were used before

    def _held(self, claims: list[Any]) -> set[int]:
        return {
            claim.id
            for claim in claims
            if self.db.one(
                "select true from pgqueue.job where id = %s and token = %s and lease_until is not null",
                claim.id,
                claim.token,
            )
        }

    def _used(self, claim: Any, how: str) -> bool:
        states = {"ack": ["succeeded"], "skip": ["skipped"], "cancel_claimed": ["cancelled"]}.get(
            how, ["dead", "cancelled", "skipped"]
        )
        archived = self.db.one(
            "select count(*) from pgqueue.archive where id = %s and token = %s and state = any (%s)",
            claim.id,
            claim.token,
            states,
        )
        waiting = len(states) > 1 and self.db.one(
            "select count(*) from pgqueue.job where id = %s and token = %s", claim.id, claim.token
        )
        return bool(archived or waiting)

    @rule(
        ended=st.lists(claims, min_size=1, max_size=5, unique_by=lambda claim: claim.id),
        how=st.sampled_from(["ack", "skip", "cancel_claimed", "fail", "snooze", "release"]),
        delay=delays,
    )
    def end(self, ended: list[Any], how: str, delay: int) -> None:
        """What is held ends, a repetition is harmless, and what is lost is named."""
        held = self._held(ended)
        lost = {claim.id for claim in ended if claim.id not in held and not self._used(claim, how)}
        named = {"delays": [timedelta(seconds=delay)] * len(ended)} if how == "snooze" else {}
        others = "select j::text from pgqueue.job j where id <> all (%s) order by id"
        before = self.db.rows(others, list(held))
        assert set(self.db.end(how, *ended, **named)) == lost
        assert self.db.rows(others, list(held)) == before
        assert self._held(ended) == set()

    @rule(extended=st.lists(claims, min_size=1, max_size=5, unique_by=lambda claim: claim.id))
    def extend(self, extended: list[Any]) -> None:
        """Renews what is held and nothing else."""
        held = self._held(extended)
        rows = self.db.call(
            "extend", [c.id for c in extended], [c.token for c in extended], timedelta(seconds=60)
        )
        assert {row.id for row in rows} == held

    # Operate

    @rule(data=st.data(), how=st.sampled_from(["cancel", "cancel_ref", "retry", "redrive"]))
    def cancel_or_retry(self, data: Any, how: str) -> None:
        """Ends what waits, brings back what is finished."""
        if how == "cancel":
            for row in self.db.call("cancel", self._some_ids(data)):
                assert self.db.state(row.id) == row.state
        elif how == "cancel_ref":
            referring = self.db.one("select count(*) from pgqueue.job where ref = 'r'")
            assert self.db.value("cancel_ref", "r") == referring
        elif how == "retry":
            for row in self.db.call("retry", self._some_ids(data)):
                assert self.db.state(row.retry) == "ready"
        else:
            dead = self.db.one("select count(*) from pgqueue.archive where state = 'dead'")
            assert self.db.value("redrive") <= dead

    @rule(queue=queues, how=st.sampled_from(["pause", "resume", "purge one", "purge"]))
    def pause_or_purge(self, queue: str, how: str) -> None:
        """Claims stop or go on, or what waits is deleted."""
        if how in ("pause", "resume"):
            self.db.call(how, queue)
            return
        waiting = self.db.one(
            "select count(*) from pgqueue.job where queue = %s and lease_until is null", queue
        )
        purged = self.db.value("purge", queue, count=1 if how == "purge one" else 100)
        assert purged == min(waiting, 1 if how == "purge one" else 100)
        self.purged += purged

    # Time and upkeep

    @precondition(lambda self: self.travelled < 10 * 86400)
    @rule(seconds=st.sampled_from([1, 31, 4000]))
    def travel(self, seconds: int) -> None:
        """Leases run out and delays end."""
        self.db.travel(seconds=seconds)
        self.travelled += seconds

    @precondition(lambda self: self.travelled < 10 * 86400)
    @rule()
    def all_waits_end(self) -> None:
        """Every lease and every delay is over, and acted upon."""
        self.travel(4000)
        self.reap(100, True)
        self.travel(4000)
        self.promote(100, True)

    @rule(count=st.sampled_from([1, 100]), rescan=st.booleans())
    def promote(self, count: int, rescan: bool) -> None:  # noqa: FBT001
        """What is due becomes ready."""
        due = self.db.one(
            "select count(*) from pgqueue.job where position is null and run_at <= pgqueue.clock()"
        )
        promoted = self.db.value("promote", count, rescan)
        assert promoted <= min(count, due)
        if rescan:
            assert promoted == min(count, due)

    @rule(count=st.sampled_from([1, 100]), rescan=st.booleans())
    def reap(self, count: int, rescan: bool) -> None:  # noqa: FBT001
        """What ran out ends."""
        expired = self.db.one(
            "select count(*) from pgqueue.job where lease_until < pgqueue.clock()"
        )
        reaped = self.db.value("reap", count, rescan)
        assert reaped <= min(count, expired)
        if rescan:
            assert reaped == min(count, expired)

    @rule()
    def maintain(self) -> None:
        """All of it, as it is due."""
        self.db.call("maintain")

    @rule(positions=st.sampled_from([1, 30_000]))
    def others_go_on(self, positions: int) -> None:
        """Positions pass that other lanes use, so that hints move and lanes are forgotten."""
        self.db.rows(
            "select setval('pgqueue.position_seq', nextval('pgqueue.position_seq') + %s)", positions
        )
        self.db.call("_fold_lanes", False)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_lives_of_jobs(connect: Callable[..., Db]) -> None:
    """No sequence of operations breaks what must hold."""
    Life.db = connect(statement_timeout="10s", synchronous_commit="off")
    soaking = settings().max_examples == settings.get_profile("soak").max_examples
    run_state_machine_as_test(
        Life,
        settings=settings(
            settings.get_profile("soak") if soaking else QUICK,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )
