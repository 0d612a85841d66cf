"""What the audience sees: a progress bar on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import time
from collections import deque
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from pgqueue.demo.audit import Counts

WINDOW_SECONDS = 2.0
"""The rate shown is that of so long."""
PLAIN_SECONDS = 2.0
"""Without a terminal, a line of progress this often."""


class Screen(Protocol):
    """Where the demo tells its story."""

    def say(self, text: str) -> None:
        """Tells one step."""

    def begin(self, total: int) -> None:
        """The work begins."""

    def progress(self, counts: Counts) -> None:
        """Shows how far it is."""

    def end(self) -> None:
        """The work is over, or given up."""


class Rate:
    """Jobs a second over the last moments."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def update(self, done: int) -> float:
        """The rate, now that so many are done."""
        now = time.monotonic()
        self._seen.append((now, done))
        while now - self._seen[0][0] > WINDOW_SECONDS:
            self._seen.popleft()
        since, before = self._seen[0]
        return (done - before) / (now - since) if now > since else 0.0


class Terminal:
    """A progress bar, with the story above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rate = Rate()
        self._task = TaskID(0)
        self._progress = Progress(
            BarColumn(bar_width=None),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TextColumn("[cyan]{task.fields[rate]:.0f} jobs/s"),
            TextColumn("[yellow]{task.fields[retried]} retried"),
            TextColumn("[red]{task.fields[dead]} dead"),
            TimeElapsedColumn(),
            console=console,
            expand=True,
        )

    def say(self, text: str) -> None:
        """See `Screen`."""
        self._console.print(text, markup=False, highlight=False)

    def begin(self, total: int) -> None:
        """See `Screen`."""
        self._task = self._progress.add_task("", total=total, rate=0.0, retried=0, dead=0)
        self._progress.start()

    def progress(self, counts: Counts) -> None:
        """See `Screen`."""
        self._progress.update(
            self._task, completed=counts.done, rate=self._rate.update(counts.done),
            retried=counts.retried, dead=counts.dead,
        )  # fmt: skip

    def end(self) -> None:
        """See `Screen`."""
        self._progress.stop()


class Plain:
    """Lines, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rate = Rate()
        self._total = 0
        self._next = 0.0

    def say(self, text: str) -> None:
        """See `Screen`."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def begin(self, total: int) -> None:
        """See `Screen`."""
        self._total = total

    def progress(self, counts: Counts) -> None:
        """See `Screen`."""
        rate = self._rate.update(counts.done)
        if time.monotonic() < self._next and counts.done < self._total:
            return
        self._next = time.monotonic() + PLAIN_SECONDS
        done = f"{counts.done:,}/{self._total:,}"
        self.say(f"  {done}  {rate:.0f} jobs/s  {counts.retried} retried  {counts.dead} dead")

    def end(self) -> None:
        """See `Screen`."""


class Silent:
    """Nothing: the audit alone is wanted."""

    def say(self, text: str) -> None:
        """See `Screen`."""

    def begin(self, total: int) -> None:
        """See `Screen`."""

    def progress(self, counts: Counts) -> None:
        """See `Screen`."""

    def end(self) -> None:
        """See `Screen`."""
