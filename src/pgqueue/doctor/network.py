"""Checks of what lies between this process and the server."""

from __future__ import annotations

import time
from datetime import timedelta

from pgqueue.doctor.findings import Sign, critical, notice, ok, warning
from pgqueue.doctor.patient import BELL_TIMEOUT, Patient
from pgqueue.words import span

_CLOCK = "select extract(epoch from @extschema@.clock())::float8"
_USAGE = "select pg_notification_queue_usage()::float8"
_MUCH = 60
"""Times the limit of skew that make it a warning."""
_FULL = 5
"""Times the limit of the queue of notifications that make it critical."""


async def doorbell(patient: Patient) -> list[Sign]:
    """Whether notifications get through, and what kind of pooler keeps them."""
    # A pooler gives its client a number of its own: the server's process changes.
    pooler = patient.conn.info.backend_pid != patient.pid
    where = "through a pooler" if pooler else "without a pooler"
    if patient.standby:
        return [notice(f"not tried, {where}: a standby sends no notifications")]
    seconds = await patient.ring()
    if seconds is not None:
        mode = ", in session mode" if pooler else ""
        heard = span(timedelta(seconds=seconds))
        return [ok(f"{where}{mode}: a notification was heard after {heard}")]
    if pooler:
        return [
            notice(
                f"{where} in transaction mode: LISTEN does not get through, so workers find jobs "
                "by polling",
                "Worker(poll_interval=...) is the delay; or give workers a DSN past the pooler. "
                "Client(prepare=False), unless it is PgBouncer 1.21 or newer with "
                "max_prepared_statements",
            )
        ]
    return [
        warning(
            f"{where}: a notification was not heard within {BELL_TIMEOUT:g}s",
            "workers find jobs by polling; a proxy that hides itself, or a full queue of "
            "notifications, may be the cause",
        )
    ]


async def notifications(patient: Patient) -> list[Sign]:
    """Whether the server's queue of notifications fills up."""
    share = (await patient.ask(_USAGE))[0][0]
    seen = f"the queue of notifications is {share:.3g} full" if share else "the queue is empty"
    limit = patient.limits.notifications_share
    if share < limit:
        return [ok(seen)]
    advice = (
        "a session that listens has been in a transaction for long; when the queue is full, "
        "enqueues fail: select pid, xact_start, query from pg_stat_activity where state = "
        "'idle in transaction' order by xact_start"
    )
    return [(critical if share >= _FULL * limit else warning)(seen, advice)]


async def clock(patient: Patient) -> list[Sign]:
    """Whether this machine's clock and the database's agree, as far as the round trip tells."""
    before = time.time()
    there = (await patient.ask(_CLOCK))[0][0]
    after = time.time()
    doubt = (after - before) / 2
    skew = (before + after) / 2 - there
    certain = timedelta(seconds=max(0.0, abs(skew) - doubt))
    if certain < patient.limits.skew:
        return [ok(f"within {span(timedelta(seconds=max(abs(skew), doubt)))} of the database's")]
    way = "ahead of" if skew > 0 else "behind"
    seen = f"this machine's clock is {span(certain)} {way} the database's, which decides"
    advice = "set it by NTP; with delay= instead of run_at= nothing depends on it"
    if certain >= _MUCH * patient.limits.skew:
        return [warning(seen, advice)]
    return [notice(seen, advice)]
