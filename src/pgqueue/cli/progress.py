"""A bar on stderr while something takes long; nothing where nobody looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from pgqueue.operations import Count


@contextmanager
def progress(count: Count | None, *, least: int = 0) -> Iterator[Callable[[int], None]]:
    """Gives what is called with how many jobs are done, of `count` (None: nobody knows).

    There is no bar for fewer than `least` jobs.
    """
    console = Console(stderr=True)
    few = count is not None and count.number < least
    total = None if count is None or count.more else count.number
    columns = (
        TextColumn("{task.completed:,.0f}{task.fields[of]}"),
        BarColumn(),
        TimeElapsedColumn(),
    )
    hidden = few or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("", total=total, of="" if count is None else f" of {count}")
        yield lambda done: bar.update(task, completed=done)
