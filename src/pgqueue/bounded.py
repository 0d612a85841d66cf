"""psycopg's connections, except that no wait for the server lasts for ever.

A connection may be gone without anybody being told: a firewall forgets it, a machine loses its
power. Then no answer comes, and no error either. libpq's own means reach no further than the
network: none of them notices a proxy that has lost its server.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg

from pgqueue.prepared import Prepared

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

REPLY_TIMEOUT = timedelta(seconds=60)
"""After so long a silence, while the server is to answer, a connection is given up."""


class _Preparing:
    """A connection that keeps what it has prepared."""

    _kept: Prepared | None = None

    @property
    def prepared(self) -> Prepared:
        """What was prepared here."""
        if self._kept is None:
            conn: Any = self
            self._kept = Prepared(conn)
        return self._kept


class BoundedConnection(_Preparing, psycopg.Connection[Any]):
    """For threads."""

    reply_timeout = REPLY_TIMEOUT.total_seconds()

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Raises `psycopg.OperationalError` after so long a silence."""
        return super().wait(_bounded(gen, self.reply_timeout), *args, **kwargs)


class BoundedAsyncConnection(_Preparing, psycopg.AsyncConnection[Any]):
    """For asyncio."""

    reply_timeout = REPLY_TIMEOUT.total_seconds()

    async def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """See `BoundedConnection.wait`."""
        try:
            return await super().wait(_bounded(gen, self.reply_timeout), *args, **kwargs)
        except psycopg.OperationalError as error:
            # Cancelled, psycopg asks the server to stop and waits for that. That the server does
            # not say so must not hide the cancellation, as it does before 3.3.
            if isinstance(error.__context__, asyncio.CancelledError):
                raise error.__context__ from None
            raise


@contextmanager
def patient(conn: Any, seconds: float) -> Iterator[None]:  # noqa: ANN401 - a pool's may be any
    """Lets `conn` wait for longer; one that is not of ours waits as it does."""
    if not isinstance(conn, (BoundedConnection, BoundedAsyncConnection)):
        yield
        return
    before = conn.reply_timeout
    conn.reply_timeout = max(before, seconds)
    try:
        yield
    finally:
        conn.reply_timeout = before


def _bounded(gen: Any, seconds: float) -> Generator[Any, Any, Any]:  # noqa: ANN401
    """`gen`, which psycopg asks several times a second while nothing comes."""
    try:
        wanted = next(gen)
        until = time.monotonic() + seconds
        while True:
            ready = yield wanted
            if ready:
                until = time.monotonic() + seconds
            elif time.monotonic() > until:
                raise psycopg.OperationalError(
                    f"no answer within {seconds:g} s, so the connection is given up; "
                    "nobody knows whether the statement went through"
                )
            wanted = gen.send(ready)
    except StopIteration as end:
        return end.value
