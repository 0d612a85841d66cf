"""The audit outside the queue: what processes saw and did, in files that only grow.

Each process appends to a file of its own, a line in one write, so that a SIGKILL loses nothing that
was written and tears no line.
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import psycopg

from pgqueue import Job

from .report import Report


@attrs.frozen
class Entry:
    """One line."""

    what: str
    """accepted, started, finished, acked, ended (in another way), refused, gone (the process)."""
    pid: int
    at: float
    """By the machine's monotonic clock, which all processes share."""
    job: int = 0
    token: int = 0
    claimed_at: float = 0.0
    """Of a start: seconds since 1970 by the database's clock."""
    lease_until: float = 0.0
    """Of a start: as the claim gave it; a heartbeat only makes it later."""
    number: int = 0
    """Of a start: the job's attempt."""


@attrs.define
class Ledger:
    """Writes and reads the ledger in `folder`; any number of processes may have one."""

    folder: Path
    _mine: tuple[int, int] = attrs.field(default=(0, -1), init=False)
    """A process and its file; changed at once, since threads write, too."""

    def accepted(self, ids: Iterable[int]) -> None:
        """The enqueue of these jobs has returned."""
        for job in ids:
            self._write("accepted", job)

    def started(self, job: Job[Any]) -> None:
        """A handler is about to run."""
        claimed_at, lease_until = job.claimed_at.timestamp(), job.lease_until.timestamp()
        self._write("started", job.id, job.token, claimed_at, lease_until, job.attempt)

    def finished(self, job: Job[Any]) -> None:
        """The handler has done its work; nobody has been told yet."""
        self._write("finished", job.id, job.token)

    def acked(self, job: int, token: int) -> None:
        """The queue has confirmed the ack by this claim."""
        self._write("acked", job, token)

    def ended(self, job: int, token: int) -> None:
        """The queue has confirmed another end of this claim: its lease binds nobody any more."""
        self._write("ended", job, token)

    def refused(self, job: int, token: int) -> None:
        """The queue has told the holder of this claim that it is lost."""
        self._write("refused", job, token)

    def gone(self, pid: int) -> None:
        """From now on that process does nothing; what it ran has to run elsewhere."""
        self._write("gone", pid)

    def _write(self, *fields: object) -> None:
        pid, file = self._mine
        if pid != os.getpid():  # at first, and after a fork
            pid = os.getpid()
            path = self.folder / f"{pid}.ledger"
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._mine = pid, file
        what, *rest = fields
        line = " ".join(map(repr, (pid, time.monotonic(), *rest)))
        os.write(file, f"{what} {line}\n".encode())

    def read(self) -> Book:
        """All that was written until now, in order of time."""
        entries = [
            _parse(line)
            for path in self.folder.glob("*.ledger")
            for line in path.read_text().splitlines()
        ]
        return Book(sorted(entries, key=lambda entry: entry.at))

    def unstarted(self, dsn: str) -> list[Claim]:
        """Claims that expired before a handler was started: made ahead, or cut off."""
        begun = {
            (job, start.number) for job, all_of in self.read().starts.items() for start in all_of
        }
        return [claim for claim in expired(dsn) if (claim.job, claim.attempt) not in begun]


def _parse(line: str) -> Entry:
    what, pid, at, *rest = line.split()
    if what == "gone":
        return Entry(what, int(rest[0]), float(at))
    job, token, claimed_at, lease_until, number, *_ = [*rest, *"00000"]
    claim = (int(job), int(token), float(claimed_at), float(lease_until), int(number))
    return Entry(what, int(pid), float(at), *claim)


@attrs.frozen(slots=False)
class Book:
    """The entries of all processes."""

    entries: list[Entry]

    def jobs(self, what: str) -> set[int]:
        """The jobs that have such an entry."""
        return {entry.job for entry in self.entries if entry.what == what}

    @cached_property
    def starts(self) -> Mapping[int, list[Entry]]:
        """Each job's starts, in the order of its claims."""
        starts = defaultdict(list)
        for entry in self.entries:
            if entry.what == "started":
                starts[entry.job].append(entry)
        return {job: sorted(those, key=lambda e: e.claimed_at) for job, those in starts.items()}

    def claims(self, *what: str) -> set[tuple[int, int]]:
        """The claims, each as job and token, that have such entries."""
        return {(entry.job, entry.token) for entry in self.entries if entry.what in what}

    @cached_property
    def over(self) -> set[tuple[int, int]]:
        """The claims whose holder ended them."""
        return self.claims("acked", "ended")

    def underway(self, pids: Container[int]) -> set[tuple[int, int]]:
        """Claims that these processes have started, and have not heard the end of."""
        begun = {(e.job, e.token) for e in self.entries if e.what == "started" and e.pid in pids}
        return begun - self.claims("acked", "ended", "refused")

    @property
    def executions(self) -> int:
        """How often a handler was started."""
        return sum(map(len, self.starts.values()))

    def double_acked(self) -> set[int]:
        """Jobs that more than one claim has acked; to repeat one's own ack is harmless."""
        acks = Counter(job for job, _ in self.claims("acked"))
        return {job for job, count in acks.items() if count > 1}

    def overlapping(self) -> list[tuple[Entry, Entry]]:
        """Pairs of claims: the second was made while the first one's lease bound others."""
        return [
            (first, second)
            for starts in self.starts.values()
            for first, second in pairwise(starts)
            if second.claimed_at < first.lease_until
            and second.token != first.token
            and (first.job, first.token) not in self.over
        ]

    def undone(self) -> list[tuple[Entry, Entry]]:
        """Those of them of which a crash or failover undid the first: its number was given again.

        Its holder may still run the job, or only begin to; that it cannot end it any more is what
        `double_acked` says.
        """
        pairs = self.overlapping()
        return [(first, second) for first, second in pairs if second.number <= first.number]

    @cached_property
    def _gone(self) -> Mapping[int, list[float]]:
        gone = defaultdict(list)
        for entry in self.entries:
            if entry.what == "gone":
                gone[entry.pid].append(entry.at)
        return gone

    def recoveries(self, expired: Iterable[Claim]) -> list[float]:
        """Seconds from the end of a process until each job that it held was started elsewhere.

        Whether it had been started before or was only claimed ahead. A job whose next holder is hit
        in turn before it starts it counts from there: each fault has to be recovered from in time.
        """
        found: list[float] = []
        for claim in expired:
            starts = self.starts.get(claim.job, [])
            start = next((s for s in starts if s.number == claim.attempt + 1), None)
            if start is not None:
                # The last time, since a process that was stopped goes on, and is stopped again.
                gone = [at for at in self._gone.get(claim.pid, []) if at <= start.at]
                found += [start.at - at for at in gone[-1:]]
        return found


@attrs.frozen
class Claim:
    """A claim whose lease ran out, as the job's history has it."""

    job: int
    attempt: int
    pid: int
    """Of the worker's process; 0 if the worker's name does not tell."""


def audit(dsn: str, ledger: Ledger, *, ends: Mapping[int, str] | None = None) -> Report:
    """The account of all jobs of a database and a ledger, once everybody has stopped.

    Args:
        dsn: the database.
        ledger: what the processes wrote.
        ends: the states in which jobs had to end; those that are not named: succeeded.
    """
    book = ledger.read()
    accepted = book.jobs("accepted")
    with psycopg.connect(dsn) as conn:
        rows = conn.execute("select id, state from pgqueue.all_jobs").fetchall()
    states: dict[int, str] = dict(rows)
    wanted = ends or {}
    executed = book.jobs("finished")
    lost = {
        job
        for job in accepted
        if states.get(job) != wanted.get(job, "succeeded")
        or (states[job] == "succeeded" and job not in executed)
    }
    twice = {job for job, count in Counter(job for job, _ in rows).items() if count > 1}
    report = Report(
        jobs=len(accepted),
        lost=len(lost),
        double_acked=len(book.double_acked() | twice),
        overlapping=len(book.overlapping()),
        re_executed=book.executions - len(book.starts),
        recovery=book.recoveries(expired(dsn)),
    )
    if lost:
        some = ", ".join(f"{job} ({states.get(job, 'no row')})" for job in sorted(lost)[:5])
        report.notes.append(f"lost, for example: {some}")
    if unknown := len(states.keys() - accepted):
        report.notes.append(f"{unknown} jobs are stored whose enqueue never returned")
    return report


def expired(dsn: str) -> list[Claim]:
    """All claims whose lease ran out, as far as the jobs' histories go back: 20 attempts."""
    with psycopg.connect(dsn) as conn:
        return [Claim(*row) for row in conn.execute(_EXPIRED)]


# A worker is called name:pid:uuid.
_EXPIRED = """
    select j.id, (h->>'attempt')::int, coalesce(substring(h->>'worker' from ':(\\d+):'), '0')::int
    from pgqueue.all_jobs j, jsonb_array_elements(j.history) h
    where h->>'outcome' = 'expired'"""
