"""What waits in the database, as gauges: looked at when it is scraped, and not too often."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import psycopg
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from pgqueue.aclient import AsyncClient
from pgqueue.client import Client
from pgqueue.errors import ConfigurationError, SchemaError
from pgqueue.masking import first_line
from pgqueue.metrics import catalog
from pgqueue.metrics.render import families
from pgqueue.metrics.tallies import Labels, Tallies
from pgqueue.statements import DEFAULT_SCHEMA
from pgqueue.vitals import Vitals, vitals

if TYPE_CHECKING:
    from pgqueue.models import QueueStats

logger = logging.getLogger("pgqueue.metrics")

SHARE = 25
"""A look that took a second is not repeated within so many, as with the upkeep of workers."""
LONGEST = 600.0
"""Seconds, however long it took."""


class QueueMetrics(Collector):
    """What waits in the database, for a registry of prometheus_client.

    One scraper is enough for a database: all see the same. A role with `viewer` may look; what it
    sees of old snapshots of other roles needs `pg_monitor`.

    It looks when it is scraped, and at most every so often; in between it gives what it saw. There
    are two parts, each with a transaction, a deadline and a pace of its own: "vitals" reads next to
    nothing, "counts" counts all unfinished and all dead jobs, a second per few million. What took
    long is repeated the later. A part whose look failed has no gauges but
    `pgqueue_sample_success`, which is 0.

    Args:
        target: a client (only its DSN and schema are used), a DSN, or None as in `Client`.
        every: how often to look at most.
        deadline: of each look.
        most_queues: so many have a label of their own, the fullest first; the others are "other".
        schema: the schema, unless a client says.

    Raises:
        ConfigurationError: an argument cannot be.
    """

    def __init__(
        self,
        target: Client | AsyncClient | str | None = None,
        *,
        every: timedelta = timedelta(seconds=15),
        deadline: timedelta = timedelta(seconds=5),
        most_queues: int = 100,
        schema: str | None = None,
    ) -> None:
        spans: list[tuple[object, str]] = [(every, "every"), (deadline, "deadline")]
        for span, name in spans:
            if not isinstance(span, timedelta) or span <= timedelta(0):
                raise ConfigurationError(f"{name} is {span!r}; pass a timedelta of more than 0")
        if isinstance(target, (Client, AsyncClient)):
            schema, target = schema or target.schema, target.dsn
        self._client = Client(
            target, schema=schema or DEFAULT_SCHEMA, pool_size=1, reply_timeout=2 * deadline
        )
        self._deadline = deadline
        self._most_queues = most_queues
        self._lock = threading.Lock()
        self._parts = [
            _Part("vitals", every.total_seconds(), self._vitals),
            _Part("counts", every.total_seconds(), self._counts),
        ]

    def close(self) -> None:
        """Closes the connection; it is made again if need be."""
        self._client.close()

    def describe(self) -> Iterable[Family]:
        """What `collect` gives, without a look."""
        return families(catalog.DATABASE, Tallies())

    def collect(self) -> Iterable[Family]:
        """The gauges, in any thread; looks at the database if it is time to. Raises nothing."""
        total = Tallies()
        with self._lock:  # of two scrapers at once, one looks
            for part in self._parts:
                part.look_if_due()
                part.add_to(total)
        return families(catalog.DATABASE, total)

    def _run(self, statement: Any) -> Any:  # noqa: ANN401 - a Statement, and what it reads
        driver = self._client.driver
        with driver.transaction() as conn:
            milliseconds = int(self._deadline.total_seconds() * 1000)
            conn.execute(
                "select set_config('statement_timeout', %s, true), "
                "set_config('default_transaction_read_only', 'on', true)",
                (str(max(1, milliseconds)),),
            )
            return driver.execute(statement, conn)

    def _vitals(self) -> Tallies:
        seen: Vitals = self._run(vitals(self._client.statements.quoted))
        made, queues = Tallies(), Labels(self._most_queues)
        waits = seen.of("oldest_wait")
        # The longest first, so that it is the others that share a label, with the longest of them.
        for queue in sorted(waits, key=lambda queue: -waits[queue]):
            key = (catalog.OLDEST.name, (queues(queue),))
            made.gauges[key] = max(made.gauges.get(key, 0.0), waits[queue])
        for queue, workers in seen.of("workers").items():
            if queue:
                made.gauge(catalog.QUEUE_WORKERS, queues(queue), value=workers)
        for metric, name in (
            (catalog.UPKEEP_LAG, "upkeep_lag"),
            (catalog.SCHEDULE_LAG, "schedule_lag"),
            (catalog.HORIZON, "horizon_age"),
            (catalog.HORIZON_XIDS, "horizon_xids"),
            (catalog.WORKERS, "workers"),
        ):
            made.gauge(metric, value=seen.one(name))
        for metric, name in ((catalog.DEAD_ROWS, "dead_rows"), (catalog.LIVE_ROWS, "live_rows")):
            for table, rows in seen.of(name).items():
                made.gauge(metric, table, value=rows)
        return made

    def _counts(self) -> Tallies:
        stats: list[QueueStats] = self._run(self._client.statements.stats())
        made, queues = Tallies(), Labels(self._most_queues)
        now = datetime.now(timezone.utc)
        for queue in sorted(stats, key=lambda s: -(s.ready + s.scheduled + s.claimed + s.dead)):
            label = queues(queue.queue)
            for state in ("ready", "scheduled", "claimed", "dead"):
                made.gauge(catalog.JOBS, label, state, value=getattr(queue, state))
            paused = queue.paused_until is not None and queue.paused_until > now
            key = (catalog.PAUSED.name, (label,))
            made.gauges[key] = max(made.gauges.get(key, 0.0), float(paused))
        return made


class _Part:
    """One of the looks: when it is due, and what it saw."""

    def __init__(self, name: str, every: float, look: Callable[[], Tallies]) -> None:
        self._name = name
        self._every = every
        self._look = look
        self._seen: Tallies | None = None
        self._due = self._looked_at = 0.0
        self._took = 0.0

    def look_if_due(self) -> None:
        """Looks, or leaves it."""
        began = time.monotonic()
        if self._due and began < self._due:
            return
        try:
            self._seen = self._look()
        except (psycopg.Error, SchemaError) as error:
            self._seen = None
            logger.warning("cannot look at the %s: %s", self._name, first_line(error))
        self._looked_at = time.monotonic()
        self._took = self._looked_at - began
        self._due = self._looked_at + min(max(self._every, SHARE * self._took), LONGEST)

    def add_to(self, total: Tallies) -> None:
        """Adds what was seen, and how the look went."""
        if self._seen is not None:
            total.gauges.update(self._seen.gauges)
        total.gauge(catalog.SAMPLE_SUCCESS, self._name, value=float(self._seen is not None))
        total.gauge(catalog.SAMPLE_DURATION, self._name, value=self._took)
        age = time.monotonic() - self._looked_at
        total.gauge(catalog.SAMPLE_AGE, self._name, value=age)
