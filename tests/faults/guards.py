"""The checks behind the queue's guards, each of which fails once its guard is taken out.

They hold on the schema as it is (`test_mutations.py` runs them on that, too), and force what a race
would need luck for: by a transaction that stays open, a row that is held, a plan that is imposed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
from tests.faults.harness.waiting import until
from tests.faults.scenarios.zombies import (
    claim_again,
    enqueue_and_let_expire,
    try_every_end,
)

from pgqueue import Client

if TYPE_CHECKING:
    from typing_extensions import LiteralString

Connection = psycopg.Connection[tuple[Any, ...]]

_OTHERS = (
    "hashjoin", "mergejoin", "material", "memoize", "hashagg", "sort", "incremental_sort",
    "tidscan",
)  # fmt: skip
PLANS: Sequence[Mapping[str, str]] = (
    {},
    {"enable_hashjoin": "off"},
    {"enable_mergejoin": "off"},
    {"enable_hashjoin": "off", "enable_mergejoin": "off"},
    {f"enable_{name}": "off" for name in _OTHERS},
)
"""Settings of a caller's by which the planner joins in another way. The last ones leave it nothing
but nested loops that run their inner side anew for each row."""


@contextmanager
def connected(dsn: str, settings: Mapping[str, str] | None = None) -> Iterator[Connection]:
    """A connection in autocommit mode."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        for name, value in (settings or {}).items():
            conn.execute("select set_config(%s, %s, false)", (name, value))
        yield conn


@contextmanager
def meanwhile(call: Callable[[], Any]) -> Iterator[Future[Any]]:
    """Runs `call` on a thread during the block."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(call)


def blocked(watch: Connection, conn: Connection) -> bool:
    """Whether a statement of `conn` waits for somebody else's transaction."""
    pid = conn.info.backend_pid
    return bool(watch.execute("select pg_blocking_pids(%s) <> '{}'", (pid,)).fetchall()[0][0])


def _fetch(conn: Connection, query: LiteralString) -> list[tuple[Any, ...]]:
    return conn.execute(query).fetchall()


def emptied(dsn: str) -> str:
    """The same database without a job."""
    with connected(dsn) as conn:
        conn.execute("truncate pgqueue.job, pgqueue.archive, pgqueue.lane")
    return dsn


def check_fencing(dsn: str) -> None:
    """What a stale claim says changes nothing, while its job runs again."""
    with Client(emptied(dsn)) as client:
        stale = enqueue_and_let_expire(client, 4)
        claim_again(client, 4)
        outcome = try_every_end(client, stale, [1, 3])
    assert outcome.tried > 0
    assert (outcome.accepted, outcome.changed) == (0, 0)


CLAIM = "select id, token from pgqueue.claim(count => 1, floors => array_fill(0::bigint, '{10}'))"


def check_claims_are_apart(dsn: str) -> None:
    """A claim that looks while another one's transaction is open takes none of its jobs."""
    with Client(emptied(dsn)) as client:
        client.enqueue("k")
    with connected(dsn) as first, connected(dsn) as second, connected(dsn) as watch:
        first.execute("begin")
        ((job, token),) = first.execute(CLAIM).fetchall()
        with meanwhile(partial(_fetch, second, CLAIM)) as claimed:
            until(lambda: claimed.done() or blocked(watch, second), "the second claim has looked")
            first.execute("commit")
            assert claimed.result(30) == []
        row = watch.execute("select id, token, attempt from pgqueue.job").fetchall()
        assert row == [(job, token, 1)]


def check_claim_takes_no_more(dsn: str) -> None:
    """As many as were asked for, whatever the plan."""
    for plan in PLANS:
        with Client(emptied(dsn)) as client:
            client.enqueue_many([("k", None)] * 20)
        with connected(dsn, plan) as conn:
            got = conn.execute("select from pgqueue.claim(count => 3)").fetchall()
            held = conn.execute("select from pgqueue.job where lease_until is not null").fetchall()
        assert (len(got), len(held)) == (3, 3), plan


JOBS = 12
BULK: Mapping[str, str] = {
    "ack": "select pgqueue.ack(%(ids)s, %(tokens)s)",
    "fail": "select pgqueue.fail(%(ids)s, %(tokens)s)",
    "extend": "select * from pgqueue.extend(%(ids)s, %(tokens)s, '1 min')",
}


def check_lock_order(end: str, dsn: str) -> None:
    """A bulk call that waits for its lowest id holds no other row, whatever the order and plan."""
    for plan in PLANS:
        with Client(emptied(dsn)) as client:
            client.enqueue_many([("k", None)] * JOBS)
            jobs = sorted(client.claim(limit=JOBS), key=lambda job: -job.id)
        given = {"ids": [job.id for job in jobs], "tokens": [job.token for job in jobs]}
        with connected(dsn) as holder, connected(dsn, plan) as caller, connected(dsn) as watch:
            holder.execute("begin")
            holder.execute("select from pgqueue.job order by id limit 1 for update")
            with meanwhile(partial(caller.execute, BULK[end], given)) as call:
                until(partial(blocked, watch, caller), "the call waits for the row")
                free = watch.execute("select from pgqueue.job for update skip locked").fetchall()
                holder.execute("rollback")
                call.result(30)
        assert len(free) == JOBS - 1, plan


ONCE = "select id, duplicate from pgqueue.enqueue('k', dedupe_key => 'x')"


def check_dedupe(dsn: str) -> None:
    """Of two enqueues of a key at once the second is a duplicate, unless the first rolls back."""
    for ending in ("commit", "rollback"):
        emptied(dsn)
        with connected(dsn) as first, connected(dsn) as second, connected(dsn) as watch:
            first.execute("begin")
            ((job, _),) = first.execute(ONCE).fetchall()
            with meanwhile(partial(_fetch, second, ONCE)) as enqueued:
                until(lambda: enqueued.done() or blocked(watch, second), "the second has looked")
                first.execute(ending)
                ((other, duplicate),) = enqueued.result(30)
            stored = watch.execute("select id from pgqueue.job").fetchall()
        assert stored == [(other,)], ending
        assert duplicate is (other == job) is (ending == "commit")
