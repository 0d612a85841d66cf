"""What an answer to "why does it not run?" consists of. All frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Literal

import attrs

from pgqueue.models import JobState

Subject = Literal["job", "queue", "dedupe key", "schedule"]


class GateLevel(str, Enum):
    """Whether anybody has to do anything."""

    FINE = "fine"
    """All is as it should be."""
    WAITS = "waits"
    """It passes by itself."""
    BLOCKED = "blocked"
    """It does not, until somebody acts."""

    def __str__(self) -> str:
        return self.value


class GateCode(str, Enum):
    """What may stand before a job, or be told of it. docs/why.md says what each means."""

    # A job that waits
    SCHEDULED = "scheduled"
    BACKING_OFF = "backing_off"
    SNOOZED = "snoozed"
    PROMOTION_OVERDUE = "promotion_overdue"
    ROW_LOCKED = "row_locked"
    ALL_PAUSED = "all_paused"
    PAUSED = "paused"
    UNMARKED = "unmarked"
    NO_WORKER = "no_worker"
    NO_KIND = "no_kind"
    FULL = "full"
    PRIORITY = "priority"
    BEHIND = "behind"
    NEXT = "next"
    NOT_TAKEN = "not_taken"
    KEY_TAKEN = "key_taken"
    HORIZON = "horizon"
    # A job that runs
    CANCEL_REQUESTED = "cancel_requested"
    LEASE_OVERDUE = "lease_overdue"
    WORKER_SILENT = "worker_silent"
    SLOW = "slow"
    RUNNING = "running"
    # A job that is finished
    SUCCEEDED = "succeeded"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    DEAD = "dead"
    # A job that is not there
    NEVER_EXISTED = "never_existed"
    UNCOMMITTED = "uncommitted"
    HIDDEN = "hidden"
    GONE = "gone"
    NO_RIGHTS = "no_rights"
    # A queue
    EMPTY = "empty"
    UNKNOWN_QUEUE = "unknown_queue"
    # A dedupe key
    KEY_HELD = "key_held"
    KEY_FREE = "key_free"
    # A schedule
    NO_SCHEDULE = "no_schedule"
    DISABLED = "disabled"
    ENDED = "ended"
    NEXT_SLOT = "next_slot"
    TICK_OVERDUE = "tick_overdue"
    OVERLAP = "overlap"
    SLOT_FAILED = "slot_failed"

    def __str__(self) -> str:
        return self.value


@attrs.frozen(kw_only=True)
class Gate:
    """One thing that stands before a job, or that is to be known of it."""

    code: GateCode
    level: GateLevel
    sentence: str
    """What it is, in one sentence of English."""
    opens_at: datetime | None = None
    """When it passes by itself, if that is known."""
    estimated: bool = False
    """Whether that is an estimate, by the present rate."""
    action: str | None = None
    """What to do, if anything is to be done."""
    facts: Mapping[str, object] = attrs.field(factory=dict)
    """What it is concluded from: numbers, texts, aware datetimes, None, and lists and mappings of
    these."""


@attrs.frozen(kw_only=True)
class Explanation:
    """Why a job, or what a queue, a dedupe key or a schedule is to bring about, does not run."""

    subject: Subject
    name: str
    """The job's id, or the name of what was asked about."""
    at: datetime
    """The moment of all facts, by the database's clock."""
    gates: Sequence[Gate]
    """At least one. The first holds it now, or tells how it is; those behind it come next."""
    job_id: int | None = None
    state: JobState | None = None
    """Of the job; None if there is none, or if something else was asked about."""
    queue: str | None = None
    kind: str | None = None

    @property
    def gate(self) -> Gate:
        """The first gate: the answer."""
        return self.gates[0]

    @property
    def sentence(self) -> str:
        """The answer in one sentence."""
        return self.gate.sentence

    @property
    def level(self) -> GateLevel:
        """Blocked if any gate is, fine if all are."""
        order = list(GateLevel)
        return max((gate.level for gate in self.gates), key=order.index)

    @property
    def found(self) -> bool:
        """Whether there is what was asked about, as far as this role sees."""
        return self.gate.code not in _MISSING


_MISSING = {
    GateCode.NEVER_EXISTED,
    GateCode.UNCOMMITTED,
    GateCode.HIDDEN,
    GateCode.GONE,
    GateCode.NO_SCHEDULE,
    GateCode.UNKNOWN_QUEUE,
}
