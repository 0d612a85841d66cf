"""Random orders of all operations, compared with the model after every step."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from psycopg.types.json import Jsonb
from tests.faults.harness.report import Report
from tests.faults.harness.run import Run
from tests.faults.lives import ENDS, EPOCH, FINISHED, POLICY, ROWS, WAITING, Model

STEPS_PER_LIFE = 50
LEASE = timedelta(seconds=30)
QUEUES, KINDS = ["a", "b"], ["k", "l"]

job_options = {
    "kind": st.sampled_from(KINDS),
    "queue": st.sampled_from(QUEUES),
    "priority": st.sampled_from([0, 5]),
    "max_attempts": st.sampled_from([1, 2, 20]),
    "delay": st.sampled_from([0, 0, 0, 5, 3600]),
    "on_conflict": st.sampled_from(["return", "replace"]),
    "backoff": st.just(POLICY),
}
keyed = {
    **job_options,
    "dedupe_key": st.sampled_from(["x", "y"]),
    "dedupe_until": st.sampled_from(["start", "finish"]),
    "on_conflict": st.sampled_from(["return", "replace", "raise"]),
    "ref": st.just("r"),
}
one_job = st.fixed_dictionaries(job_options) | st.fixed_dictionaries(keyed)


class Lives(RuleBasedStateMachine):
    """One database, whose clock moves only when it is told to."""

    run_: Run
    conn: psycopg.Connection[Any]
    steps = 0
    jobs = 0
    goal = 0

    claims: Bundle[tuple[int, int]] = Bundle("claims")

    def call(self, text: str, *params: object) -> list[tuple[Any, ...]]:
        """The rows of a function's call."""
        return self.conn.execute(
            f"select * from pgqueue.{text}".encode(), params or None
        ).fetchall()

    def value(self, text: str, *params: object) -> Any:
        """The one value that a function returns."""
        return self.call(text, *params)[0][0]

    def stored(self) -> dict[int, tuple[Any, ...]]:
        """All jobs as they are."""
        rows = self.conn.execute(ROWS).fetchall()
        found = {row[0]: tuple(row) for row in rows}
        assert len(found) == len(rows), "a job in two places"
        return found

    @initialize(keeps=st.booleans())
    def begin(self, keeps: bool) -> None:  # noqa: FBT001 - hypothesis passes it by name
        """An empty database, with or without retention."""
        self.model = Model(keeps=keeps)
        self.conn.execute(
            "truncate pgqueue.job, pgqueue.archive, pgqueue.lane, pgqueue.queue; "
            f"update pgqueue.setting set retention = '{1 if keeps else 0} day'"
        )
        self._set_clock()

    def _set_clock(self) -> None:
        self.conn.execute(
            "create or replace function pgqueue.clock() returns timestamptz language sql volatile "
            f"parallel safe begin atomic select '{self.model.now.isoformat()}'::timestamptz; end"
        )
        self.conn.execute(
            "select setval('pgqueue.' || sequencename, 0) from pg_sequences "
            "where schemaname = 'pgqueue' and min_value = 0"
        )

    @invariant()
    def is_as_the_model_says(self) -> None:
        """Every job, in all that is known of it."""
        Lives.steps += 1
        if Lives.steps <= Lives.goal:
            self.run_.tell(Lives.steps, Lives.goal)
        stored, wanted = self.stored(), self.model.rows()
        wrong = [
            (stored.get(i), wanted.get(i))
            for i in {*stored, *wanted}
            if stored.get(i) != wanted.get(i)
        ]
        assert wrong == [], wrong

    @rule(job=one_job)
    def enqueue(self, job: dict[str, Any]) -> None:
        """Stored, or the holder of its key returned, replaced or told of."""
        names = ", ".join(f"{name} => %s" for name in job)
        values = [
            Jsonb(v) if name == "backoff" else timedelta(seconds=v) if name == "delay" else v
            for name, v in job.items()
        ]
        holder = self.model.enqueue(job)
        if holder is not None and job["on_conflict"] == "raise":
            with pytest.raises(psycopg.Error) as caught:
                self.call(f"enqueue({names})", *values)
            assert (caught.value.sqlstate, caught.value.diag.message_detail) == (
                "PQ001",
                str(holder.id),
            )
            return
        ((job_id, duplicate),) = self.call(f"enqueue({names})", *values)
        assert duplicate == (holder is not None)
        if holder is None:
            self.model.store(job_id, job)
            Lives.jobs += 1
        else:
            assert job_id == holder.id

    @rule(batch=st.lists(one_job, max_size=6))
    def enqueue_many(self, batch: list[dict[str, Any]]) -> None:
        """All of them, or none; keys are taken in the order of their hashes."""
        batch = [
            {**job, "on_conflict": job["on_conflict"].replace("raise", "replace")} for job in batch
        ]
        told = {place: (i, dup) for place, i, dup in self.call("enqueue_many(%s)", Jsonb(batch))}
        for place, job in sorted(enumerate(batch, 1), key=lambda pair: pair[0]):
            holder = self.model.enqueue(job)
            job_id, duplicate = told[place]
            assert duplicate == (holder is not None)
            if holder is None:
                self.model.store(job_id, job)
                Lives.jobs += 1
            else:
                assert job_id == holder.id

    @rule(
        target=claims,
        queues=st.sampled_from([["a"], ["b"], ["b", "a"]]),
        count=st.sampled_from([1, 2, 10]),
        kinds=st.sampled_from([None, ["k"], ["l"]]),
        all_of_it=st.booleans(),
    )
    def claim(self, queues: list[str], count: int, kinds: list[str] | None, all_of_it: bool) -> Any:  # noqa: FBT001
        """Only what is ready, no more than asked for, the oldest of each lane first."""
        ready = self.model.ready(queues, kinds)
        places = dict(self.conn.execute("select id, position from pgqueue.job").fetchall())
        floors = [0] * 10 * len(queues) if all_of_it else None
        rows = self.call("claim(%s, %s, %s, %s, 'w', %s)", queues, count, LEASE, kinds, floors)
        taken = {row[0] for row in rows}
        assert len(taken) == len(rows) <= count
        assert taken <= ready.keys()
        if all_of_it:
            assert len(taken) == min(count, len(ready))
            for one in taken:
                for other in ready.keys() - taken:
                    lane = (ready[one].queue, ready[one].priority)
                    if lane == (ready[other].queue, ready[other].priority):
                        assert places[one] < places[other], "not first in, first out"
        for row in rows:
            self.model.claim(ready[row[0]], row[1], LEASE)
        return multiple(*((row[0], row[1]) for row in rows))

    @rule(
        ended=st.lists(claims, min_size=1, max_size=5, unique_by=lambda claim: claim[0]),
        how=st.sampled_from([*ENDS, "fail", "snooze", "release"]),
        delay=st.sampled_from([0, 5, 3600]),
    )
    def end(self, ended: list[tuple[int, int]], how: str, delay: int) -> None:
        """What is held ends, what is repeated does no harm, and what is lost is named."""
        ids, tokens = [c[0] for c in ended], [c[1] for c in ended]
        held = [self.model.jobs[i] for i, token in ended if self.model.held(i, token)]
        lost = {
            i for i, token in ended
            if not self.model.held(i, token) and not self.model.repeated(how, i, token)
        }  # fmt: skip
        span = timedelta(seconds=delay)
        more = (", %s", [span] * len(ended)) if how == "snooze" else ("",)
        told = self.value(f"{how}(%s, %s{more[0]})", ids, tokens, *more[1:])
        assert set(told) == lost
        if how in ENDS:
            for job in held:
                self.model.end(how, job)
        else:
            self.model.put_back(how, held, span if how == "snooze" else None)

    @rule(extended=st.lists(claims, min_size=1, max_size=5, unique_by=lambda claim: claim[0]))
    def extend(self, extended: list[tuple[int, int]]) -> None:
        """Renews what is held and nothing else, and brings word of cancellations."""
        ids, tokens = [c[0] for c in extended], [c[1] for c in extended]
        told = dict(self.call("extend(%s, %s, %s)", ids, tokens, 2 * LEASE))
        held = [self.model.jobs[i] for i, token in extended if self.model.held(i, token)]
        assert told == {job.id: job.cancel_requested for job in held}
        for job in held:
            job.lease_until = self.model.now + 2 * LEASE

    def _some(self, data: st.DataObject) -> list[int]:
        ids = sorted(self.model.jobs)
        return data.draw(st.lists(st.sampled_from(ids), max_size=4, unique=True)) if ids else []

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """What waits is over, what runs is asked to stop."""
        ids = self._some(data)
        told = dict(self.call("cancel(%s::bigint[])", ids))
        open_ = [self.model.jobs[i] for i in ids if self.model.jobs[i].state not in FINISHED]
        assert told == {job.id: self.model.cancel(job) for job in open_}

    @rule()
    def cancel_ref(self) -> None:
        """All that refer to it."""
        found = [j for j in self.model.jobs.values() if j.ref == "r" and j.state not in FINISHED]
        assert self.value("cancel_ref('r')") == len(found)
        for job in found:
            self.model.cancel(job)

    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        """Brings back what is finished, unless its key is held."""
        ids = self._some(data)
        assert {row[0] for row in self.call("retry(%s::bigint[])", ids)} == self.model.retry(ids)

    @rule(count=st.sampled_from([1, 100]))
    def redrive(self, count: int) -> None:
        """The dead ones, the oldest first."""
        wanted = self.model.retry(self.model.redriven(count))
        assert self.value("redrive(count => %s)", count) == len(wanted)

    @rule(queue=st.sampled_from(QUEUES), how=st.sampled_from(["pause", "resume"]))
    def pause_or_resume(self, queue: str, how: str) -> None:
        """Claims stop, or go on."""
        told = self.value(f"{how}(%s)", queue)
        if how == "pause":
            self.model.paused.add(queue)
        else:
            assert told == (queue in self.model.paused)
            self.model.paused.discard(queue)

    @rule(queue=st.sampled_from(QUEUES), count=st.sampled_from([1, 100]))
    def purge(self, queue: str, count: int) -> None:
        """Deletes what waits, what is ready first."""
        waiting = {
            j.id: j for j in self.model.jobs.values() if j.queue == queue and j.state in WAITING
        }
        assert self.value("purge(%s, count => %s)", queue, count) == min(count, len(waiting))
        gone = self.model.jobs.keys() - self.stored().keys()
        assert gone <= waiting.keys()
        states = {waiting[i].state for i in gone}
        left = {waiting[i].state for i in waiting.keys() - gone}
        assert not ("scheduled" in states and "ready" in left)
        for job_id in gone:
            del self.model.jobs[job_id]

    @rule(seconds=st.sampled_from([1, 5, 31, 4000]))
    def time_passes(self, seconds: int) -> None:
        """Leases run out and delays end."""
        if self.model.now < EPOCH + timedelta(days=2):
            self.model.now += timedelta(seconds=seconds)
            self._set_clock()

    @rule(rescan=st.booleans())
    def promote(self, rescan: bool) -> None:  # noqa: FBT001
        """What is due becomes ready; without a rescan perhaps not all of it."""
        due = self.model.due()
        promoted = self.value("promote(100, %s)", rescan)
        assert promoted <= len(due)
        self._take_over_promoted(complete=rescan)

    def _take_over_promoted(self, *, complete: bool) -> None:
        stored = self.stored()
        for job in self.model.due():
            if complete or stored[job.id][5] == "ready":
                job.state = "ready"

    @rule(rescan=st.booleans())
    def reap(self, rescan: bool) -> None:  # noqa: FBT001
        """What ran out is put back, or is dead; without a rescan perhaps not all of it."""
        reaped = self.value("reap(100, %s)", rescan)
        assert reaped == self._take_over_reaped(complete=rescan)

    def _take_over_reaped(self, *, complete: bool) -> int:
        stored = self.stored()
        over = [
            job for job in self.model.expired()
            if complete or job.id not in stored or stored[job.id][5] != "claimed"
        ]  # fmt: skip
        self.model.put_back("reap", over)
        return len(over)

    @rule()
    def maintain(self) -> None:
        """Both, as they are due; the first call since time passed rescans."""
        promoted, reaped, _ = self.call("maintain()")[0]
        before = len(self.model.due())
        self._take_over_promoted(complete=False)
        assert promoted == before - len(self.model.due())
        assert reaped == self._take_over_reaped(complete=False)


def run(run: Run) -> Report:
    """At least so many steps; any difference raises, with the steps that led to it."""
    goal = run.count(600, 50_000)
    Lives.run_, Lives.steps, Lives.jobs, Lives.goal = run, 0, 0, goal
    with psycopg.connect(run.dsn(), autocommit=True) as conn:
        conn.execute("set synchronous_commit = off")
        conn.execute("set statement_timeout = '30s'")
        Lives.conn = conn
        for part in range(100):
            if Lives.steps >= goal:
                break
            lives = max((goal - Lives.steps) // STEPS_PER_LIFE, 1)
            _play(run.seed + part, lives)
    report = Report(faults=Lives.steps, jobs=Lives.jobs)
    report.promise("steps short of what was to be played", max(goal - Lives.steps, 0), 0)
    report.notes.append(f"{Lives.steps:,} steps, each compared with the model")
    return report


def _play(number: int, lives: int) -> None:
    machine = seed(number)(Lives)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=lives,
            stateful_step_count=STEPS_PER_LIFE,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )
