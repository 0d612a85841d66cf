"""A queue in which something of everything happened, with markup in every column that takes any."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from typing import NoReturn

import attrs
import psycopg

from pgqueue import Client, Schedule

BAD = "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>"
"""Runs if it becomes markup."""
HOUR = timedelta(hours=1)


class SMTPServerDisconnected(Exception):
    """An error of a library's."""


@attrs.frozen
class Scene:
    """The ids of jobs to look at."""

    dead: int
    waiting: int
    scheduled: int
    running: int
    succeeded: int
    nasty: int


def build(client: Client) -> Scene:
    """Makes it."""
    dead = _dead(client)
    done = client.enqueue("report.render", {"month": "2026-10", "pages": 48}, queue="reports").id
    client.ack(client.claim("reports", worker="web-2:991"), results=[{"bytes": 91822}])
    client.enqueue_many([("report.render", {"n": n}) for n in range(14)], queue="reports")
    client.ack(client.claim("reports", limit=14, worker="web-2:991"))
    running = client.enqueue("media.import", {"account": "a-17"}, queue="imports").id
    client.enqueue_many(
        [("media.import", {"account": f"a-{n}"}) for n in range(5)], queue="imports"
    )
    client.claim("imports", limit=4, lease=timedelta(minutes=10), worker="web-2:991")
    waiting = client.enqueue("email.send", {"to": "ada@example.org"}, queue="newsletter").id
    client.enqueue_many([("email.send", {"to": n}) for n in range(1203)], queue="newsletter")
    scheduled = client.enqueue(
        "invoice.remind", {"invoice": 4711, "level": 2, "draft": False, "note": None},
        queue="billing", delay=timedelta(hours=5), tags=["eu", "monthly"], ref="invoice:4711",
        dedupe_key="invoice:4711:2", metadata={"trace": "4bf92f35"},
    ).id  # fmt: skip
    nasty = client.enqueue(
        "web.ping", {"text": BAD, BAD: 1}, queue="mail", tags=[BAD], ref=BAD, metadata={BAD: BAD},
        dedupe_key=BAD, max_attempts=3,
    ).id  # fmt: skip
    client.fail(client.claim("mail", worker=BAD), BAD, retry_in=HOUR)
    client.pause("newsletter", reason=f"the provider is down {BAD}")
    client.pause("billing", until=datetime.now(timezone.utc) + HOUR, reason="month-end close")
    _schedules(client)
    _minutes(client)
    _workers(client)
    client.operations.record("purge", queue="mail", detail={"reason": BAD}, actor=BAD, affected=3)
    return Scene(dead, waiting, scheduled, running, done, nasty)


def _send() -> NoReturn:
    raise SMTPServerDisconnected("Connection unexpectedly closed")


def _error() -> SMTPServerDisconnected:
    """One with a traceback."""
    try:
        _send()
    except SMTPServerDisconnected as error:
        return error


def _dead(client: Client) -> int:
    ids = [
        client.enqueue(
            "email.send", {"to": f"user{n}@example.org", "template": "welcome"}, queue="mail-out",
            max_attempts=2, ref=f"user:{n}",
        ).id
        for n in range(9)
    ]  # fmt: skip
    for _ in range(2):
        for job in client.claim("mail-out", limit=9, worker="web-1:4127"):
            client.fail(job, _error(), retry_in=timedelta(0))
        client.maintain()
    return ids[0]


def _schedules(client: Client) -> None:
    put = client.schedules.put
    put(Schedule("report.nightly", "report.render", {"all": True}, cron="30 3 * * *",
                 timezone="Europe/Berlin", queue="reports"))  # fmt: skip
    put(Schedule("imports.poll", "media.import", every=timedelta(minutes=15), queue="imports"))
    put(Schedule("invoices.close", "invoice.close", {"text": BAD}, cron="0 6 1 * *", ref=BAD,
                 queue="billing", tags=[BAD], enabled=False))  # fmt: skip
    client.schedules.run_now("report.nightly")


def _minutes(client: Client) -> None:
    """Figures of the last day, as the upkeep would have stored them."""
    now = datetime.now(timezone.utc).replace(second=0, microsecond=0)
    rows = []
    for back in range(1, 24 * 60):
        wave = 1 + math.sin(back / 90) * 0.5 + math.sin(back / 7) * 0.2
        for queue, size in (("mail-out", 90), ("reports", 20), ("imports", 45)):
            count = max(int(size * wave), 0)
            failed = count // 9 if queue == "mail-out" and back < 25 else count // 60
            waits = [0] * 46 + [count // 3, count // 2, count // 8, 1 + failed]
            runs = [0] * 50 + [count // 2, count // 3, 2]
            rows.append(
                (now - timedelta(minutes=back), queue, count, count, count, failed,
                 failed // 4, waits, runs, int(size * wave * 3))
            )  # fmt: skip
    with psycopg.connect(client.dsn) as conn, conn.cursor() as cursor:
        cursor.executemany(
            "insert into pgqueue.minute (minute, queue, enqueued, started, succeeded, failed, "
            "dead, waits, runs, ready, scheduled, claimed, oldest_wait) values "
            "(%s, %s, %s, %s, %s, %s, %s, %s::bigint[], %s::bigint[], %s, 0, 2, '4 s') "
            "on conflict (minute, queue, source) do update set succeeded = excluded.succeeded",
            rows,
        )


def _workers(client: Client) -> None:
    """Two that live, one of which runs something, and one that is silent."""
    with psycopg.connect(client.dsn) as conn, conn.cursor() as cursor:
        cursor.executemany(
            "insert into pgqueue.worker (id, host, pid, version, started_at, beat_at, queues, "
            "kinds, concurrency, running) values (%s, %s, %s, '0.1.0', now() - "
            "interval '3 hours', now() - %s::interval, %s::text[], %s::text[], %s, %s)",
            [
                ("web-2:991", "web-2", 991, "2 s", ["imports", "reports", "mail"],
                 ["media.import", "report.render", "web.ping"], 10, 4),
                ("web-3:1044", "web-3", 1044, "6 s", ["newsletter", "billing"],
                 ["email.send", "invoice.remind"], 20, 0),
                (BAD, BAD, 7, "20 minutes", ["mail-out", BAD], ["email.send", BAD], 20, 20),
            ],
        )  # fmt: skip
