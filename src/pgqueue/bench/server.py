"""A server for the measurements alone."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from pgqueue import embedded

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "30min",
}
"""Durable as any server, but no checkpoint in the middle of a measure."""


@contextmanager
def throw_away() -> Iterator[str]:
    """The DSN of an embedded server that is deleted afterwards."""
    with embedded.temporary(settings=SETTINGS) as server:
        yield server.dsn
