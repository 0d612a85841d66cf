"""What an examination gives, and what it is measured by."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum

import attrs

_MINUTE = timedelta(minutes=1)


class Level(str, Enum):
    """How much a finding matters."""

    OK = "ok"
    NOTICE = "notice"
    """Worth knowing; nothing has to be done. Also what could not be looked at."""
    WARNING = "warning"
    """Will hurt, or does already: see to it."""
    CRITICAL = "critical"
    """Jobs do not run, or may be lost: see to it now."""

    @property
    def needs_attention(self) -> bool:
        """Whether somebody should do something."""
        return self in (Level.WARNING, Level.CRITICAL)

    def __str__(self) -> str:
        return self.value


@attrs.frozen
class Finding:
    """One thing that was looked at."""

    check: str
    """The check's name; a check may have several findings."""
    level: Level
    seen: str
    """With figures and their units."""
    advice: str = ""
    """The SQL or command that helps; empty where nothing has to be done."""


@attrs.frozen
class Sign:
    """A finding of a check that has no need to know its own name."""

    level: Level
    seen: str
    advice: str = ""


def ok(seen: str) -> Sign:
    """All is well."""
    return Sign(Level.OK, seen)


def notice(seen: str, advice: str = "") -> Sign:
    """Worth knowing."""
    return Sign(Level.NOTICE, seen, advice)


def warning(seen: str, advice: str) -> Sign:
    """See to it."""
    return Sign(Level.WARNING, seen, advice)


def critical(seen: str, advice: str) -> Sign:
    """See to it now."""
    return Sign(Level.CRITICAL, seen, advice)


@attrs.frozen(kw_only=True)
class Limits:
    """From where on something is a finding. What is ten or twelve times worse is critical."""

    snapshot: timedelta = 5 * _MINUTE
    """How long a transaction may keep vacuum from removing dead rows."""
    snapshot_xids: int = 100_000
    """The same in transactions that began since."""
    kept_wal: int = 2**30
    """Bytes of WAL that a replication slot without a reader keeps."""
    dead_rows: int = 100_000
    """Dead rows of the table `job`, while it was not vacuumed for `unvacuumed`."""
    unvacuumed: timedelta = 5 * _MINUTE
    index_size: int = 256 * 2**20
    """Bytes of an index of `job` that has over 1,000 bytes for each job."""
    frozen_share: float = 1.2
    """Age of the oldest transaction id, as a share of autovacuum_freeze_max_age."""
    connections_share: float = 0.8
    """Of those that are not reserved."""
    statement_timeout: timedelta = timedelta(seconds=10)
    """What cancels statements or ends transactions sooner than this gets in the way of upkeep."""
    skew: timedelta = timedelta(seconds=1)
    """Between this machine's clock and the database's."""
    notifications_share: float = 0.1
    """Of the queue of notifications that is full."""
    late: timedelta = _MINUTE
    """How long after its time a job may be made ready, or an expired claim be ended."""
    held: timedelta = timedelta(hours=1)
    """How long a job runs."""
    wait: timedelta = 5 * _MINUTE
    """How long a ready job waits."""
    paused: timedelta = timedelta(days=1)
    """How long a queue is paused while jobs wait in it."""
    overdue: timedelta = 5 * _MINUTE
    """How long after its slot a schedule may be fired."""
    died: int = 10
    """Jobs of one kind that died within the last hour."""
