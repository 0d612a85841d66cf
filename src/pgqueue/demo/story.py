"""The demo, from beginning to end."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from pgqueue.client import Client
from pgqueue.demo import files
from pgqueue.demo.audit import Audit, Auditor, Kill
from pgqueue.demo.crew import LEASE, Crew, Member
from pgqueue.demo.screen import Screen
from pgqueue.demo.stage import Stage, stage
from pgqueue.errors import PgqueueError

SCHEMA = "pgqueue_demo"
WORKERS = 2
KILL_AT = 0.6
"""The share of jobs that are done when a worker is killed."""
LOOK_SECONDS = 0.1
PATIENCE_SECONDS = 60.0
"""Without any progress for so long, something is wrong."""
_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class DemoStuck(PgqueueError):
    """No job finished for a long time."""


@attrs.frozen
class Demo:
    """Reads a tree of Python files, one job for each, with two workers, one of which is killed."""

    find: Callable[[], str]
    """Gives the DSN, starting the server if need be."""
    screen: Screen
    root: Path = attrs.field(factory=files.standard_library)
    schema: str = SCHEMA

    def run(self) -> Audit:
        """Plays the demo and gives the audit.

        Whatever ends it, no process is left behind.

        Raises:
            ConfigurationError: no files, or the schema is another's.
            PgqueueError: the workers did not do it.
        """
        found = files.python_files(self.root)
        with _orderly(), stage(self.find, self.schema) as place:
            self.screen.say(_where(place))
            ids = self._enqueue(place.client, found)
            kill = self._work(place.client, len(ids))
            return Auditor(place.client).audit(ids, kill)

    def _enqueue(self, client: Client, found: list[Path]) -> Sequence[int]:
        began = time.perf_counter()
        first = client.enqueue_many(files.jobs(self.root, found))
        seconds = time.perf_counter() - began
        self.screen.say(
            f"{first.enqueued:,} jobs enqueued in {seconds:.1f} s: one for each file in {self.root}"
        )
        again = client.enqueue_many(files.jobs(self.root, found))
        self.screen.say(
            f"Enqueued again while they wait: {again.enqueued:,} added, "
            f"{again.duplicates:,} known by their dedupe keys"
        )
        return first.ids

    def _work(self, client: Client, total: int) -> Kill | None:
        with Crew(client.dsn, self.schema) as crew:
            members = [crew.hire() for _ in range(WORKERS)]
            names = " and ".join(f"{m.name} (process {m.pid})" for m in members)
            self.screen.say(f"{names} started, with leases of {LEASE}")
            self.screen.begin(total)
            try:
                return self._watch(Auditor(client), crew, total)
            finally:
                self.screen.end()

    def _watch(self, auditor: Auditor, crew: Crew, total: int) -> Kill | None:
        kill: Kill | None = None
        done, moved = -1, time.monotonic()
        while done < total:
            counts = auditor.counts()
            self.screen.progress(counts)
            if counts.done != done:
                done, moved = counts.done, time.monotonic()
            elif time.monotonic() - moved > PATIENCE_SECONDS:
                raise DemoStuck(
                    f"no job finished for {PATIENCE_SECONDS:g} s, with {done} of {total} done"
                )
            crew.check()
            if kill is None and KILL_AT * total <= done < total:
                kill = self._kill(auditor, crew)
            time.sleep(LOOK_SECONDS if done < total else 0)
        return kill

    def _kill(self, auditor: Auditor, crew: Crew) -> Kill | None:
        """Kills the worker that holds the most jobs; None if none holds any just now."""
        member: Member = max(crew.members, key=lambda m: auditor.held(m.name))
        if not auditor.held(member.name):
            return None
        crew.kill(member)
        at, held = auditor.now(), auditor.held(member.name)
        self.screen.say(
            f"{member.name} killed with SIGKILL; it held {held} jobs, which nobody gave back"
        )
        successor = crew.hire()
        self.screen.say(f"{successor.name} (process {successor.pid}) started in its place")
        return Kill(member.name, at)


def _where(place: Stage) -> str:
    what = "Database" if place.server is None else f"Embedded Postgres {place.server.version}"
    return f"{what} with an empty schema {place.client.schema!r}: ready in {place.seconds:.1f} s"


@contextmanager
def _orderly() -> Iterator[None]:
    """A signal that ends us lets us put things in order first."""

    def end(number: int, _: object) -> None:
        for name in _ENDING:
            signal.signal(name, signal.SIG_IGN)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)

    before = {name: signal.signal(name, end) for name in _ENDING}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
