"""Random lives of jobs in a database whose clock stands still, beside an exact model of them.

After each step every job is in the state, with the attempt, token, time and options that the model
says. What the queue may decide for itself (which lane comes first, what a call without a rescan
finds) is read from it and has to be one of the allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import attrs

EPOCH = datetime(2031, 1, 1, tzinfo=timezone.utc)
BACKOFF = timedelta(seconds=10)
POLICY = {"delays": [BACKOFF.total_seconds()], "jitter": 0}
WAITING = ("ready", "scheduled")
FINISHED = ("succeeded", "dead", "cancelled", "skipped")
ENDS = {"ack": "succeeded", "skip": "skipped", "cancel_claimed": "cancelled"}


@attrs.define
class One:
    """A job as it has to be."""

    id: int
    kind: str
    queue: str
    priority: int
    max_attempts: int
    state: str
    run_at: datetime
    key: str | None = None
    until: str | None = None
    ref: str | None = None
    attempt: int = 0
    token: int | None = None
    claimed_at: datetime | None = None
    lease_until: datetime | None = None
    cancel_requested: bool = False
    history: int = 0

    @property
    def holds_key(self) -> bool:
        """Whether its key is taken by it."""
        if self.key is None or self.state in FINISHED:
            return False
        return self.until == "finish" or self.state != "claimed"

    def row(self) -> tuple[Any, ...]:
        """What the database has to say of it."""
        return (
            self.id, self.kind, self.queue, self.priority, self.max_attempts, self.state,
            self.run_at, self.key, self.until, self.ref, self.attempt, self.token,
            self.lease_until if self.state == "claimed" else None,
            self.cancel_requested and self.state == "claimed", self.history,
        )  # fmt: skip


ROWS = """
select id, kind, queue, priority, max_attempts, case when lease_until is not null then 'claimed'
    when position is not null then 'ready' else 'scheduled' end, run_at, dedupe_key, dedupe_until,
    ref, attempt, token, lease_until, cancel_requested, coalesce(jsonb_array_length(history), 0)
from pgqueue.job
union all
select id, kind, queue, priority, max_attempts, state, run_at, dedupe_key, dedupe_until, ref,
    attempt, token, null, false, coalesce(jsonb_array_length(history), 0)
from pgqueue.archive
"""


@attrs.define
class Model:
    """All jobs, and what the operations do to them."""

    now: datetime = EPOCH
    jobs: dict[int, One] = attrs.field(factory=dict)
    paused: set[str] = attrs.field(factory=set)
    keeps: bool = True
    """Whether finished jobs other than dead ones are kept."""

    def rows(self) -> dict[int, tuple[Any, ...]]:
        """As the database has to have them."""
        return {job.id: job.row() for job in self.jobs.values()}

    def holder(self, kind: str, key: str | None) -> One | None:
        """Who has the key."""
        found = [j for j in self.jobs.values() if j.holds_key and (j.kind, j.key) == (kind, key)]
        assert len(found) <= 1
        return found[0] if found else None

    def enqueue(self, given: dict[str, Any]) -> One | None:
        """The holder of its key, as it is afterwards; None if it is to be stored."""
        holder = self.holder(given["kind"], given.get("dedupe_key"))
        if holder is not None and given["on_conflict"] == "replace" and holder.state in WAITING:
            holder.attempt = 0
            self._set(holder, given)
        return holder

    def store(self, job_id: int, given: dict[str, Any]) -> None:
        """It got this id."""
        assert job_id not in self.jobs
        job = One(job_id, given["kind"], "", 0, 0, "", self.now, given.get("dedupe_key"))
        self._set(job, given)
        self.jobs[job_id] = job

    def _set(self, job: One, given: dict[str, Any]) -> None:
        job.queue, job.priority = given["queue"], given["priority"]
        job.max_attempts, job.ref = given["max_attempts"], given.get("ref")
        job.until = given.get("dedupe_until")
        self._wait(job, timedelta(seconds=given["delay"]))

    def _wait(self, job: One, delay: timedelta) -> None:
        job.run_at = self.now + delay
        job.state = "scheduled" if delay > timedelta(0) else "ready"

    def ready(self, queues: Iterable[str], kinds: Sequence[str] | None) -> dict[int, One]:
        """What may be claimed."""
        return {
            job.id: job
            for job in self.jobs.values()
            if job.state == "ready" and job.queue in queues and job.queue not in self.paused
            and (kinds is None or job.kind in kinds)
        }  # fmt: skip

    def claim(self, job: One, token: int, lease: timedelta) -> None:
        """It was claimed."""
        job.state, job.token, job.claimed_at = "claimed", token, self.now
        job.attempt += 1
        job.lease_until = self.now + lease

    def held(self, job_id: int, token: int) -> bool:
        """Whether that claim is still good, be its lease over or not."""
        job = self.jobs.get(job_id)
        return job is not None and job.state == "claimed" and job.token == token

    def repeated(self, how: str, job_id: int, token: int) -> bool:
        """Whether the call is known to have gone through before."""
        job = self.jobs.get(job_id)
        if job is None or job.token != token:
            return False
        if how in ENDS:
            return job.state == ENDS[how]
        return job.state in (*WAITING, "dead", "cancelled", "skipped")

    def finish(self, job: One, state: str, history: int = 1) -> None:
        """It is over."""
        job.state, job.history = state, min(job.history + history, 20)
        if not self.keeps and state != "dead":
            del self.jobs[job.id]

    def end(self, how: str, job: One) -> None:
        """Its holder ends it for good, without a reason that would go to its history."""
        self.finish(job, ENDS[how], 0)

    def put_back(self, how: str, jobs: Sequence[One], delay: timedelta | None = None) -> None:
        """Attempts end, and not their jobs, unless there is a reason."""
        counted = how in ("fail", "reap")
        for job in jobs:
            if how == "reap":
                job.token = None
        waiting = []
        for job in jobs:
            if job.cancel_requested:
                self.finish(job, "cancelled")
            elif counted and job.attempt >= job.max_attempts:
                self.finish(job, "dead")
            else:
                waiting.append(job)
        for job in sorted(waiting, key=lambda job: job.id):
            if job.until == "start" and self.holder(job.kind, job.key):
                self.finish(job, "skipped")
                continue
            before = job.run_at
            wait = BACKOFF if delay is None else delay
            if how == "reap":
                assert job.claimed_at is not None
                wait = max(BACKOFF - (self.now - job.claimed_at), timedelta(0))
            self._wait(job, timedelta(0) if how == "release" else wait)
            if how == "release":
                job.run_at = before
            else:
                job.history = min(job.history + 1, 20)
            job.attempt -= not counted

    def expired(self) -> list[One]:
        """Claims whose lease is over."""
        return [
            j
            for j in self.jobs.values()
            if j.state == "claimed" and j.lease_until and j.lease_until < self.now
        ]

    def due(self) -> list[One]:
        """Scheduled jobs whose time has come."""
        return [j for j in self.jobs.values() if j.state == "scheduled" and j.run_at <= self.now]

    def cancel(self, job: One) -> str:
        """What `cancel` says of it."""
        if job.state == "claimed":
            job.cancel_requested = True
            return "claimed"
        self.finish(job, "cancelled")
        return "cancelled"

    def retry(self, ids: Iterable[int]) -> set[int]:
        """Those that will run."""
        found = [self.jobs[i] for i in set(ids) if i in self.jobs]
        some = [job for job in found if job.state in ("scheduled", *FINISHED)]
        back = set()
        for job in sorted(some, key=lambda job: job.id):
            if job.state in FINISHED:
                if job.key is not None and self.holder(job.kind, job.key):
                    continue
                job.attempt, job.cancel_requested, job.claimed_at = 0, False, None
            self._wait(job, timedelta(0))
            back.add(job.id)
        return back

    def redriven(self, count: int) -> list[int]:
        """The dead ones that `redrive` looks at."""
        dead = sorted(
            j.id for j in self.jobs.values() if j.state == "dead" and not self.holder(j.kind, j.key)
        )
        return dead[:count]
