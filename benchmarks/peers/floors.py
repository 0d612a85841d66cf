"""What the same cluster does with the same rows and no queue around them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.peers.bench import Bench

from pgqueue.bench.bare import Bare
from pgqueue.client import Client

COPY = "floor: raw COPY"
LOOP = "floor: claim 100, delete"
BATCH = 100


def copy(bench: Bench, count: int) -> float:
    """Rows per second of a COPY into a table with the columns and indexes of pgqueue's job."""
    with _bare(bench) as bare:
        return count / bare.copy(count)


def loop(bench: Bench, count: int) -> float:
    """Jobs per second of one connection that claims a hundred and deletes them, in turn."""
    with _bare(bench) as bare:
        bare.fill(count)
        done, seconds = bare.drain(BATCH, keep=False)
        return done / seconds


@contextmanager
def _bare(bench: Bench) -> Iterator[Bare]:
    dsn = bench.cluster.create("floor")
    with Client(dsn) as client:
        client.migrate()
        bare = Bare(dsn, client.schema)
    try:
        bare.create()
        yield bare
    finally:
        bare.close()
