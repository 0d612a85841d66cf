"""Tells open pages that something has changed, by server-sent events.

One look at the database serves all who listen. It counts nothing: it reads the counters that
Postgres keeps of each table anyway. What a page shows it then asks for itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import weakref
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool

from pgqueue.dashboard.cache import Cached

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pgqueue.dashboard.database import Database

EVERY = 1.5
"""Seconds between two looks, while somebody listens."""
STREAM = 25.0
"""Seconds after which a stream ends; the browser asks again, and its session is looked at again.

Short, so that a server which waits for its connections to end can end itself.
"""
MOST = 200
"""Streams in a process; those beyond are told to ask now and then instead."""
LOST = "lost"
"""What is told while the database cannot be reached."""
# Sequences move with each enqueue and promotion; the counters follow within a second, or ten where
# the session that did it does nothing more.
_VERSION = """
select (select string_agg(last_value::text, ',' order by sequencename) from pg_catalog.pg_sequences
        where schemaname = '@extschema:name@' and sequencename in ('job_id_seq', 'position_seq')),
    (select sum(n_tup_ins + n_tup_upd + n_tup_del) from pg_catalog.pg_stat_user_tables
        where schemaname = '@extschema:name@' and relname !~ '^(lane|sleeper|job_count)'),
    (select string_agg(q::text, '' order by q.name) from @extschema@.queue q)
"""


class Live:
    """The version of what there is to see."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.version: Cached[str] = Cached(self._look, EVERY * 0.8)
        self._streams: weakref.WeakSet[object] = weakref.WeakSet()

    def _look(self) -> str:
        (row,) = self._database.rows(_VERSION)
        return hashlib.sha256(repr(row).encode()).hexdigest()[:16]

    @property
    def full(self) -> bool:
        """Whether no more streams are served."""
        return len(self._streams) >= MOST

    def _now(self) -> str:
        try:
            return self.version.get().value
        except Exception:  # noqa: BLE001 - whatever it is, the next look may find it gone
            return LOST

    async def events(self) -> AsyncIterator[str]:
        """A stream of versions: the present one, and each that differs from the one before."""
        mark = _Mark()
        self._streams.add(mark)
        end = time.monotonic() + STREAM
        told = None
        yield "retry: 1000\n\n"
        while True:
            version = await run_in_threadpool(self._now)
            if version != told:
                told = version
                yield f"event: version\ndata: {version}\n\n"
            if time.monotonic() > end:
                return
            await asyncio.sleep(EVERY)


class _Mark:
    """Stands for a stream that goes on."""
